"""ELF programs as a boot loader sees them: pieces of memory, and where to enter."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from elftools.common.exceptions import ELFParseError
from elftools.common.utils import struct_parse
from elftools.elf.enums import ENUM_E_MACHINE
from elftools.elf.structs import ELFStructs

from pykexec import names
from pykexec.errors import ImageError
from pykexec.memory import KIB, MIB, Range, align_down, align_up
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.names import ArchNames, ByteOrder

_PAGE = 4 * KIB
_SEGMENTS_MAX = 256  # a kernel has about five
_ALIGNMENT_MAX = 1024 * MIB
_PADDING_MAX = 64 * MIB
_BITS = {1: 32, 2: 64}  # EI_CLASS
_LITTLE_ENDIAN = 1  # EI_DATA


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes and the memory they go to; what is beyond them is zero."""

    address: int
    """Physical."""
    data: memoryview
    memsz: int
    virtual: int = 0
    """Where the program sees it."""

    @property
    def range(self) -> Range:
        return Range.sized(self.address, self.memsz)


@dataclass(frozen=True, slots=True)
class Program:
    """An executable: what is loaded of it, in ascending order of address."""

    pieces: tuple[Piece, ...]
    entry: int
    """As the file has it: virtual, or physical."""
    alignment: int
    """The largest that a segment asks for, in bytes."""

    @property
    def range(self) -> Range:
        """The physical memory from its first piece to the end of its last."""
        return Range(self.pieces[0].address, max(each.range.end for each in self.pieces))

    def physical_entry(self) -> int:
        """The entry point's physical address, taking `entry` for a virtual one wherever it can be one."""
        for piece in self.pieces:
            if piece.virtual <= self.entry < piece.virtual + piece.memsz:
                return self.entry - piece.virtual + piece.address
        return self.entry


def is_elf(data: memoryview, machine: str | None = None) -> bool:
    """Whether this is an ELF file, and for that machine ("EM_386")."""
    if bytes(data[:4]) != b"\x7fELF" or data.nbytes < 20:
        return False
    return machine is None or int.from_bytes(data[18:20], "little") == ENUM_E_MACHINE[machine]


def architecture(data: memoryview) -> ArchNames | None:
    """Return what an ELF file is for; None for another file, and for what Linux has no name for."""
    if not is_elf(data):
        return None
    order: ByteOrder = "little" if data[5] == _LITTLE_ENDIAN else "big"
    return names.of_elf(int.from_bytes(data[18:20], order), _BITS.get(data[4], 0), order)


def parse(path: str, data: memoryview) -> Program:
    """Read and check a little-endian executable of either class. Raises ImageError."""
    ident = bytes(data[:7])
    if ident[:4] != b"\x7fELF" or len(ident) < 7:
        raise ImageError(f"{path}: not an ELF file")
    if ident[4] not in _BITS or ident[5] != _LITTLE_ENDIAN or ident[6] != 1:
        raise ImageError(
            f"{path}: not a little-endian ELF file (class, byte order, version {ident[4:7].hex()})"
        )
    structs = ELFStructs(little_endian=True, elfclass=_BITS[ident[4]])
    structs.create_basic_structs()
    structs.create_advanced_structs()
    header = _read(path, "ELF header", structs.Elf_Ehdr, data, 0)
    if header.e_type not in ("ET_EXEC", "ET_DYN"):
        from pykexec.formats import identify

        raise ImageError(f"{path}: {identify.describe(data)}, but no executable one ({header.e_type})")
    pieces = sorted(_pieces(path, data, structs, header), key=lambda each: each[0].address)
    if not pieces:
        raise ImageError(f"{path}: an ELF file without anything to load")
    for (before, _), (after, _) in itertools.pairwise(pieces):
        if before.range.overlaps(after.range):
            raise ImageError(f"{path}: two segments go to the same memory: {before.range}, {after.range}")
    if sum(piece.data.nbytes for piece, _ in pieces) > 2 * data.nbytes:
        raise ImageError(f"{path}: damaged ELF file: its segments have more in them than the file")
    alignment = max(align for _, align in pieces)
    return Program(tuple(piece for piece, _ in pieces), int(header.e_entry), alignment)


def _pieces(path: str, data: memoryview, structs: Any, header: Any) -> Iterator[tuple[Piece, int]]:
    """The loadable segments and their alignments."""
    offset, count, size = int(header.e_phoff), int(header.e_phnum), int(header.e_phentsize)
    if count > _SEGMENTS_MAX or (count and size != structs.Elf_Phdr.sizeof()):
        raise ImageError(f"{path}: damaged ELF file: {count} program headers of {size} bytes at {offset:#x}")
    for index in range(count):
        phdr = _read(path, f"program header {index}", structs.Elf_Phdr, data, offset + index * size)
        if phdr.p_type == "PT_INTERP":
            raise ImageError(
                f"{path}: a program for the running system (it names an interpreter), no kernel"
            )
        if phdr.p_type == "PT_LOAD" and phdr.p_memsz:
            alignment = max(int(phdr.p_align), 1)
            if alignment & (alignment - 1) or alignment > _ALIGNMENT_MAX:
                raise ImageError(f"{path}: damaged ELF file: segment {index} is aligned to {alignment:#x}")
            yield _piece(path, index, data, phdr), alignment


def _piece(path: str, index: int, data: memoryview, phdr: Any) -> Piece:
    names = ("p_offset", "p_filesz", "p_paddr", "p_memsz", "p_vaddr")
    offset, filesz, address, memsz, virtual = (int(getattr(phdr, name)) for name in names)
    if filesz > memsz:
        raise ImageError(f"{path}: damaged ELF file: segment {index} has {filesz} bytes for {memsz}")
    if address + memsz > 1 << 64:
        raise ImageError(f"{path}: damaged ELF file: segment {index} ends beyond the last address")
    if filesz and offset + filesz > data.nbytes:
        raise ImageError(
            f"{path}: truncated: {data.nbytes} bytes, but segment {index} ends at {offset + filesz}",
            hint="copy or install the kernel again",
        )
    return Piece(address, data[offset : offset + filesz], memsz, virtual)


def _read(path: str, what: str, struct: Any, data: memoryview, offset: int) -> Any:
    size = struct.sizeof()
    try:
        return struct_parse(struct, io.BytesIO(data[offset : offset + size]), 0)
    except ELFParseError as error:
        raise ImageError(f"{path}: truncated: no room for its {what} at {offset:#x}") from error


def flatten(path: str, pieces: Sequence[Piece]) -> Piece:
    """The pieces as one, from the start of its first page on, zeros between them.

    Raises ImageError when they lie too far apart for that.
    """
    start = align_down(min(each.address for each in pieces), _PAGE)
    end = max(each.range.end for each in pieces)
    if len(pieces) == 1 and pieces[0].address == start:
        return pieces[0]
    filled = max((each.address + each.data.nbytes for each in pieces if each.data.nbytes), default=start)
    if filled - start > sum(each.data.nbytes for each in pieces) + _PADDING_MAX:
        raise ImageError(f"{path}: its segments lie too far apart, from {start:#x} to {filled:#x}")
    memory = bytearray(filled - start)
    for each in pieces:
        memory[each.address - start : each.address - start + each.data.nbytes] = each.data
    virtual = min(pieces, key=lambda each: each.address)
    return Piece(start, memoryview(memory), end - start, virtual.virtual - (virtual.address - start))


def page_blocks(path: str, pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The pieces in whole pages: those that share a page become one. Raises ImageError as `flatten` does."""
    groups: list[list[Piece]] = []
    end = -1
    for each in sorted(pieces, key=lambda piece: piece.address):
        if each.address < end:
            groups[-1].append(each)
        else:
            groups.append([each])
        end = align_up(each.range.end, _PAGE)
    return tuple(flatten(path, group) for group in groups)
