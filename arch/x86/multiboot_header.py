"""Read Multiboot kernels, versions 1 and 2: what their headers ask for, and what to load.

Names and numbers are those of the two specifications, section 3.1 (gnu.org/software/grub/manual). A header
lies near the beginning of any kind of file, usually an ELF file.
"""

import struct
from collections.abc import Iterable, Iterator

from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import elf, elfheader, multiboot
from pykexec.formats.elf import Piece
from pykexec.memory import GIB, KIB, Placement
from pykexec.values import dataclass

_ARCHITECTURE_I386 = 0

_ADDRESSES_1 = struct.Struct("<12xIIIII")
_TAG_2 = struct.Struct("<HHI")  # type, flags, size

_REQUIREMENTS_1 = 0xFFFF
"""Bits 0 to 15 of version 1's flags: a loader that does not know one must refuse the kernel."""
_KNOWN_1 = 0b111  # modules on page boundaries, memory information, video mode
_HAS_ADDRESSES_1 = 1 << 16

_OPTIONAL = 1
_END, _INFORMATION_REQUEST, _ADDRESS, _ENTRY_ADDRESS, _CONSOLE, _FRAMEBUFFER = range(6)
_MODULE_ALIGN, _EFI_BOOT_SERVICES, _ENTRY_EFI32, _ENTRY_EFI64, _RELOCATABLE = range(6, 11)
_NAMES_2 = {_EFI_BOOT_SERVICES: "EFI boot services"}
_IGNORED_2 = {_CONSOLE, _MODULE_ALIGN, _ENTRY_EFI32, _ENTRY_EFI64}
"""Tags for what is done anyway, or for a start by EFI itself."""

_INFORMATION = {
    1: "command line", 2: "boot loader name", 3: "modules", 4: "basic memory information",
    5: "BIOS boot device", 6: "memory map", 7: "VBE information", 8: "framebuffer", 9: "ELF symbols",
    10: "APM table", 11: "EFI 32-bit system table", 12: "EFI 64-bit system table", 13: "SMBIOS tables",
    14: "ACPI old RSDP", 15: "ACPI new RSDP", 16: "networking information", 17: "EFI memory map",
    18: "EFI boot services", 19: "EFI 32-bit image handle", 20: "EFI 64-bit image handle", 21: "load base",
}  # fmt: skip
_GIVEN = {1, 2, 3, 4, 6, 8, 14, 15, 21}
_FROM_FILE_START = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Relocation:
    """The addresses to which a kernel may be moved (tag "relocatable"): physical, in bytes."""

    lowest: int
    end: int
    alignment: int
    placement: Placement


@dataclass(frozen=True, slots=True)
class MultibootKernel:
    """A kernel that has been checked; addresses are physical."""

    path: str
    version: int
    pieces: tuple[Piece, ...]
    """In whole pages, ascending; only one where the kernel can be moved."""
    entry: int
    """The entry point as linked: it moves along with the kernel."""
    relocation: Relocation | None = None


def is_multiboot1(data: memoryview) -> bool:
    return multiboot.find1(data) is not None


def is_multiboot2(data: memoryview) -> bool:
    return multiboot.find2(data) is not None


def parse1(file: FileData) -> MultibootKernel:
    """Read and check a version 1 kernel. Raises ImageError, which names what it cannot get."""
    path, data = file.path, file.data
    offset = multiboot.find1(data)
    if offset is None:
        raise ImageError(f"{path}: no Multiboot header in its first {multiboot.SEARCH_1} bytes")
    _, flags, _ = multiboot.HEADER_1.unpack_from(data, offset)
    unknown = [f"{bit}" for bit in range(16) if flags & _REQUIREMENTS_1 & ~_KNOWN_1 & 1 << bit]
    if unknown:
        raise ImageError(
            f"{path}: its Multiboot header (offset {offset:#x}) requires what no version of Multiboot knows:"
            f" bit {', '.join(unknown)} of flags {flags:#x}"
        )
    if flags & _HAS_ADDRESSES_1:
        if offset + _ADDRESSES_1.size > data.nbytes:
            raise ImageError(f"{path}: truncated within its Multiboot header at {offset:#x}")
        header_addr, *addresses, entry = _ADDRESSES_1.unpack_from(data, offset)
        pieces: Iterable[Piece] = [_by_address(path, data, offset, header_addr, *addresses)]
    else:
        pieces, entry = _by_elf(path, data)
    return _kernel(path, 1, pieces, entry, None)


def parse2(file: FileData) -> MultibootKernel:
    """Read and check a version 2 kernel. Raises ImageError, which names what it cannot get."""
    path, data = file.path, file.data
    offset = multiboot.find2(data)
    if offset is None:
        raise ImageError(f"{path}: no Multiboot2 header in its first {multiboot.SEARCH_2} bytes")
    _, architecture, length, _ = multiboot.HEADER_2.unpack_from(data, offset)
    if architecture != _ARCHITECTURE_I386:
        raise ImageError(
            f"{path}: its Multiboot2 header is for architecture {architecture}, which is not x86"
        )
    tags: dict[int, bytes] = {}
    for kind, flags, content in _tags(path, data, offset, length):
        _check_tag(path, kind, flags, content)
        tags.setdefault(kind, content)
    entry = _numbers(path, tags, _ENTRY_ADDRESS, 1)
    addresses = _numbers(path, tags, _ADDRESS, 4)
    if addresses:
        if not entry:
            raise ImageError(f"{path}: its Multiboot2 header has load addresses, but no entry address")
        pieces: Iterable[Piece] = [_by_address(path, data, offset, *addresses)]
        start = entry[0]
    else:
        pieces, start = _by_elf(path, data)
        start = entry[0] if entry else start
    return _kernel(path, 2, pieces, start, _relocation(path, tags))


def _tags(path: str, data: memoryview, offset: int, length: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, flags and contents of each tag, up to the end tag. Raises ImageError."""
    end = offset + length
    if end > min(data.nbytes, multiboot.SEARCH_2):
        raise ImageError(
            f"{path}: its Multiboot2 header (offset {offset:#x}) says it is {length} bytes long,"
            f" which is beyond the first {min(data.nbytes, multiboot.SEARCH_2)}"
        )
    position = offset + multiboot.HEADER_2.size
    while position + _TAG_2.size <= end:
        kind, flags, size = _TAG_2.unpack_from(data, position)
        if kind == _END:
            return
        if size < _TAG_2.size or position + size > end:
            raise ImageError(f"{path}: damaged Multiboot2 header: a tag of {size} bytes at {position:#x}")
        yield kind, flags, bytes(data[position + _TAG_2.size : position + size])
        position = -(-(position + size) // multiboot.ALIGN_2) * multiboot.ALIGN_2


def _check_tag(path: str, kind: int, flags: int, content: bytes) -> None:
    """Raise ImageError for a tag that the kernel requires and does not get."""
    if flags & _OPTIONAL or kind in _IGNORED_2 or kind in (_ADDRESS, _ENTRY_ADDRESS, _RELOCATABLE):
        return
    if kind == _INFORMATION_REQUEST:
        wanted = [number for (number,) in struct.iter_unpack("<I", content[: len(content) // 4 * 4])]
        missing = [_INFORMATION.get(number, f"type {number}") for number in wanted if number not in _GIVEN]
        if missing:
            raise ImageError(f"{path}: requires what cannot be given after a kexec: {', '.join(missing)}")
    elif kind != _FRAMEBUFFER:
        name = _NAMES_2.get(kind, f"type {kind}")
        raise ImageError(f"{path}: its Multiboot2 header requires what cannot be given: {name}")


def _numbers(path: str, tags: dict[int, bytes], kind: int, count: int) -> tuple[int, ...] | None:
    if kind not in tags:
        return None
    if len(tags[kind]) < 4 * count:
        raise ImageError(
            f"{path}: damaged Multiboot2 header: tag {kind} has {len(tags[kind])} bytes of data"
        )
    return struct.unpack_from(f"<{count}I", tags[kind])


def _relocation(path: str, tags: dict[int, bytes]) -> Relocation | None:
    numbers = _numbers(path, tags, _RELOCATABLE, 4)
    if numbers is None:
        return None
    lowest, highest, alignment, preference = numbers
    if alignment & (alignment - 1) or highest < lowest:
        raise ImageError(
            f"{path}: damaged Multiboot2 header: to be loaded between {lowest:#x} and {highest:#x},"
            f" aligned to {alignment:#x}"
        )
    highest_first = preference == 2
    placement = Placement.HIGHEST if highest_first else Placement.LOWEST
    return Relocation(lowest, highest + 1, max(alignment, 4 * KIB), placement)


def _by_address(
    path: str,
    data: memoryview,
    header_offset: int,
    header_addr: int,
    load_addr: int,
    load_end_addr: int,
    bss_end_addr: int,
) -> Piece:
    """Return the piece that the header's own addresses describe, whatever kind of file it is in."""
    start = 0 if load_addr == _FROM_FILE_START else header_offset - (header_addr - load_addr)
    address = header_addr - header_offset if load_addr == _FROM_FILE_START else load_addr
    if not 0 <= start <= header_offset or address < 0:
        raise ImageError(
            f"{path}: damaged Multiboot header: at {header_offset:#x} in the file and {header_addr:#x} in"
            f" memory, it cannot be part of what is loaded to {load_addr:#x}"
        )
    size = load_end_addr - address if load_end_addr else data.nbytes - start
    if size <= 0 or start + size > data.nbytes:
        raise ImageError(
            f"{path}: truncated, or a damaged Multiboot header: {size} bytes to load from {start:#x},"
            f" of {data.nbytes}"
        )
    memsz = max(size, bss_end_addr - address)
    return Piece(address, data[start : start + size], memsz, address)


def _by_elf(path: str, data: memoryview) -> tuple[Iterable[Piece], int]:
    encoding = elfheader.encoding(data)
    if encoding is None:
        raise ImageError(
            f"{path}: a Multiboot kernel that is no ELF file must have load addresses in its header"
        )
    if encoding.order != "little":
        raise ImageError(f"{path}: a Multiboot kernel in a big-endian ELF file, which is not for a PC")
    program = elf.parse(path, data)
    return program.pieces, program.physical_entry()


def _kernel(
    path: str, version: int, pieces: Iterable[Piece], entry: int, relocation: Relocation | None
) -> MultibootKernel:
    found = tuple(pieces)
    if relocation:
        found = (elf.flatten(path, found),)
    blocks = elf.page_blocks(path, found)
    if blocks[-1].range.end > 4 * GIB:
        raise ImageError(f"{path}: a Multiboot kernel lies below 4 GiB, but this one at {blocks[-1].range}")
    if not any(entry in block.range for block in blocks):
        raise ImageError(f"{path}: its entry point {entry:#x} is outside of what is loaded")
    return MultibootKernel(path, version, blocks, entry, relocation)
