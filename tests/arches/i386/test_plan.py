"""Plans for i386 machines, checked against what the machines say of themselves."""

import dataclasses
import io
import struct
import tarfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.errors import ImageError, MachineError, PlacementError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.loader import load_request, plan, plan_load
from pykexec.machine import Machine
from pykexec.memory import Range
from pykexec.plan import FileLoadPlan, LoadPlan, Purpose, Request
from tests.support import brute_force, real_machines
from tests.support.bzimage import FakeBzImage
from tests.support.elf import kcore
from tests.support.machines import FOLDER, I386_SNAPSHOTS, snapshot, unpacked
from tests.support.odd_machines import CODE, CRASH, GIB, KIB, LOW, MIB, RAM, OddMachine, line
from tests.support.program import Load, Program, multiboot1

PLAIN = "qemu-i386-6.1-1g"
_OF_DEBIAN = FakeBzImage(xloadflags=4, kernel_alignment=0x1000000, init_size=0x1135000)
"""The fields of Debian's 6.1 for 686-pae."""
KERNEL = FileData.from_bytes("vmlinuz", _OF_DEBIAN.build())
INITRD = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" * 15000)


def request(purpose: Purpose, **changes: object) -> Request:
    plain = Request(KERNEL, purpose=purpose, initrd=INITRD, append="console=ttyS0", seed=bytes(64))
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def header(plan: LoadPlan, offset: int, layout: str = "<I") -> int:
    """A field of boot_params, by boot.rst's offsets."""
    (value,) = struct.unpack_from(layout, plan.segment("boot_params").data, offset)
    return int(value)


@pytest.mark.parametrize("name", I386_SNAPSHOTS)
@pytest.mark.parametrize("purpose", Purpose)
def test_what_the_kernel_is_given(name: str, purpose: Purpose) -> None:
    machine = real_machines.read(FOLDER / f"{name}.tar")
    plan = plan_load(snapshot(name), request(purpose))
    brute_force.check(machine, plan)
    # KEXEC_ARCH_386 (include/uapi/linux/kexec.h)
    assert plan.flags == 3 << 16 | (purpose is Purpose.CRASH)
    assert "32-bit entry" in plan.image_format
    kernel, initrd = plan.segment("kernel"), plan.segment("initrd")
    assert (header(plan, 0x218), header(plan, 0x21C)) == (initrd.address, INITRD.size)
    assert header(plan, 0x228) == plan.segment("boot_params").address + 0x1000
    assert kernel.address % _OF_DEBIAN.kernel_alignment == 0
    assert kernel.range.end <= machine.mapped_end, "a kernel of 32 bits runs in lowmem"
    assert initrd.range.end <= _OF_DEBIAN.initrd_addr_max + 1
    assert plan.segments[-1].range.end <= 1 << 32


def elf_of(plan: LoadPlan) -> ELFFile:
    return ELFFile(io.BytesIO(plan.segment("elfcorehdr").data))


def pae(*, below: int = 3 * GIB, above: int = 3 * GIB, lowmem: int = 0x36FFE000) -> OddMachine:
    """Much memory; that above 4 GiB is there with PAE only."""
    lines = [*LOW, line(MIB, below - MIB, RAM), CODE, line(256 * MIB, 256 * MIB, CRASH, 1)]
    lines += [line(4 * GIB, above, RAM)] if above else []
    return OddMachine(lines, arch="i686", linear_base=0xC0000000, text=None, mapped_end=lowmem)


@pytest.mark.parametrize(
    ("machine", "asked", "bits"),
    [
        (pae(above=0), None, 32),
        (pae(above=0), 64, 64),
        (pae(above=0), 32, 32),
        (pae(), None, 64),
        (pae(above=4 * KIB), 64, 64),
    ],
)
def test_core_headers_are_of_the_class_that_memory_takes(
    machine: OddMachine, asked: int | None, bits: int
) -> None:
    """kexec-tools' crashdump-x86.c: 64 bits where a range ends beyond 4 GiB, unless told otherwise."""
    plan = plan_load(machine.machine(), request(Purpose.CRASH, core_header_bits=asked))
    brute_force.check(machine, plan)
    elf = elf_of(plan)
    assert (elf.elfclass, elf["e_machine"], elf["e_type"]) == (bits, "EM_386", "ET_CORE")


def test_core_headers_of_32_bits_do_not_cut_addresses() -> None:
    with pytest.raises(MachineError, match="core headers of 32 bits cannot describe"):
        plan_load(pae().machine(), request(Purpose.CRASH, core_header_bits=32))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(0xC0000000, 0x36FFE000), (0xC0000000, 0x30000000), (0x78000000, 2 * GIB)]),
    st.integers(640 * MIB // 4096, 4 * GIB // 4096).map(lambda pages: pages * 4096),
    st.sampled_from([0, 4 * KIB, GIB, 60 * GIB]),
    st.sampled_from(Purpose),
)
def test_memory_is_split_where_lowmem_ends(
    layout: tuple[int, int], below: int, above: int, purpose: Purpose
) -> None:
    base, lowmem = layout
    machine = pae(below=below, above=above, lowmem=min(lowmem, below))
    machine = dataclasses.replace(machine, linear_base=base)
    brute_force.check(machine, plan_load(machine.machine(), request(purpose)))


def old_kcore(machine: OddMachine) -> Machine:
    """As of old kernels: no physical addresses in it, and no VMCOREINFO."""
    mappings = [(machine.linear_base, 0, machine.mapped_end), (0xF7800000, 0, 64 * MIB)]
    more = {"proc/kcore": kcore(mappings, bits=32, machine=3)}
    return dataclasses.replace(machine, more=more).machine()


@pytest.mark.parametrize("base", [0xC0000000, 0xB0000000, 0x78000000])
def test_kernels_whose_kcore_tells_no_physical_addresses(base: int) -> None:
    """The bases of arch/x86/Kconfig's VMSPLIT_3G, VMSPLIT_3G_OPT and VMSPLIT_2G_OPT."""
    machine = dataclasses.replace(pae(above=0), linear_base=base)
    brute_force.check(machine, plan_load(old_kcore(machine), request(Purpose.CRASH)))


def vmlinux(bits: int, machine: int) -> FileData:
    banner = b"\0Linux version 6.1.0-50-686 (x@y) #1\n\0"
    return FileData.from_bytes("vmlinux", Program([Load(16 * MIB, banner)], 16 * MIB, bits, machine).build())


def multiboot() -> FileData:
    data = multiboot1() + bytes(100)
    return FileData.from_bytes("mbi", Program([Load(16 * MIB, data)], 16 * MIB, 32, 3).build())


@pytest.mark.parametrize(
    ("kernel", "told"),
    [
        (KERNEL, "bzImage, boot protocol 2.15, 32-bit entry"),
        # A 64-bit kernel can be booted: its 32-bit entry goes to long mode by itself.
        (FileData.from_bytes("k", FakeBzImage().build()), "bzImage, boot protocol 2.15, 32-bit entry"),
        (vmlinux(32, 3), "vmlinux, Linux 6.1.0-50-686, 32-bit entry"),
        (multiboot(), "Multiboot version 1"),
    ],
)
def test_formats(kernel: FileData, told: str) -> None:
    is_linux = not told.startswith("Multiboot")
    asked = request(Purpose.BOOT, kernel=kernel, initrd=INITRD if is_linux else None)
    assert plan_load(snapshot(PLAIN), asked).image_format == told


def test_real_mode() -> None:
    plan = plan_load(snapshot(PLAIN), request(Purpose.BOOT, real_mode=True))
    assert "16-bit entry" in plan.image_format
    setup, purgatory = plan.segment("setup"), plan.segment("purgatory")
    assert setup.range.end <= 640 * KIB
    assert purgatory.range.end <= 640 * KIB


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"kernel": vmlinux(64, 62)},
            ImageError,
            "a vmlinux for x86_64, which only a 64-bit kernel can enter\n.*take the vmlinuz",
        ),
        ({"format": "bzImage64"}, UsageError, "Unsupported kernel type bzImage64"),
        ({"device_tree": KERNEL}, UsageError, "which i386 does not"),
        ({"within": Range(0, 2 * MIB)}, PlacementError, "free area"),
    ],
)
def test_what_cannot_be_is_refused(
    changes: dict[str, object], error: type[PykexecError], message: str
) -> None:
    with pytest.raises(error, match=message):
        plan_load(snapshot(PLAIN), request(Purpose.BOOT, **changes))


def test_a_64_bit_kernel_dumps_nothing() -> None:
    kernel = FileData.from_bytes("k", FakeBzImage().build())
    warnings = plan_load(snapshot(PLAIN), request(Purpose.CRASH, kernel=kernel)).warnings
    assert any("k is a 64-bit kernel, which reads no core headers of a 32-bit one" in w for w in warnings)
    assert not any("64-bit" in w for w in plan_load(snapshot(PLAIN), request(Purpose.CRASH)).warnings)


@pytest.mark.parametrize("purpose", Purpose)
def test_there_is_one_system_call(purpose: Purpose) -> None:
    """No i386 kernel has the other (arch/x86/Kconfig: ARCH_SUPPORTS_KEXEC_FILE is X86_64)."""
    machine = snapshot(PLAIN)
    found = plan(machine, request(purpose))
    assert not isinstance(found, FileLoadPlan)
    assert found.tried_first is None
    for ask in (plan, load_request):
        with pytest.raises(PykexecError, match="syscall kexec_file_load not available") as caught:
            ask(machine, request(purpose), "file")
        assert caught.value.exit_code == 253
        assert "no kernel for i386 has it" in (caught.value.hint or "")


def test_efi_is_not_handed_over(tmp_path: Path) -> None:
    """A 64-bit kernel would take it: but what a 32-bit one leaves is of another kind."""
    efi = {
        "fw_vendor": "0x1\n", "runtime": "0x2\n", "config_table": "0x3\n",
        "systab": "ACPI20=0x1234000\n", "fw_platform_size": "32\n",
        **{f"runtime-map/0/{name}": "0x5\n" for name in ("type", "attribute", "num_pages")},
        **{f"runtime-map/0/{name}": "0x5000\n" for name in ("phys_addr", "virt_addr")},
    }  # fmt: skip
    data = bytearray(_file("sys/kernel/boot_params/data"))
    struct.pack_into("<8I", data, 0x1C0, 0x32334C45, 0x1000, 40, 1, 0x2000, 40, 0, 0)
    files: dict[str, str | bytes | None] = {f"sys/firmware/efi/{name}": text for name, text in efi.items()}
    machine = unpacked(PLAIN, tmp_path, {**files, "sys/kernel/boot_params/data": bytes(data)})
    kernel = FileData.from_bytes("k", FakeBzImage().build())
    made = plan_load(machine, request(Purpose.BOOT, kernel=kernel))
    assert bytes(made.segment("boot_params").data)[0x1C0:0x1E0] == bytes(32)
    assert any("no EFI runtime services" in each for each in made.warnings)


def _file(path: str) -> bytes:
    with tarfile.open(FOLDER / f"{PLAIN}.tar") as tar:
        file = tar.extractfile(path)
        assert file is not None
        return file.read()


def test_going_back_takes_no_page_tables() -> None:
    made = plan_load(snapshot(PLAIN), Request(jump_back=0x3456789))
    assert [each.name for each in made.segments] == ["purgatory"]
    with pytest.raises(UsageError, match=r"no kernel can wait at 0x100000000: .* 32 bits"):
        plan_load(snapshot(PLAIN), Request(jump_back=1 << 32))
