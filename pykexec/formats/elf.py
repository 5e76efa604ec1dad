"""ELF programs as a boot loader sees them: pieces of memory, and where to enter."""

from __future__ import annotations

import itertools

from pykexec import names
from pykexec.errors import ImageError
from pykexec.formats import elfheader
from pykexec.formats.elfheader import ET_DYN, ET_EXEC, PT_INTERP, PT_LOAD
from pykexec.memory import KIB, MIB, Range, align_down, align_up
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pykexec.formats.elfheader import Encoding, Header, ProgramHeader
    from pykexec.names import ArchNames

_PAGE = 4 * KIB
_SEGMENTS_MAX = 256  # a kernel has about five
_ALIGNMENT_MAX = 1024 * MIB
_PADDING_MAX = 64 * MIB


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


def architecture(data: memoryview) -> ArchNames | None:
    """Return what an ELF file is for; None for another file, and for what Linux has no name for."""
    encoding = elfheader.encoding(data)
    if encoding is None or data.nbytes < encoding.header_size:
        return None
    return names.of_elf(encoding.header(data).machine, encoding.bits, encoding.order)


def is_for(data: memoryview, name: str) -> bool:
    """Return whether this is an ELF file for the architecture of that name."""
    row = architecture(data)
    return row is not None and row.name == name


def parse(path: str, data: memoryview) -> Program:
    """Read and check an executable of either class and byte order. Raises ImageError."""
    encoding = elfheader.encoding(data)
    if encoding is None:
        raise ImageError(
            f"{path}: not an ELF file, or of a kind that is not known ({bytes(data[:7]).hex()})"
        )
    if data.nbytes < encoding.header_size:
        raise ImageError(f"{path}: truncated: {data.nbytes} bytes, and an ELF header takes more")
    header = encoding.header(data)
    if header.type not in (ET_EXEC, ET_DYN):
        from pykexec.formats import identify

        what = identify.describe(data)
        raise ImageError(f"{path}: {what}, but no executable one (e_type {header.type})")
    pieces = sorted(_pieces(path, data, encoding, header), key=lambda each: each[0].address)
    if not pieces:
        raise ImageError(f"{path}: an ELF file without anything to load")
    for (before, _), (after, _) in itertools.pairwise(pieces):
        if before.range.overlaps(after.range):
            raise ImageError(f"{path}: two segments go to the same memory: {before.range}, {after.range}")
    if sum(piece.data.nbytes for piece, _ in pieces) > 2 * data.nbytes:
        raise ImageError(f"{path}: damaged ELF file: its segments have more in them than the file")
    alignment = max(align for _, align in pieces)
    return Program(tuple(piece for piece, _ in pieces), header.entry, alignment)


def _pieces(path: str, data: memoryview, encoding: Encoding, header: Header) -> Iterator[tuple[Piece, int]]:
    """Yield the loadable segments and their alignments."""
    start, count, size = header.program_headers_at, header.program_header_count, header.program_header_size
    if count > _SEGMENTS_MAX or (count and size != encoding.program_header_size):
        raise ImageError(f"{path}: damaged ELF file: {count} program headers of {size} bytes at {start:#x}")
    if start + count * size > data.nbytes:
        raise ImageError(f"{path}: truncated: no room for its {count} program headers at {start:#x}")
    for index, segment in enumerate(encoding.program_headers(data, header)):
        if segment.type == PT_INTERP:
            raise ImageError(
                f"{path}: a program for the running system (it names an interpreter), no kernel"
            )
        if segment.type == PT_LOAD and segment.memory_size:
            alignment = max(segment.alignment, 1)
            if alignment & (alignment - 1) or alignment > _ALIGNMENT_MAX:
                raise ImageError(f"{path}: damaged ELF file: segment {index} is aligned to {alignment:#x}")
            yield _piece(path, f"segment {index}", data, encoding, segment), alignment


def _piece(path: str, what: str, data: memoryview, encoding: Encoding, segment: ProgramHeader) -> Piece:
    in_file, in_memory = segment.file_size, segment.memory_size
    if in_file > in_memory:
        raise ImageError(f"{path}: damaged ELF file: {what} has {in_file} bytes for {in_memory}")
    if segment.physical + in_memory > 1 << encoding.bits:
        raise ImageError(f"{path}: damaged ELF file: {what} ends beyond the last address")
    end = segment.offset + in_file
    if in_file and end > data.nbytes:
        raise ImageError(
            f"{path}: truncated: {data.nbytes} bytes, but {what} ends at {end}",
            hint="copy or install the kernel again",
        )
    return Piece(segment.physical, data[segment.offset : end], in_memory, segment.virtual)


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
