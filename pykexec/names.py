"""The architectures' names in Linux and its neighbours: complete tables for all that have kexec or dumps.

Inside the project an architecture has one name, that of its folder below arch/. Names from uname, ELF, PE,
EFI and U-Boot are turned into that name here, at the border, and nowhere else.
"""

from __future__ import annotations

from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    ByteOrder = Literal["little", "big"]


@dataclass(frozen=True, slots=True)
class Elf:
    """The ELF properties of an architecture's kernels, core files and dumps."""

    machine: int
    """EM_* (include/uapi/linux/elf-em.h); kexec_load(2) takes it in the high half of its flags, too."""
    bits: int
    """The width of an address and of a long: 32 or 64."""
    order: ByteOrder | None
    """The byte order; None where kernels of both orders have the same name."""


USUAL_FILE = "vmlinuz"
"""How the names of kernels in /boot begin on nearly all architectures."""


@dataclass(frozen=True, slots=True)
class ArchNames:
    """All names of one architecture."""

    name: str
    """Our name: that of its folder."""
    uname: str
    """The words that `uname -m` prints; a * stands for any characters."""
    elf: Elf
    kexec_load: int | None = None
    """The system call's number for a process of the kernel's own word size
    (arch/*/kernel/syscalls/syscall*.tbl, scripts/syscall.tbl); None where there is no kexec."""
    kexec_file_load: int | None = None
    """The number of this system call; None where no kernel of this architecture has it."""
    pe: tuple[int, ...] = ()
    """IMAGE_FILE_MACHINE_* (PE format, "Machine types")."""
    efi: str = ""
    """UEFI's name in lower case, as in BOOTX64.EFI (UEFI 2.10, 3.5.1.1)."""
    u_boot: int | None = None
    """IH_ARCH_* (U-Boot, include/image.h)."""
    long_long_alignment: int = 8
    """Bytes to which the ABI aligns a 64-bit number in a structure."""
    compat: str = ""
    """Our name of the architecture whose programs kernels of this one run, too (CONFIG_COMPAT)."""
    kdumpfile: str = ""
    """libkdumpfile's name (KDUMP_ARCH_*), where it is none of uname's."""
    file: str = USUAL_FILE
    """How the names of kernels in /boot begin."""
    request_key: int | None = None
    """The number of this system call, and one less than keyctl's; None where no kernel of this architecture
    has CONFIG_CRASH_DM_CRYPT, or its programs do not load one that has."""

    @property
    def usual_uname(self) -> str:
        """One of the words that `uname -m` prints, for machines that are known by other facts only."""
        return self.uname.split()[0].replace("*", "7")

    @property
    def kexec_flag(self) -> int:
        """The high half of kexec_load's flags: for whom the segments are (include/uapi/linux/kexec.h)."""
        return self.elf.machine << 16


ALL = (
    ArchNames(
        "x86_64",
        "x86_64 amd64",
        Elf(62, 64, "little"),
        246,
        320,
        (0x8664,),
        "x64",
        24,
        compat="i386",
        request_key=249,
    ),
    ArchNames(
        "i386",
        "i386 i486 i586 i686",
        Elf(3, 32, "little"),
        283,
        None,
        (0x14C,),
        "ia32",
        3,
        long_long_alignment=4,
        kdumpfile="ia32",
    ),
    ArchNames(
        "arm64",
        "aarch64 arm64",
        Elf(183, 64, "little"),
        104,
        294,
        (0xAA64,),
        "aa64",
        22,
        compat="arm",
        request_key=218,
    ),
    ArchNames("arm64be", "aarch64_be", Elf(183, 64, "big"), 104, 294, compat="armbe"),
    ArchNames("arm", "arm armv*l", Elf(40, 32, "little"), 347, None, (0x1C2, 0x1C0, 0x1C4), "arm", 2),
    ArchNames("armbe", "armv*b", Elf(40, 32, "big"), 347),
    ArchNames(
        "riscv64", "riscv64", Elf(243, 64, "little"), 104, 294, (0x5064,), "riscv64", 26, compat="riscv32"
    ),
    ArchNames("riscv32", "riscv32", Elf(243, 32, "little"), 104, None, (0x5032,), "riscv32", 26),
    ArchNames("loongarch64", "loongarch64", Elf(258, 64, "little"), 104, 294, (0x6264,), "loongarch64", 27),
    ArchNames(
        "loongarch32", "loongarch32", Elf(258, 32, "little"), None, None, (0x6232,), "loongarch32", 27
    ),
    ArchNames(
        "ppc64le", "ppc64le", Elf(21, 64, "little"), 268, 382, u_boot=7, file="vmlinux", request_key=270
    ),
    ArchNames(
        "ppc64",
        "ppc64",
        Elf(21, 64, "big"),
        268,
        382,
        u_boot=7,
        compat="ppc",
        file="vmlinux",
        request_key=270,
    ),
    ArchNames("ppc", "ppc", Elf(20, 32, "big"), 268, u_boot=7, file="vmlinux"),
    ArchNames("s390x", "s390x", Elf(22, 64, "big"), 277, 381, u_boot=8),
    ArchNames(
        "sheb",
        "sheb sh2eb sh2aeb sh3eb sh4eb sh4aeb sh4al-dspeb",
        Elf(42, 32, "big"),
        283,
        u_boot=9,
        long_long_alignment=4,
    ),
    ArchNames(
        "sh",
        "sh sh2 sh2a sh3 sh4 sh4a sh4al-dsp sh5",
        Elf(42, 32, "little"),
        283,
        u_boot=9,
        long_long_alignment=4,
    ),
    ArchNames("mips", "mips", Elf(8, 32, None), 4311, u_boot=5),
    ArchNames("mips64", "mips64", Elf(8, 64, None), 5270, u_boot=6, compat="mips"),
    ArchNames("parisc", "parisc", Elf(15, 32, "big"), 300, 355),
    ArchNames("parisc64", "parisc64", Elf(15, 64, "big"), 300, 355, compat="parisc"),
    ArchNames("m68k", "m68k", Elf(4, 32, "big"), 313, u_boot=12, long_long_alignment=2),
    ArchNames("ia64", "ia64", Elf(50, 64, "little"), 1268, None, (0x200,), "ia64", 4),
    ArchNames("alpha", "alpha", Elf(0x9026, 64, "little"), u_boot=1),
    ArchNames("sparc64", "sparc64", Elf(43, 64, "big"), u_boot=11, compat="sparc"),
    ArchNames("sparc", "sparc", Elf(2, 32, "big"), u_boot=10),
    ArchNames("arc", "arc", Elf(195, 32, "little"), u_boot=23, long_long_alignment=4),
    ArchNames("xtensa", "xtensa", Elf(94, 32, None), u_boot=25),
    ArchNames("openrisc", "openrisc", Elf(92, 32, "big"), u_boot=21, long_long_alignment=4),
    ArchNames("microblaze", "microblaze", Elf(189, 32, None), u_boot=14, long_long_alignment=4),
    ArchNames("nios2", "nios2", Elf(113, 32, "little"), u_boot=15, long_long_alignment=4),
    ArchNames("csky", "csky", Elf(252, 32, "little"), long_long_alignment=4),
    ArchNames("hexagon", "hexagon", Elf(164, 32, "little")),
)
"""One row for each architecture. Where several rows fit a name from outside, the first is meant."""


def named(name: str) -> ArchNames:
    """Return the row with our name `name`. Raises KeyError where there is none."""
    for each in ALL:
        if each.name == name:
            return each
    raise KeyError(name)


def of_uname(machine: str) -> ArchNames | None:
    """Return the row for what `uname -m` prints; None where Linux has neither kexec nor dumps."""
    return next((each for each in ALL if any(_is_like(machine, word) for word in each.uname.split())), None)


def name_of_uname(machine: str) -> str:
    """Return our name for what `uname -m` prints; that text itself where it has no row."""
    row = of_uname(machine)
    return machine if row is None else row.name


def _is_like(text: str, pattern: str) -> bool:
    # Without `re`, which takes longer to import than a load may take to find its architecture.
    before, star, after = pattern.partition("*")
    if not star:
        return text == pattern
    return text.startswith(before) and text.endswith(after) and len(text) >= len(before + after)


def of_elf(machine: int, bits: int, order: ByteOrder) -> ArchNames | None:
    """Return the row for an ELF file's e_machine, class and byte order.

    The dump of a 32-bit machine with much memory has class 64. So where no row has that class, e_machine and
    byte order decide.
    """
    found = [each for each in ALL if each.elf.machine == machine and each.elf.order in (order, None)]
    return next((each for each in found if each.elf.bits == bits), next(iter(found), None))


def of_kdumpfile(name: str, bits: int, order: ByteOrder) -> ArchNames | None:
    """Return the row for libkdumpfile's name, which covers both byte orders and at times both word sizes."""
    row = next((each for each in ALL if each.kdumpfile == name), None) or of_uname(name)
    return row and (of_elf(row.elf.machine, bits, order) or row)


def of_either_order(name: str) -> tuple[ArchNames, ...]:
    """Return the row with our name `name`, then those that differ from it only in byte order."""
    own = [each for each in ALL if each.name == name]
    return *own, *(each for each in ALL for row in own if each != row and _is_alike(each.elf, row.elf))


def _is_alike(one: Elf, other: Elf) -> bool:
    return (one.machine, one.bits) == (other.machine, other.bits)


def of_pe(machine: int) -> ArchNames | None:
    """Return the row for a PE file's machine type."""
    return next((each for each in ALL if machine in each.pe), None)


def of_u_boot(number: int) -> tuple[ArchNames, ...]:
    """Return the rows for the architecture in a uImage header, which may leave word size and order open."""
    return tuple(each for each in ALL if each.u_boot == number)
