"""Dumps as ELF core files: /proc/vmcore, copies of it, and what ``makedumpfile -E`` makes."""

from array import array
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from pykexec import names
from pykexec.formats import elfheader
from pykexec.formats.elfheader import ET_CORE, IDENT_SIZE, MAGIC, PN_XNUM, PT_LOAD, PT_NOTE, Encoding, Header
from pykexec.memory import Range
from pykexec.vmcore.errors import DumpError, NotInDumpError
from pykexec.vmcore.notes import Note, read_notes, vmcoreinfo_of
from pykexec.vmcore.part import part_of
from pykexec.vmcore.pieces import Pieces
from pykexec.vmcore.source import Source

_SECTION_INFO_AT = {32: 28, 64: 44}
"""Offset of sh_info in a section header, by class. Where e_phnum is PN_XNUM, that of section 0 has the
number of program headers (gABI)."""
_HEADERS_MAX = 1 << 20
_HEADERS_AT_ONCE = 1 << 12
_ADDRESSES = 1 << 64
_NOWHERE = (0, _ADDRESSES - 1, (1 << 32) - 1)
"""Values of p_vaddr that say nothing."""

_INCOMPLETE = 1
"""makedumpfile's mark in e_flags (DUMP_ELF_INCOMPLETE)."""


_IDENT_FIELDS = ((6, (1,), "version", 5), (4, (1, 2), "class", 6), (5, (1, 2), "data encoding", 7))
"""Offset in e_ident, known values, what it is, and vmcore-dmesg's status for others."""


class _Segment(NamedTuple):
    """What a program header says of where memory is."""

    offset: int
    virtual: int
    physical: int
    file_size: int
    memory_size: int


class ElfDump:
    """The physical memory in an ELF core file."""

    dump_level: int | None = None
    compression = "none"
    is_part = False
    tells_extent = True

    def __init__(self, source: Source) -> None:
        """Read the headers. Raises DumpError when they are damaged."""
        self._source = source
        self.name = source.name
        self._encoding = self._read_ident()
        self.byte_order = self._encoding.order
        header = self._file_header()
        self.arch, self.word_size = self._machine(header.machine)
        self._flags = header.flags
        self._note_segments: list[_Segment] = []
        self._loads: list[_Segment] = []
        self._read_segments(header)
        self._physical = self._map_of(by_virtual=False)
        self._virtual = self._map_of(by_virtual=True)

    @property
    def format(self) -> str:
        return f"ELF{self._source.container}"

    @property
    def details(self) -> Mapping[str, object]:
        """What only this format has."""
        return {"ELF class": self._encoding.bits, "segments": len(self._loads)}

    @property
    def release(self) -> str | None:
        return None

    @property
    def time(self) -> int | None:
        return None

    @cached_property
    def damage(self) -> tuple[str, ...]:
        """What is wrong with the dump as a whole."""
        found = [*self._source.damage]
        if self._flags & _INCOMPLETE and part_of(self.arch).marks_incomplete:
            found.append("incomplete: makedumpfile marked it so, it ran out of space")
        end = max((each.offset + each.file_size for each in self._loads), default=0)
        if end > self._source.size:
            found.append(f"truncated: its headers describe {end} bytes, the file has {self._source.size}")
        return tuple(found)

    def read(self, address: int, size: int) -> bytes:
        """Physical memory. Raises NotInDumpError for what is not there."""
        found = bytearray()
        while len(found) < size:
            position = address + len(found)
            piece = self._physical.at(position)
            if piece is None:
                raise self._missing(position)
            wanted = min(piece.end, address + size) - position
            data = self._source.read_written(piece.target + position - piece.start, wanted)
            found += data
            if len(data) < wanted:
                lost = address + len(found)
                raise NotInDumpError(
                    f"{self.name}: physical address {lost:#x} is lost: the file is truncated", address=lost
                )
        return bytes(found)

    def physical_of(self, virtual: int) -> tuple[int, int] | None:
        """By the headers: the physical address, and how many bytes go on from there."""
        piece = self._virtual.at(virtual)
        return None if piece is None else (piece.target + virtual - piece.start, piece.end - virtual)

    def memory(self) -> Iterator[Range]:
        """The machine's memory that the dump is about, ascending, adjacent parts joined."""
        merged: Range | None = None
        described = [(each.physical, each.physical + each.memory_size) for each in self._loads]
        for start, end in sorted(each for each in described if each[1] <= _ADDRESSES):
            if merged is not None and start <= merged.end:
                merged = Range(merged.start, max(merged.end, end))
            else:
                if merged:
                    yield merged
                merged = Range(start, end)
        if merged:
            yield merged

    def saved_bytes(self) -> int:
        """How much memory is saved in the file."""
        return sum(each.end - each.start for each in self._physical)

    def check(self, *, everything: bool) -> None:
        """Nothing in the format tells whether contents are what they were."""

    def was_left_out(self, address: int) -> None:
        """Pages of zeros are left out, too, and cannot be told from others."""

    def notes(self) -> Iterator[Note]:
        for each in self._note_segments:
            yield from read_notes(
                self.name, self._source.read_at, each.offset, each.file_size, self.byte_order
            )

    def vmcoreinfo(self) -> bytes | None:
        return vmcoreinfo_of(self.notes())

    def _missing(self, address: int) -> NotInDumpError:
        for each in self._loads:
            if each.physical <= address < each.physical + each.memory_size:
                what = "was left out when the dump was made"
                return NotInDumpError(f"{self.name}: physical address {address:#x} {what}", address=address)
        return NotInDumpError(
            f"{self.name}: no program header covers physical address {address:#x}", address=address
        )

    def _read_ident(self) -> Encoding:
        ident = self._source.read_at(0, IDENT_SIZE)
        if len(ident) < IDENT_SIZE:
            raise DumpError(f"{self.name}: truncated in the ELF header", status=3)
        if not ident.startswith(MAGIC):
            raise DumpError(f"{self.name}: not an ELF file", status=4)
        encoding = elfheader.encoding(ident)
        if encoding is not None:
            return encoding
        place, _, what, status = next(each for each in _IDENT_FIELDS if ident[each[0]] not in each[1])
        raise DumpError(
            f"{self.name}: damaged ELF header: {what} {ident[place]} at offset {place}", status=status
        )

    def _file_header(self) -> Header:
        data = self._source.read_at(0, self._encoding.header_size)
        if len(data) < self._encoding.header_size:
            raise DumpError(f"{self.name}: truncated in the ELF header", status=10)
        header = self._encoding.header(data)
        if header.type != ET_CORE:
            raise DumpError(f"{self.name}: an ELF file, but no core dump (e_type {header.type})", status=10)
        if header.version != 1:
            raise DumpError(
                f"{self.name}: damaged ELF header: version {header.version} at offset 20", status=11
            )
        return header

    def _machine(self, number: int) -> tuple[str, int]:
        """Return the architecture, and its bytes of a long: the file may be of the other class."""
        row = names.of_elf(number, self._encoding.bits, self.byte_order)
        if row is None:
            return f"ELF machine {number}", self._encoding.bits // 8
        return row.name, row.elf.bits // 8

    def _read_segments(self, header: Header) -> None:
        start, size = header.program_headers_at, self._encoding.program_header_size
        if header.program_header_size != size:
            raise DumpError(
                f"{self.name}: damaged ELF header: program headers of {header.program_header_size} bytes,"
                f" {size} expected",
                status=12,
            )
        count = self._segment_count(header)
        if not count and header.section_header_count:
            # Xen: tools/libs/guest/xg_dom_core.c, sections .xen_pages, .xen_p2m and others
            raise DumpError(
                f"{self.name}: an ELF core without segments, such as xl dump-core makes of a Xen guest",
                hint="crash reads it as it is; or let the guest's own kernel dump (kdump)",
                status=12,
            )
        if start + count * size > self._source.size:
            raise DumpError(
                f"{self.name}: truncated: {count} program headers at {start:#x} do not fit its"
                f" {self._source.size} bytes",
                status=16,
            )
        for first in range(0, count, _HEADERS_AT_ONCE):
            data = self._source.read_at(start + first * size, min(_HEADERS_AT_ONCE, count - first) * size)
            for kind, _, *fields, _ in self._encoding.rows(data[: len(data) // size * size]):
                if kind == PT_LOAD:
                    self._loads.append(_Segment(*fields))
                elif kind == PT_NOTE:
                    self._note_segments.append(_Segment(*fields))

    def _segment_count(self, header: Header) -> int:
        count = header.program_header_count
        if count == PN_XNUM:
            place = header.section_headers_at + _SECTION_INFO_AT[self._encoding.bits]
            data = self._source.read_at(place, 4)
            if not header.section_headers_at or len(data) < 4:
                raise DumpError(
                    f"{self.name}: damaged: more than 65534 program headers, but no section header that"
                    " has their number",
                    status=16,
                )
            count = int.from_bytes(data, self.byte_order)
        if count > _HEADERS_MAX:
            raise DumpError(
                f"{self.name}: {count} program headers; {_HEADERS_MAX} at most are read", status=16
            )
        return count

    def _map_of(self, *, by_virtual: bool) -> Pieces:
        """Physical addresses to file offsets, or virtual addresses to physical ones."""
        starts, ends, targets = array("Q"), array("Q"), array("Q")
        # The first header that covers an address holds, as in vmcore-dmesg: so it is put last.
        for each in reversed(self._loads):
            start, target = (each.virtual, each.physical) if by_virtual else (each.physical, each.offset)
            size = each.memory_size if by_virtual else min(each.file_size, each.memory_size)
            if not size or max(start, target) + size >= _ADDRESSES or (by_virtual and start in _NOWHERE):
                continue
            starts.append(start)
            ends.append(start + size)
            targets.append(target)
        return Pieces(starts, ends, targets)
