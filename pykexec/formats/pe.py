"""Portable Executables: what an EFI stub makes of a kernel (Microsoft's PE format, "COFF file header")."""

import struct
from dataclasses import dataclass

from pykexec.errors import ImageError

_COFF_HEADER = struct.Struct("<4sHHIIIHH")
_SECTION_HEADER = struct.Struct("<8sIIII16x")
_SECTIONS_MAX = 96  # what the format allows


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its name, and where its bytes are in the file."""

    name: str
    offset: int
    size: int
    virtual_size: int


@dataclass(frozen=True, slots=True)
class PortableExecutable:
    """The headers of one; sizes and offsets in bytes."""

    machine: int
    """IMAGE_FILE_MACHINE_*: 0x8664 is x86-64, 0xaa64 is arm64."""
    sections: tuple[Section, ...]

    @property
    def end(self) -> int:
        """The file's length, at the least."""
        return max((section.offset + section.size for section in self.sections), default=0)


def parse(path: str, data: memoryview) -> PortableExecutable | None:
    """The headers of a PE file, None for another one. Raises ImageError when they are damaged or cut off."""
    if bytes(data[:2]) != b"MZ" or data.nbytes < 0x40:
        return None
    start = int.from_bytes(data[0x3C:0x40], "little")
    if bytes(data[start : start + 4]) != b"PE\0\0":
        if start > data.nbytes - 4:
            raise ImageError(f"{path}: truncated: its PE header at {start:#x} is beyond the end")
        return None
    if start + _COFF_HEADER.size > data.nbytes:
        raise ImageError(f"{path}: truncated within its PE header at {start:#x}")
    _, machine, count, _, _, _, optional_size, _ = _COFF_HEADER.unpack_from(data, start)
    table = start + _COFF_HEADER.size + optional_size
    if count > _SECTIONS_MAX or table + count * _SECTION_HEADER.size > data.nbytes:
        raise ImageError(f"{path}: truncated or damaged: {count} PE sections at {table:#x}")
    return PortableExecutable(machine, tuple(_section(data, table, index) for index in range(count)))


def _section(data: memoryview, table: int, index: int) -> Section:
    name, virtual_size, _, size, offset = _SECTION_HEADER.unpack_from(
        data, table + index * _SECTION_HEADER.size
    )
    return Section(name.rstrip(b"\0").decode("latin-1"), offset, size, virtual_size)
