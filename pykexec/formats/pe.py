"""Read Portable Executables, for instance kernels with an EFI stub.

Microsoft's PE format, "COFF file header".
"""

import struct

from pykexec.errors import ImageError
from pykexec.names import of_pe
from pykexec.values import dataclass

_COFF_HEADER = struct.Struct("<4sHHIIIHH")
_SECTION_HEADER = struct.Struct("<8sIIII16x")
_SECTIONS_MAX = 96  # the format's limit
_PE32_PLUS = 0x20B
_SUBSYSTEM = 68  # in the optional header, PE32 and PE32+ alike
_CERTIFICATES = 4  # index of the "Certificate Table" among the data directories, 8 bytes each

_EFI_SUBSYSTEMS = range(10, 14)  # "Windows subsystem": EFI application, two kinds of driver, EFI ROM


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its name, and the place of its bytes in the file."""

    name: str
    offset: int
    size: int
    virtual_size: int

    @property
    def filled(self) -> int:
        """The number of bytes with contents: the file pads them to its alignment, memory with zeros."""
        return min(self.size, self.virtual_size)


@dataclass(frozen=True, slots=True)
class PortableExecutable:
    """The headers of a Portable Executable; sizes and offsets are in bytes."""

    machine: int
    """IMAGE_FILE_MACHINE_*: 0x8664 is x86-64, 0xaa64 is arm64."""
    sections: tuple[Section, ...]
    subsystem: int = 0
    signature_end: int = 0
    """The end of the certificates, and so of the file; 0 for a file that is not signed."""

    @property
    def end(self) -> int:
        """The least length of the file."""
        return max((section.offset + section.size for section in self.sections), default=0)

    @property
    def is_efi(self) -> bool:
        """Whether it is for EFI and not for Windows."""
        return self.subsystem in _EFI_SUBSYSTEMS

    @property
    def machine_name(self) -> str:
        """The architecture's name for people, such as "x86_64"."""
        return machine_name(self.machine)


def machine_name(machine: int) -> str:
    """Return the name for people of an IMAGE_FILE_MACHINE_* ("Machine types")."""
    row = of_pe(machine)
    return f"machine {machine:#x}" if row is None else row.name


def parse(path: str, data: memoryview) -> PortableExecutable | None:
    """Return the headers of a PE file; None for another file.

    Raises ImageError when they are damaged or cut.
    """
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
    optional_at = start + _COFF_HEADER.size
    table = optional_at + optional_size
    if count > _SECTIONS_MAX or table + count * _SECTION_HEADER.size > data.nbytes:
        raise ImageError(f"{path}: truncated or damaged: {count} PE sections at {table:#x}")
    optional = bytes(data[optional_at:table])
    return PortableExecutable(
        machine,
        tuple(_section(data, table, index) for index in range(count)),
        int.from_bytes(optional[_SUBSYSTEM : _SUBSYSTEM + 2], "little"),
        _signature_end(optional),
    )


def _section(data: memoryview, table: int, index: int) -> Section:
    name, virtual_size, _, size, offset = _SECTION_HEADER.unpack_from(
        data, table + index * _SECTION_HEADER.size
    )
    return Section(name.rstrip(b"\0").decode("latin-1"), offset, size, virtual_size)


def _signature_end(optional: bytes) -> int:
    directories = 112 if int.from_bytes(optional[:2], "little") == _PE32_PLUS else 96
    at = directories + 8 * _CERTIFICATES
    # The number of data directories is the field before them.
    if int.from_bytes(optional[directories - 4 : directories], "little") <= _CERTIFICATES:
        return 0
    offset, size = (int.from_bytes(optional[at + i : at + i + 4], "little") for i in (0, 4))
    return offset + size if size else 0
