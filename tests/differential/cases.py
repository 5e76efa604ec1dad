"""Machines, and what is loaded on them: snapshots of real guests, some of them changed in one respect, and
machines of which all is made by hand."""

import functools
import struct
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pykexec.plan import Purpose
from tests.support.bzimage import FakeBzImage
from tests.support.elf import kcore
from tests.support.machines import FOLDER, X86_64_SNAPSHOTS, unpacked, write

Files = Mapping[str, str | bytes | None]
"""What is in which file below the root; None takes one away."""
Lines = Sequence[tuple[int, int, str]]
"""Of /proc/iomem or the firmware's map: first and last address, and the name."""

PLAIN = "qemu-6.1-1g"
GIB = 1 << 30
_BZIMAGE = FakeBzImage().build()


@dataclass(frozen=True, eq=False)
class Case:
    """A machine and what is loaded on it."""

    name: str
    purpose: Purpose
    snapshot: str | None = PLAIN
    """None: there is nothing but `files`."""
    files: Files = field(default_factory=dict)
    kernel: bytes | None = _BZIMAGE
    """None: Debian's own."""
    initrd: bool = True
    append: str = "console=ttyS0 quiet"
    reuse: bool = False
    bounds: tuple[int, int] | None = None
    """--mem-min and --mem-max: the first address that may be used, and the last."""

    def write(self, root: Path) -> None:
        """Lay out the machine's files."""
        if self.snapshot:
            unpacked(self.snapshot, root)
        for path, content in self.files.items():
            write(root, path, content)


@functools.cache
def cases() -> tuple[Case, ...]:
    """All cases."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for purpose in Purpose:
        for name in X86_64_SNAPSHOTS:
            yield Case(f"{name}-{purpose.value}", purpose, name, kernel=None)
        for name, files in _VARIATIONS.items():
            yield Case(f"{name}-{purpose.value}", purpose, files=files)
        for name, kernel in _KERNELS.items():
            yield Case(f"{name}-{purpose.value}", purpose, files=_EFI, kernel=kernel)
        for name, lines in _MAPS.items():
            yield Case(f"{name}-{purpose.value}", purpose, None, hand_made(lines))
        plain = _MAPS["reserved-in-ram"]
        old = hand_made(plain, physical_addresses=False)
        yield Case(f"kcore-before-4.19-{purpose.value}", purpose, None, old)
        odd_code = [line for line in plain if line not in CODE] + [(0x1042000, 0x1FFFFFF, "Kernel code")]
        odd = hand_made(odd_code, text=(0xFFFFFFFF81042000, 0x1042000, 0x1FBE000))
        yield Case(f"odd-kernel-text-{purpose.value}", purpose, None, odd)
        yield Case(f"two-reservations-{purpose.value}", purpose, None, TWO_RESERVATIONS, VECTOR_KERNEL)
        yield Case(f"bare-{purpose.value}", purpose, initrd=False, append="")
        yield Case(
            f"reuse-{purpose.value}", purpose, files={"proc/cmdline": _REUSED}, append="a=1", reuse=True
        )
        bounds = 0x20000000, 0x27FFFFFF
        yield Case(f"bounds-{purpose.value}", purpose, bounds=bounds)


def hand_made(
    iomem: Lines,
    *,
    command_line: str = "quiet",
    text: tuple[int, int, int] = (0xFFFFFFFF81000000, 0x1000000, 0x2000000),
    physical_addresses: bool = True,
) -> Files:
    """A machine with that /proc/iomem, two CPUs, and neither firmware map nor boot_params.

    `text` is the kernel's mapping: virtual and physical address, and size. Before Linux 4.19 /proc/kcore had
    no physical addresses.
    """
    linear = 0xFFFF9C8000000000
    vmcoreinfo = f"PAGESIZE=4096\nSYMBOL(_stext)={text[0]:x}\n"
    ram = [(linear + first, first, last + 1 - first) for first, last, name in iomem if name == "System RAM"]
    mappings = [text, *ram]
    if not physical_addresses:
        mappings = [(virtual, 0, size) for virtual, _, size in mappings]
    files: dict[str, str | bytes | None] = {
        "proc/cmdline": f"{command_line}\n",
        "proc/iomem": _iomem(iomem),
        "proc/kcore": kcore(mappings, vmcoreinfo=vmcoreinfo),
        "proc/sys/kernel/arch": "x86_64\n",
        "sys/kernel/vmcoreinfo": "2a05000 1024\n",
    }
    for cpu in range(2):
        files[f"sys/devices/system/cpu/cpu{cpu}/crash_notes"] = f"{0x43F000000 + 0x1000 * cpu:x}\n"
        files[f"sys/devices/system/cpu/cpu{cpu}/crash_notes_size"] = "368\n"
    return files


def _iomem(lines: Lines) -> str:
    return "".join(f"{first:08x}-{last:08x} : {name}\n" for first, last, name in lines)


def _iomem_with(lines: Lines) -> dict[str, str | bytes | None]:
    with tarfile.open(FOLDER / f"{PLAIN}.tar") as tar:
        file = tar.extractfile("proc/iomem")
        assert file is not None
        return {"proc/iomem": file.read().decode() + _iomem(lines)}


def _firmware_map(lines: Lines) -> dict[str, str | bytes | None]:
    """Entries of the firmware's map, behind those of the snapshot."""
    files: dict[str, str | bytes | None] = {}
    for number, (first, last, kind) in enumerate(lines, 100):
        folder = f"sys/firmware/memmap/{number}"
        files[f"{folder}/start"] = f"{first:#x}\n"
        files[f"{folder}/end"] = f"{last:#x}\n"
        files[f"{folder}/type"] = f"{kind}\n"
    return files


def _boot_params(*changes: tuple[int, bytes]) -> dict[str, str | bytes | None]:
    with tarfile.open(FOLDER / f"{PLAIN}.tar") as tar:
        file = tar.extractfile("sys/kernel/boot_params/data")
        assert file is not None
        page = bytearray(file.read())
    for offset, data in changes:
        page[offset : offset + len(data)] = data
    return {"sys/kernel/boot_params/data": bytes(page)}


_RSDP = 0x070, (0x3FB7E014).to_bytes(8, "little")
_EFI_INFO = (
    0x1C0,
    b"EL64" + b"".join(n.to_bytes(4, "little") for n in (0x3FBEC018, 48, 1, 0x3E99C018, 0x1830, 0, 0)),
)
_SCREEN = [
    (0x00F, b"\x70"),  # VIDEO_TYPE_EFI
    (0x012, (1024).to_bytes(2, "little") + (768).to_bytes(2, "little") + b"\x20\0" + b"\0\0\0\x80"),
]
_SECURE_BOOT_OFF = 0x1EC, b"\x02"
_EFI_BOOT_PARAMS = _boot_params(_RSDP, _EFI_INFO, *_SCREEN, _SECURE_BOOT_OFF)


def _efi_files() -> Files:
    folder = "sys/firmware/efi"
    files: dict[str, str | bytes | None] = {
        f"{folder}/systab": "ACPI20=0x3fb7e014\nACPI=0x3fb7e000\nSMBIOS=0x3f9cc000\n",
        f"{folder}/fw_vendor": "0x3fea7d98\n",
        f"{folder}/runtime": "0x3fbedb18\n",
        f"{folder}/config_table": "0x3f9eba98\n",
    }
    for number, (kind, physical, pages) in enumerate(
        [(5, 0x3F8EC000, 16), (6, 0x3F9CC000, 8), (11, 0xFFC00000, 1024)]
    ):
        entry = f"{folder}/runtime-map/{number}"
        files[f"{entry}/type"] = f"{kind:#x}\n"
        files[f"{entry}/phys_addr"] = f"{physical:#x}\n"
        files[f"{entry}/virt_addr"] = f"{0xFFFFFFFEF0000000 + physical:#x}\n"
        files[f"{entry}/num_pages"] = f"{pages:#x}\n"
        files[f"{entry}/attribute"] = "0x800000000000000f\n"
    return files


_EFI: Files = {**_efi_files(), **_EFI_BOOT_PARAMS}
_NO_RUNTIME_MAP: Files = {path: text for path, text in _EFI.items() if "runtime-map" not in path}
_EDD_PARAMETERS = (74).to_bytes(2, "little") + bytes(range(2, 74))
_EDD = _boot_params(
    (0x1E9, b"\1\1"),  # one disk, one signature
    (0x290, b"\xde\xad\xbe\xef"),
    (0xD00, struct.pack("<BBHHBB", 0x80, 0x30, 0b101, 1023, 254, 63) + _EDD_PARAMETERS),
)
_EDD_DISK = "sys/firmware/edd/int13_dev80"
_EDD_MODULE: Files = {
    f"{_EDD_DISK}/mbr_signature": "0xefbeadde\n",
    f"{_EDD_DISK}/version": "0x30\n",
    f"{_EDD_DISK}/extensions": "Fixed disk access\nEnhanced Disk Drive support\n",
    f"{_EDD_DISK}/legacy_max_cylinder": "1023\n",
    f"{_EDD_DISK}/legacy_max_head": "254\n",
    f"{_EDD_DISK}/legacy_sectors_per_track": "63\n",
    f"{_EDD_DISK}/raw_data": _EDD_PARAMETERS,
}
"""The same disk as drivers/firmware/edd.c shows it."""

_CPU = "sys/devices/system/cpu/cpu"
_MANY: Lines = [(4 * GIB + (i << 21), 4 * GIB + 0xFFFFF + (i << 21), "System RAM") for i in range(200)]
_MANY_TABLES: Lines = [(first, last, "ACPI Tables") for first, last, _ in _MANY]
_KINDS: Lines = [
    (0x7F000000, 0x7F00FFFF, "ACPI Tables"),
    (0x7F010000, 0x7F01FFFF, "ACPI Non-volatile Storage"),
    (0x7F020000, 0x7F02FFFF, "Unusable memory"),
    (0x7F030000, 0x7F03FFFF, "Unknown E820 type"),
    (0x7F040000, 0x7F04FFFF, "Soft Reserved"),
    (0x100000000, 0x17FFFFFFF, "Persistent Memory"),
    (0x180000000, 0x1FFFFFFFF, "Persistent Memory (legacy)"),
]
_REUSED = (
    "BOOT_IMAGE=/vmlinuz root=/dev/vda crashkernel=512M,high crashkernel=256M,low quiet"
    " kexec_jump_back_entry=0x3f000000 elfcorehdr=1040384K\n"
)

_VARIATIONS: Mapping[str, Files] = {
    "efi": _EFI,
    "efi-without-runtime-map": _NO_RUNTIME_MAP,
    "efi-tells-rsdp": {**_NO_RUNTIME_MAP, **_boot_params(_EFI_INFO, (0x070, bytes(8)))},
    "edd": _EDD,
    "edd-module": {**_EDD, **_EDD_MODULE},
    "ist": _boot_params((0x60, bytes(range(16))), (0x140, bytes(range(128)))),
    "subarch": _boot_params((0x23C, b"\x03\0\0\0")),
    "no-boot-params": {"sys/kernel/boot_params/data": None},
    "native-framebuffer": {
        **_EFI_BOOT_PARAMS,
        "dev/fb0": "",
        "sys/class/graphics/fb0/name": "i915drmfb\n",
    },
    "many-ranges": {**_firmware_map(_MANY), **_iomem_with(_MANY)},
    "many-tables": {**_firmware_map(_MANY_TABLES), **_iomem_with(_MANY_TABLES)},
    "kinds": {**_firmware_map(_KINDS), **_iomem_with(_KINDS)},
    "add_efi_memmap": {
        **_firmware_map(_KINDS[:1]),
        "proc/cmdline": "add_efi_memmap quiet\n",
    },
    "kmem": _iomem_with([(0x100000000, 0x13FFFFFFF, "System RAM (kmem)")]),
    "sparse-cpus": {f"{_CPU}9/crash_notes": "3f000000\n", f"{_CPU}9/crash_notes_size": "400\n"},
    "offline-cpu": {f"{_CPU}1/crash_notes": None, f"{_CPU}1/crash_notes_size": None},
}


def _with_default_setup_sects() -> bytes:
    image = bytearray(FakeBzImage(setup_sects=4).build())
    image[0x1F1] = 0
    return bytes(image)


_KERNELS: Mapping[str, bytes] = {
    "kernel-without-efi": FakeBzImage(xloadflags=0x6F).build(),
    "kernel-default-setup-sects": _with_default_setup_sects(),
    "kernel-2.12": FakeBzImage(version=0x020C, init_size=0x1234567, kernel_alignment=0x1000000).build(),
}

LOW: Lines = [(0, 0xFFF, "Reserved"), (0x1000, 0x9FBFF, "System RAM"), (0x9FC00, 0xFFFFF, "Reserved")]
CODE: Lines = [(0x1000000, 0x1FFFFFF, "Kernel code")]
_MAPS: Mapping[str, Lines] = {
    "reserved-in-ram": [
        *LOW, (0x100000, 0x3FFFFFFF, "System RAM"), *CODE, (0x10000000, 0x1000FFFF, "Reserved"),
        (0x20000000, 0x2FFFFFFF, "Crash kernel"),
    ],
    "all-of-a-range-reserved": [
        *LOW, (0x100000, 0x1FFFFFFF, "System RAM"), *CODE,
        (0x40000000, 0x5FFFFFFF, "System RAM"), (0x40000000, 0x5FFFFFFF, "Crash kernel"),
    ],
    "no-low-ram": [
        (0, 0xFFFFF, "Reserved"), (0x100000, 0x3FFFFFFF, "System RAM"), *CODE,
        (0x20000000, 0x2FFFFFFF, "Crash kernel"),
    ],
    "low-ram-in-pieces": [
        (0, 0xFFF, "Reserved"), (0x1000, 0x57FFF, "System RAM"), (0x58000, 0x58FFF, "Reserved"),
        (0x59000, 0x9FFFF, "System RAM"), (0xA0000, 0xFFFFF, "Reserved"),
        (0x100000, 0x3FFFFFFF, "System RAM"), *CODE, (0x20000000, 0x2FFFFFFF, "Crash kernel"),
    ],
    "odd-ends": [
        (0, 0xFFF, "Reserved"), (0x1000, 0x9E3FE, "System RAM"),
        (0x100000, 0x3FFE3DFF, "System RAM"), *CODE, (0x20000000, 0x2FFFFFFF, "Crash kernel"),
    ],
    "gart": [
        *LOW, (0x100000, 0x3FFFFFFF, "System RAM"), *CODE, (0x10000000, 0x13FFFFFF, "GART"),
        (0x20000000, 0x2FFFFFFF, "Crash kernel"),
    ],
    "little-ram-at-1m": [
        *LOW, (0x100000, 0x3FFFFFF, "System RAM"), *CODE, (0x4000000, 0x400FFFF, "Reserved"),
        (0x4010000, 0x2FFFFFFF, "System RAM"), (0x20000000, 0x2FFFFFFF, "Crash kernel"),
    ],
    "neighbours": [
        *LOW, (0x100000, 0x1FFFFFFF, "System RAM"), *CODE, (0x20000000, 0x3FFFFFFF, "System RAM"),
        (0x28000000, 0x2FFFFFFF, "Crash kernel"),
    ],
}  # fmt: skip

VECTOR_KERNEL = FakeBzImage(
    payload=bytes(range(256)) * (0xD827C0 // 256) + bytes(0xD827C0 % 256),
    setup_sects=39,
    init_size=0x3378000,
).build()
TWO_RESERVATIONS = hand_made(
    [
        *LOW, (0x100000, 0xBFFDFFFF, "System RAM"), *CODE, (0xA5000000, 0xB4FFFFFF, "Crash kernel"),
        (0xBFFE0000, 0xBFFFFFFF, "ACPI Tables"),
        (0x100000000, 0x43FFFFFFF, "System RAM"), (0x420000000, 0x43EFFFFFF, "Crash kernel"),
    ],
    command_line=(
        "BOOT_IMAGE=/vmlinuz root=/dev/vda crashkernel=512M,high xcrashkernel=1 quiet"
    ),
)  # fmt: skip
"""16 GiB, without EFI, and memory reserved for a crash both below and above 4 GiB."""
