"""bzImage: a real-mode setup part with the setup header in it, and the kernel proper behind that."""

from dataclasses import dataclass

from pykexec.arch.x86_64 import layouts
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import identify
from pykexec.memory import KIB, align_up

_SECTOR = 512
_SETUP_SECTS_DEFAULT = 4
_OLDEST_PROTOCOL = 0x020C  # xloadflags, and with it the 64-bit entry, came with 2.12
_ENTRY_64 = 0x200
"""Offset of startup_64 in the kernel proper (boot.rst, "64-bit boot protocol")."""


@dataclass(frozen=True, slots=True)
class BzImage:
    """A kernel checked to be loadable through its 64-bit entry; sizes in bytes, addresses physical."""

    path: str
    setup_header: bytes
    """As found in the file at offset 0x1f1, zero-padded to the length of the newest header."""
    kernel: memoryview
    """The kernel proper: what is loaded."""
    protocol: int
    memory_size: int
    """What it needs while it unpacks itself in place (init_size)."""
    alignment: int
    preferred_address: int
    command_line_limit: int
    """The longest command line it takes, without the terminating NUL."""
    takes_efi: bool
    """Whether it can take over EFI runtime services from a kexec'ing kernel (XLF_EFI_KEXEC)."""
    relocatable: bool
    takes_5level_paging: bool
    """Whether it can be entered with five-level page tables active (XLF_5LEVEL)."""

    entry_offset: int = _ENTRY_64


def parse(file: FileData) -> BzImage:
    """Read and check a bzImage. Raises ImageError naming file, offset and remedy."""
    path, data = file.path, file.data
    _require_signature(path, data)
    header = layouts.SETUP_HEADER.parse(_header_bytes(data))
    _require_64bit(path, header)
    kernel = _kernel_part(path, data, header)
    if header.kernel_alignment < 4 * KIB or header.kernel_alignment & (header.kernel_alignment - 1):
        raise _damaged(
            path, 0x230, f"kernel_alignment {header.kernel_alignment:#x} is no power of two of pages"
        )
    if header.init_size < kernel.nbytes:
        raise _damaged(path, 0x260, f"init_size {header.init_size:#x} is smaller than the kernel itself")
    return BzImage(
        path=path,
        setup_header=_header_bytes(data),
        kernel=kernel,
        protocol=header.version,
        memory_size=align_up(header.init_size, 4 * KIB),
        alignment=header.kernel_alignment,
        preferred_address=header.pref_address,
        command_line_limit=header.cmdline_size,
        takes_efi=bool(header.xloadflags & layouts.XLF_EFI_KEXEC),
        relocatable=bool(header.relocatable_kernel),
        takes_5level_paging=bool(header.xloadflags & layouts.XLF_5LEVEL),
    )


def _require_signature(path: str, data: memoryview) -> None:
    if data.nbytes == 0:
        raise ImageError(f"{path}: the file is empty")
    if data.nbytes < 2 * _SECTOR:
        raise ImageError(
            f"{path}: not a kernel: {data.nbytes} bytes are less than a bzImage's boot sector and header"
        )
    if bytes(data[0x202:0x206]) != b"HdrS" or bytes(data[0x1FE:0x200]) != b"\x55\xaa":
        what = identify.describe(data)
        raise ImageError(
            f"{path}: {what or 'cannot determine the file type'}: no bzImage signature"
            " (0x55aa at offset 0x1fe, HdrS at 0x202)",
            hint="an x86_64 kernel is usually /boot/vmlinuz-VERSION",
        )


def _require_64bit(path: str, header: layouts.Parsed) -> None:
    if header.version < _OLDEST_PROTOCOL:
        raise ImageError(
            f"{path}: boot protocol {header.version >> 8}.{header.version & 0xFF:02} at offset 0x206"
            " has no 64-bit entry; 2.12 (Linux 3.8) is the oldest that has",
        )
    if not header.loadflags & layouts.LOADED_HIGH:
        raise ImageError(
            f"{path}: a zImage (LOADED_HIGH is clear at offset 0x211); only a bzImage can be loaded"
        )
    wanted = layouts.XLF_KERNEL_64 | layouts.XLF_CAN_BE_LOADED_ABOVE_4G
    if header.xloadflags & wanted != wanted:
        raise ImageError(
            f"{path}: a 32-bit kernel (xloadflags {header.xloadflags:#x} at offset 0x236);"
            " only 64-bit kernels can be loaded",
        )


def _kernel_part(path: str, data: memoryview, header: layouts.Parsed) -> memoryview:
    start = ((header.setup_sects or _SETUP_SECTS_DEFAULT) + 1) * _SECTOR
    size = header.syssize * 16
    if size == 0:
        raise _damaged(path, 0x1F4, "syssize is 0, there is no kernel behind the setup part")
    if start + size > data.nbytes:
        raise ImageError(
            f"{path}: truncated: {data.nbytes} bytes, but the setup header says {start + size}",
            hint="copy or install the kernel again",
        )
    return data[start:]


def _header_bytes(data: memoryview) -> bytes:
    """The setup header ends where the jump at 0x200 lands (boot.rst, "the real-mode kernel header")."""
    end = 0x202 + data[0x201]
    raw = bytes(data[layouts.SETUP_HEADER_OFFSET : end])
    size: int = layouts.SETUP_HEADER.sizeof()
    return raw[:size].ljust(size, b"\0")


def _damaged(path: str, offset: int, what: str) -> ImageError:
    return ImageError(
        f"{path}: damaged bzImage: {what} (offset {offset:#x})", hint="install the kernel again"
    )
