"""ELF's file header and program headers (elf(5)), of either class and byte order: the one reader and writer.

It checks nothing but that a header is there: what makes sense in it is for those who ask.
"""

from __future__ import annotations

import struct

from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pykexec.names import ByteOrder, Elf

    Row = tuple[int, int, int, int, int, int, int, int]
    """A program header's fields, in the order that `ProgramHeader` has them in."""

MAGIC = b"\x7fELF"
IDENT_SIZE = 16
ET_EXEC, ET_DYN, ET_CORE = 2, 3, 4
PT_LOAD, PT_INTERP, PT_NOTE = 1, 3, 4
PF_RWX = 7
PN_XNUM = 0xFFFF
"""As e_phnum: there are more program headers than that can count."""

_VERSION = 1
_ORDERS: tuple[ByteOrder, ByteOrder] = ("little", "big")  # EI_DATA 1, 2
_HEADER = {32: "HHIIIIIHHHHHH", 64: "HHIQQQIHHHHHH"}
_PROGRAM_HEADER = {32: "IIIIIIII", 64: "IIQQQQQQ"}


@dataclass(frozen=True, slots=True)
class Header:
    """The file header behind e_ident; offsets and sizes in bytes."""

    type: int
    """ET_*."""
    machine: int
    """EM_*."""
    version: int
    entry: int
    flags: int
    program_headers_at: int
    program_header_size: int
    program_header_count: int
    section_headers_at: int
    section_header_count: int


@dataclass(frozen=True, slots=True)
class ProgramHeader:
    """A segment; offset and sizes in bytes."""

    type: int
    """PT_*."""
    flags: int
    """PF_*."""
    offset: int
    virtual: int
    physical: int
    file_size: int
    memory_size: int
    alignment: int = 0


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the headers of a class and a byte order are written down."""

    bits: int
    """The class: 32 or 64."""
    order: ByteOrder

    @classmethod
    def of(cls, elf: Elf) -> Encoding:
        """Return that of an architecture's files. Raises ValueError where its name leaves the order open."""
        if elf.order is None:
            raise ValueError(f"ELF machine {elf.machine} has files of both byte orders")
        return cls(elf.bits, elf.order)

    @property
    def header_size(self) -> int:
        """Bytes of the file header, e_ident included."""
        return IDENT_SIZE + self._struct(_HEADER).size

    @property
    def program_header_size(self) -> int:
        """Bytes of a program header."""
        return self._struct(_PROGRAM_HEADER).size

    def header(self, data: bytes | memoryview) -> Header:
        """Return the file header at the beginning of `data`. Raises struct.error when that ends within."""
        fields = self._struct(_HEADER).unpack_from(data, IDENT_SIZE)
        type_, machine, version, entry, phoff, shoff, flags, _, phentsize, phnum, _, shnum, _ = fields
        return Header(type_, machine, version, entry, flags, phoff, phentsize, phnum, shoff, shnum)

    def without_sections(self, data: bytes | memoryview) -> bytes:
        """Return the file header of `data` as if no section header were there. Raises as `header` does."""
        layout = self._struct(_HEADER)
        *fields, _, _ = layout.unpack_from(data, IDENT_SIZE)  # shnum, shstrndx
        fields[5] = 0  # shoff
        return bytes(data[:IDENT_SIZE]) + layout.pack(*fields, 0, 0)

    def program_headers(self, data: bytes | memoryview, header: Header) -> Iterator[ProgramHeader]:
        """Yield the program headers of the file that `data` is. Raises struct.error when it ends within."""
        layout = self._struct(_PROGRAM_HEADER)
        for index in range(header.program_header_count):
            at = header.program_headers_at + index * header.program_header_size
            yield ProgramHeader(*self._row(layout.unpack(data[at : at + layout.size])))

    def rows(self, table: bytes | memoryview) -> Iterator[Row]:
        """Yield the program headers that a table is made of: as tuples, for some files have a million.

        Raises struct.error when the table ends within one.
        """
        return map(self._row, self._struct(_PROGRAM_HEADER).iter_unpack(table))

    def _row(self, fields: Row) -> Row:
        if self.bits == 64:
            return fields
        kind, offset, virtual, physical, file_size, memory_size, flags, alignment = fields
        return kind, flags, offset, virtual, physical, file_size, memory_size, alignment

    def build(self, type: int, machine: int, program_headers: Sequence[ProgramHeader]) -> bytes:
        """Return a file header, and the program headers behind it.

        Raises struct.error for what does not fit this class's fields.
        """
        size, row, count = self.header_size, self._struct(_PROGRAM_HEADER), len(program_headers)
        ident = MAGIC + bytes([self.bits // 32, 1 + _ORDERS.index(self.order), _VERSION])
        header = self._struct(_HEADER).pack(
            type, machine, _VERSION, 0, size, 0, 0, size, row.size, count, 0, 0, 0
        )
        rows = [row.pack(*self._fields(each)) for each in program_headers]
        return b"".join([ident.ljust(IDENT_SIZE, b"\0"), header, *rows])

    def _fields(self, each: ProgramHeader) -> tuple[int, ...]:
        places = each.offset, each.virtual, each.physical, each.file_size, each.memory_size
        if self.bits == 32:
            return each.type, *places, each.flags, each.alignment
        return each.type, each.flags, *places, each.alignment

    def _struct(self, layouts: Mapping[int, str]) -> struct.Struct:
        return struct.Struct(("<" if self.order == "little" else ">") + layouts[self.bits])


def encoding(data: bytes | memoryview) -> Encoding | None:
    """Return how the ELF file that begins so is written; None for another file, or an unknown kind of it."""
    ident = bytes(data[:IDENT_SIZE])
    if len(ident) < IDENT_SIZE or not ident.startswith(MAGIC):
        return None
    kind, order, version = ident[4:7]  # EI_CLASS, EI_DATA, EI_VERSION
    if kind not in (1, 2) or order not in (1, 2) or version != _VERSION:
        return None
    return Encoding(32 * kind, _ORDERS[order - 1])
