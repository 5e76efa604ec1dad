"""Read makedumpfile's kdump-compressed format: single pages, each compressed, most of them left out.

The layout is from makedumpfile's diskdump_mod.h and IMPLEMENTATION: a header block, the sub header, a bitmap
of the pages that exist, a bitmap of the saved pages, a descriptor for each saved page, the pages. Numbers
and alignment are those of the machine that wrote it.
"""

import struct
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pykexec import names
from pykexec.memory import KIB, MIB, Range
from pykexec.vmcore import pages
from pykexec.vmcore.errors import DumpError, NotInDumpError
from pykexec.vmcore.notes import ByteOrder, Note, read_notes, vmcoreinfo_of
from pykexec.vmcore.part import part_of
from pykexec.vmcore.source import Source

SIGNATURE = b"KDUMP   "
_NEWEST_VERSION = 6
_VERSION_MAX = 255
_HEADER_SIZE = 512
_UTSNAME_AT, _UTSNAME_FIELD = 12, 65
_RELEASE, _MACHINE = 2, 4
_BLOCK_SIZE_MIN, _BLOCK_SIZE_MAX = 1 * KIB, 1 * MIB
_DESCRIPTOR_SIZE = 24
_CHUNK = 4096
"""The bytes of a bitmap that are counted at once."""
_CHUNK_PAGES = _CHUNK * 8
_CHUNKS_AT_ONCE = 16
_EMPTY, _FULL = bytes(_CHUNK * _CHUNKS_AT_ONCE), b"\xff" * (_CHUNK * _CHUNKS_AT_ONCE)
_BITMAP_MAX = 1 << 31
"""In bytes: 64 TiB of memory in pages of 4 KiB."""
_RANGES_MAX = 1 << 16
_DESCRIPTORS_AT_ONCE = 1 << 16
_DESCRIPTORS_LOOKED_AT = 1 << 24
"""The most descriptors to read where the last pages are full of zeros: 64 GiB of pages of 4 KiB."""
_CACHED_PAGES = 256
_VMCOREINFO_MAX = 1 * MIB

_COMPRESSION = {0x1: "zlib", 0x2: "lzo", 0x4: "snappy", 0x20: "zstd"}
_INCOMPLETE = 0x8


class _Header(NamedTuple):
    """struct disk_dump_header, as far as it is needed. Sizes are in bytes unless stated otherwise."""

    version: int
    release: str
    machine: str
    time: int
    status: int
    block_size: int
    sub_blocks: int
    bitmap_blocks: int
    pages: int
    """One more than the highest page frame number; the lower 32 bits only."""


class _SubHeader(NamedTuple):
    """struct kdump_sub_header; fields that the version does not have are 0."""

    phys_base: int
    dump_level: int
    split: int
    start_page: int
    end_page: int
    vmcoreinfo_at: int
    vmcoreinfo_size: int
    notes_at: int
    notes_size: int
    pages: int


class Checked(NamedTuple):
    """The result of checking a dump's pages."""

    saved: int
    """The number of pages in the dump."""
    looked_at: int
    """The number of pages whose place was checked, with the beginning and the end of their packed data."""
    unpacked: int
    """The number of pages that were unpacked."""
    damaged: int
    first: str
    """What is wrong with the first damaged page."""


_LOOKED_AT_MAX = 1 << 16
_UNPACKED_MAX = 1 << 12
_UNPACKED_SLOWLY_MAX = 1 << 7
"""For formats that only our own code unpacks (LZO, snappy): some milliseconds a page."""
_SLOW = ("lzo", "snappy")


class CompressedDump:
    """The physical memory in a kdump-compressed file, or in one part of a split one."""

    tells_extent = True

    def __init__(self, source: Source) -> None:
        """Read the headers. Raises DumpError when they are damaged."""
        self._source = source
        self.name = source.name
        data = source.read_at(0, _HEADER_SIZE)
        if len(data) < _HEADER_SIZE:
            raise DumpError(f"{self.name}: truncated in the header", status=10)
        self.byte_order = self._find_byte_order(data)
        self._header = self._parse_header(data)
        self.arch, self.word_size, self._alignment = _arch(self._header.machine)
        self._block = self._header.block_size
        self._sub = self._parse_sub_header()
        self._pages = self._sub.pages or self._header.pages
        self._place_tables()
        self._counts = array("Q", [0])
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._bitmap_chunk: tuple[int, bytes] = (-1, b"")
        self._base = self._find_base()
        """The address of page 0."""

    @property
    def format(self) -> str:
        return f"kdump-compressed, version {self._header.version}{self._source.container}"

    @property
    def dump_level(self) -> int:
        return self._sub.dump_level

    @property
    def compression(self) -> str:
        """The compression by the header's flags; a page that does not shrink is stored as it is."""
        return ", ".join(n for bit, n in _COMPRESSION.items() if self._header.status & bit) or "none"

    @property
    def is_part(self) -> bool:
        """Whether this file is one part of a dump made with ``makedumpfile --split``."""
        return bool(self._sub.split)

    @property
    def part(self) -> Range:
        """The physical addresses in this part; all of them if there is only one part."""
        numbers = self._numbers
        return Range(self._address(numbers.start), self._address(max(numbers.start, numbers.stop)))

    @property
    def _numbers(self) -> range:
        """The page frames in this part."""
        return range(self._sub.start_page, self._sub.end_page) if self.is_part else range(self._pages)

    @property
    def details(self) -> Mapping[str, object]:
        found: dict[str, object] = {"machine": self._header.machine, "block size": self._block}
        if self.is_part:
            found["split"] = f"page frames {self._sub.start_page} to {self._sub.end_page}"
        return found

    @property
    def release(self) -> str | None:
        return self._header.release or None

    @property
    def time(self) -> int | None:
        """The time of the dump or of the crash, in seconds since 1970."""
        return self._header.time or None

    @property
    def damage(self) -> tuple[str, ...]:
        found = [*self._source.damage]
        if self._header.status & _INCOMPLETE:
            found.append("incomplete: makedumpfile marked it so, it ran out of space")
        try:
            found += self._cut()
        except DumpError as error:
            found.append(error.what)
        return tuple(found)

    def read(self, address: int, size: int) -> bytes:
        """Return physical memory.

        Raises NotInDumpError for an address not in the dump, DumpError for damage.
        """
        found = bytearray()
        while len(found) < size:
            page, start = divmod(address + len(found) - self._base, self._block)
            found += self._page(page)[start : start + size - len(found)]
        return bytes(found)

    def physical_of(self, virtual: int) -> tuple[int, int] | None:
        """Return None: the format has no virtual addresses."""
        return None

    def memory(self) -> Iterator[Range]:
        """Yield the machine's memory that the dump covers; after 65536 ranges the rest counts as one."""
        start: int | None = None
        found = 0
        for first, chunk in self._chunks(self._exists_at):
            for run_start, run_end, present in _runs(chunk):
                if present and start is None:
                    start = first + run_start
                elif not present and start is not None:
                    yield Range(self._address(start), self._address(first + run_start))
                    start, found = None, found + 1
                    if found == _RANGES_MAX:
                        yield Range(self._address(first + run_end), self._address(self._pages))
                        return
        if start is not None:
            yield Range(self._address(start), self._address(self._pages))

    def saved_bytes(self) -> int:
        """Return how many bytes of memory are saved, by the bitmap."""
        return sum(_count(chunk) for _, chunk in self._chunks(self._saved_at)) * self._block

    def check(self, *, everything: bool) -> Checked | None:
        """Check pages from all over the dump, or all pages. Raises DumpError when that is not possible.

        Pages beyond the end of the file are reported by `damage`.
        """
        saved, size = self._saved_pages(), self._source.size
        slow = any(name in self.compression for name in _SLOW)
        most = _UNPACKED_SLOWLY_MAX if slow else _UNPACKED_MAX
        step = 1 if everything else -(-saved // _LOOKED_AT_MAX) or 1
        unpack_step = 1 if everything else -(-saved // step // most) or 1
        looked_at = unpacked = damaged = 0
        first = ""
        for index, (offset, length, flags) in self._descriptors(saved, step):
            if offset + length > size:
                continue
            looked_at += 1
            unpack = index // step % unpack_step == 0
            unpacked += unpack
            fault = self._fault(offset, length, flags, unpack=unpack)
            if fault:
                damaged += 1
                first = first or f"page {index + 1} of {saved}, at offset {offset:#x}: {fault}"
        return Checked(saved, looked_at, unpacked, damaged, first)

    def _descriptors(self, count: int, step: int) -> Iterator[tuple[int, tuple[int, int, int]]]:
        """Yield every `step`th saved page: its index among the saved ones; its offset, size and flags."""
        layout = struct.Struct("<qII8x" if self.byte_order == "little" else ">qII8x")
        at_once = max(_DESCRIPTORS_AT_ONCE // step, 1) * step
        for start in range(0, count, at_once):
            size = min(at_once, count - start) * _DESCRIPTOR_SIZE
            table = self._source.read_at(self._descriptors_at + start * _DESCRIPTOR_SIZE, size)
            for at in range(0, len(table) - _DESCRIPTOR_SIZE + 1, step * _DESCRIPTOR_SIZE):
                yield start + at // _DESCRIPTOR_SIZE, layout.unpack_from(table, at)

    def _fault(self, offset: int, size: int, flags: int, *, unpack: bool) -> str:
        """Return what is wrong with a page, by its descriptor; "" if nothing is."""
        if offset == 0:
            return "it was never written"
        if offset < self._descriptors_at or not 0 < size <= 2 * self._block:
            return f"{size} bytes cannot be there"
        data = self._source.read_written(offset, size)
        name = _compression(flags)
        if name is None:
            return "" if size == self._block == len(data) else f"{len(data)} bytes, flags {flags:#x}"
        if not pages.looks_right(name, data, self._block):
            return f"no data of {name}"
        try:
            if unpack:
                pages.unpack(name, data, self._block)
        except pages.DamagedPageError as error:
            return f"{name}: {error}"
        return ""

    def was_left_out(self, address: int) -> bool | None:
        """Return whether the machine has memory there that is not in the dump."""
        page = (address - self._base) // self._block
        return self._bit(self._exists_at, page) and not self._bit(self._saved_at, page)

    def notes(self) -> Iterator[Note]:
        sub = self._sub
        yield from read_notes(self.name, self._source.read_at, sub.notes_at, sub.notes_size, self.byte_order)

    def vmcoreinfo(self) -> bytes | None:
        if self._sub.vmcoreinfo_size:
            size = min(self._sub.vmcoreinfo_size, _VMCOREINFO_MAX)
            return self._source.read_at(self._sub.vmcoreinfo_at, size) or None
        return vmcoreinfo_of(self.notes())

    def _find_byte_order(self, data: bytes) -> ByteOrder:
        for order in ("little", "big"):
            if 0 < int.from_bytes(data[8:12], order) <= _VERSION_MAX:
                return order
        raise self._damaged("no version in its header", 8)

    def _parse_header(self, data: bytes) -> _Header:
        fields = [
            data[_UTSNAME_AT + n * _UTSNAME_FIELD : _UTSNAME_AT + (n + 1) * _UTSNAME_FIELD] for n in range(6)
        ]
        texts = [each.partition(b"\0")[0].decode("ascii", "backslashreplace") for each in fields]
        words = struct.Struct(("<" if self.byte_order == "little" else ">") + "5I")
        # The time is a struct timeval of 16 bytes aligned to 8, of 8 bytes, or of 16 bytes aligned to 4.
        for time_at, status_at in ((408, 424), (404, 412), (404, 420)):
            status, block, sub, bitmap, page_count = words.unpack_from(data, status_at)
            plausible = _BLOCK_SIZE_MIN <= block <= _BLOCK_SIZE_MAX and not block & (block - 1)
            if plausible and 0 < sub < 1 << 16 and bitmap:
                time = int.from_bytes(data[time_at : time_at + 4], self.byte_order)
                if self.byte_order == "big" and status_at - time_at == 16:
                    time = int.from_bytes(data[time_at : time_at + 8])
                return _Header(
                    version=int.from_bytes(data[8:12], self.byte_order),
                    release=texts[_RELEASE],
                    machine=texts[_MACHINE],
                    time=time,
                    status=status,
                    block_size=block,
                    sub_blocks=sub,
                    bitmap_blocks=bitmap,
                    pages=page_count,
                )
        raise self._damaged("no size of pages and bitmaps that makes sense in its header", 424)

    def _parse_sub_header(self) -> _SubHeader:
        fields = _sub_header_fields(self.byte_order, self.word_size, self._alignment)
        data = self._source.read_at(self._block, self._block)
        values = dict.fromkeys(fields, 0)
        for name, (version, at, layout) in fields.items():
            if self._header.version >= version and at + layout.size <= len(data):
                (values[name],) = layout.unpack_from(data, at)
        wide = self._header.version >= _NEWEST_VERSION
        return _SubHeader(
            phys_base=values["phys_base"],
            dump_level=values["dump_level"],
            split=values["split"],
            start_page=values["start_pfn_64" if wide else "start_pfn"],
            end_page=values["end_pfn_64" if wide else "end_pfn"],
            vmcoreinfo_at=values["offset_vmcoreinfo"],
            vmcoreinfo_size=values["size_vmcoreinfo"],
            notes_at=values["offset_note"],
            notes_size=values["size_note"],
            pages=values["max_mapnr_64"],
        )

    def _find_base(self) -> int:
        """Return where memory begins, if the pages are counted from there: not all writers do that."""
        if not part_of(self.arch).counts_from_memory or not self._bit(self._exists_at, 0):
            return 0
        return self._sub.phys_base - self._sub.phys_base % self._block

    def _address(self, page: int) -> int:
        return self._base + page * self._block

    def _place_tables(self) -> None:
        bitmap_size = self._header.bitmap_blocks * self._block // 2
        if -(-self._pages // 8) > bitmap_size:
            raise self._damaged(f"bitmaps of {bitmap_size} bytes for {self._pages} pages", 436)
        self._bitmap_size = -(-self._pages // 8)
        self._exists_at = self._block * (1 + self._header.sub_blocks)
        self._saved_at = self._exists_at + bitmap_size
        self._descriptors_at = self._saved_at + bitmap_size
        if self._bitmap_size > _BITMAP_MAX:
            raise self._damaged(f"{self._pages} pages; {8 * _BITMAP_MAX} at most are read", 436)
        if self._saved_at + self._bitmap_size > self._source.size:
            raise DumpError(
                f"{self.name}: truncated: its bitmaps end at {self._descriptors_at:#x}, the file has"
                f" {self._source.size} bytes",
                status=10,
            )

    def _cut(self) -> Iterator[str]:
        """Yield why the file ends before the dump does. Raises DumpError when it cannot be read."""
        count, size = self._saved_pages(), self._source.size
        end = self._descriptors_at + count * _DESCRIPTOR_SIZE
        if end > size:
            yield f"truncated: the descriptors of {count} pages end at {end:#x}, the file has {size} bytes"
        elif (end := self._end_of_pages(count)) > size:
            yield f"truncated: its pages end at {end:#x}, the file has {size} bytes"
        elif count and end == 0 and not self._header.status & _INCOMPLETE:
            yield "truncated: its last pages were never written"

    def _saved_pages(self) -> int:
        """Return how many pages this file has, by the bitmap."""
        first, end = self._numbers.start, min(self._numbers.stop, self._pages)
        if first >= end:
            return 0
        through_last = self._count_before(end - 1) + self._bit(self._saved_at, end - 1)
        return through_last - self._count_before(first)

    def _end_of_pages(self, count: int) -> int:
        """Return where the last page ends in the file; 0 if its descriptor was not written.

        The pages are in order. But pages full of zeros may share one place, before all others
        (write_kdump_pages_cyclic() of makedumpfile, write_dump_pages() of QEMU).
        """
        layout = struct.Struct("<qI12x" if self.byte_order == "little" else ">qI12x")
        found = 0
        for stop in range(count, max(count - _DESCRIPTORS_LOOKED_AT, 0), -_DESCRIPTORS_AT_ONCE):
            start = max(stop - _DESCRIPTORS_AT_ONCE, 0)
            where, size = self._descriptors_at + start * _DESCRIPTOR_SIZE, (stop - start) * _DESCRIPTOR_SIZE
            table = self._source.read_at(where, size)
            last = table[-_DESCRIPTOR_SIZE:]
            if stop == count and not any(last):
                return 0
            if table != last * (stop - start):
                return max(found, max(map(sum, layout.iter_unpack(table))))
            found = max(found, sum(layout.unpack(last)))
        return found

    def _page(self, number: int) -> bytes:
        page = self._cache.get(number)
        if page is None:
            page = self._read_page(number)
            self._cache[number] = page
            if len(self._cache) > _CACHED_PAGES:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(number)
        return page

    def _read_page(self, number: int) -> bytes:
        address = self._address(number)
        if address not in self.part:
            part = "; it is in another part of this split dump" if self.is_part else ""
            raise self._missing(address, f"is not in it{part}")
        if not self._bit(self._saved_at, number):
            exists = self._bit(self._exists_at, number)
            raise self._missing(
                address, "was left out when the dump was made" if exists else "is in a memory hole"
            )
        index = self._count_before(number)
        if self.is_part:
            index -= self._count_before(self._sub.start_page)
        where = self._descriptors_at + index * _DESCRIPTOR_SIZE
        descriptor = self._source.read_written(where, _DESCRIPTOR_SIZE)
        layout = struct.Struct("<qII" if self.byte_order == "little" else ">qII")
        if len(descriptor) < _DESCRIPTOR_SIZE:
            raise self._missing(address, "is lost: the file is truncated")
        offset, size, flags = layout.unpack_from(descriptor)
        if offset == 0:
            raise self._missing(address, "is lost: the dump is incomplete")
        if offset < 0 or size > 2 * self._block:
            raise self._damaged(f"the page of {address:#x} has {size} bytes at {offset:#x}", where)
        return self._unpack(address, offset, size, flags)

    def _unpack(self, address: int, offset: int, size: int, flags: int) -> bytes:
        data = self._source.read_written(offset, size)
        if len(data) < size:
            raise self._missing(address, "is lost: the file is truncated")
        name = _compression(flags)
        try:
            if name is not None:
                return pages.unpack(name, data, self._block)
        except pages.DamagedPageError as error:
            raise self._damaged(f"the page of {address:#x}: {name}: {error}", offset) from error
        if size != self._block:
            raise self._damaged(f"the page of {address:#x} has {size} bytes, flags {flags:#x}", offset)
        return data

    def _count_before(self, page: int) -> int:
        """Return how many pages before this one were saved."""
        chunk = page // _CHUNK_PAGES
        while len(self._counts) <= chunk:
            done = len(self._counts) - 1
            size = min(chunk - done, _CHUNKS_AT_ONCE) * _CHUNK
            data = self._source.read_at(self._saved_at + done * _CHUNK, size)
            if data == _EMPTY[:size]:
                self._counts.extend([self._counts[-1]] * (size // _CHUNK))
                continue
            for start in range(0, size, _CHUNK):
                self._counts.append(self._counts[-1] + _count(data[start : start + _CHUNK]))
        data = self._chunk(self._saved_at, chunk)
        byte, bit = divmod(page % _CHUNK_PAGES, 8)
        before = int.from_bytes(data[:byte]).bit_count()
        return self._counts[chunk] + before + (data[byte] & ((1 << bit) - 1)).bit_count()

    def _bit(self, bitmap_at: int, page: int) -> bool:
        if page < 0:
            return False
        data = self._chunk(bitmap_at, page // _CHUNK_PAGES)
        byte, bit = divmod(page % _CHUNK_PAGES, 8)
        return byte < len(data) and bool(data[byte] >> bit & 1)

    def _chunk(self, bitmap_at: int, number: int) -> bytes:
        where = bitmap_at + number * _CHUNK
        if self._bitmap_chunk[0] != where:
            self._bitmap_chunk = (where, self._source.read_at(where, _CHUNK))
        return self._bitmap_chunk[1]

    def _chunks(self, bitmap_at: int) -> Iterator[tuple[int, bytes]]:
        """Yield a bitmap's parts, each with the number of its first page; bits after the last page are 0.

        Large parts whose bits are all equal stay whole, because they are quick to recognise.
        """
        for start in range(0, self._bitmap_size, _CHUNKS_AT_ONCE * _CHUNK):
            size = min(_CHUNKS_AT_ONCE * _CHUNK, self._bitmap_size - start)
            data = self._source.read_at(bitmap_at + start, size)
            if start + size == self._bitmap_size and self._pages % 8:
                data = data[:-1] + bytes([data[-1] & ((1 << self._pages % 8) - 1)])
            if data in (_EMPTY, _FULL):
                yield start * 8, data
            else:
                yield from (
                    ((start + part) * 8, data[part : part + _CHUNK]) for part in range(0, size, _CHUNK)
                )

    def _missing(self, address: int, why: str) -> NotInDumpError:
        return NotInDumpError(f"{self.name}: physical address {address:#x} {why}", address=address)

    def _damaged(self, what: str, offset: int) -> DumpError:
        return DumpError(f"{self.name}: damaged: {what} (offset {offset:#x})", status=10)


class SplitDump(CompressedDump):
    """All parts of a dump made with ``makedumpfile --split``; the first part's header holds for all."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Open the parts. Raises DumpError when they are not the parts of one dump."""
        parts = [CompressedDump(each) for each in sources]
        for each in parts:
            if not each.is_part:
                raise DumpError(f"{each.name}: not a part of a split dump", hint="name one dump only")
            if each._pages != parts[0]._pages or each.release != parts[0].release:
                raise DumpError(f"{each.name} and {parts[0].name} are parts of different dumps")
        super().__init__(sources[0])
        self._parts = parts

    @property
    def is_part(self) -> bool:
        return False

    @property
    def details(self) -> Mapping[str, object]:
        return {**super().details, "split": f"{len(self._parts)} parts"}

    @property
    def damage(self) -> tuple[str, ...]:
        found = [f"{each.name}: {what}" for each in self._parts for what in each.damage]
        expected = self._address(0)
        for each in sorted(self._parts, key=lambda part: part.part.start):
            if each.part.start > expected:
                found.append(f"a part is missing: physical addresses {Range(expected, each.part.start)}")
            expected = max(expected, each.part.end)
        if expected < self._address(self._pages):
            found.append(f"a part is missing: physical addresses from {expected:#x}")
        return tuple(found)

    def check(self, *, everything: bool) -> Checked | None:
        """Check the pages of all parts."""
        found = [checked for each in self._parts if (checked := each.check(everything=everything))]
        return Checked(
            sum(each.saved for each in found),
            sum(each.looked_at for each in found),
            sum(each.unpacked for each in found),
            sum(each.damaged for each in found),
            next((each.first for each in found if each.first), ""),
        )

    def _read_page(self, number: int) -> bytes:
        for each in self._parts:
            if number in each._numbers:
                return each._read_page(number)
        raise self._missing(self._address(number), "is in a part of this split dump that was not named")


def _compression(flags: int) -> str | None:
    return next((name for bit, name in _COMPRESSION.items() if flags & bit), None)


def _arch(machine: str) -> tuple[str, int, int]:
    """Return our name of a machine, and the size of its long and alignment of its long long in bytes."""
    row = names.of_uname(machine.lower())  # QEMU has some in capitals (ELF_MACHINE_UNAME)
    if row is None:  # some writers leave it open; nearly all machines are like this
        return machine or "unknown", 8, 8
    return row.name, row.elf.bits // 8, row.long_long_alignment


def _sub_header_fields(
    order: ByteOrder, word: int, alignment: int
) -> dict[str, tuple[int, int, struct.Struct]]:
    """Return each field's first version, offset and layout, for these sizes in bytes.

    `word` is the size of a long, `alignment` that of a long long.
    """
    prefix = "<" if order == "little" else ">"
    long, offset, wide = {8: "Q", 4: "I"}[word], "q", "Q"
    fields = (
        ("phys_base", 1, long), ("dump_level", 1, "i"), ("split", 2, "i"), ("start_pfn", 2, long),
        ("end_pfn", 2, long), ("offset_vmcoreinfo", 3, offset), ("size_vmcoreinfo", 3, long),
        ("offset_note", 4, offset), ("size_note", 4, long), ("offset_eraseinfo", 5, offset),
        ("size_eraseinfo", 5, long), ("start_pfn_64", 6, wide), ("end_pfn_64", 6, wide),
        ("max_mapnr_64", 6, wide),
    )  # fmt: skip
    found: dict[str, tuple[int, int, struct.Struct]] = {}
    position = 0
    for name, version, code in fields:
        layout = struct.Struct(prefix + code)
        step = alignment if layout.size == 8 else layout.size
        position = -(-position // step) * step
        found[name] = (version, position, layout)
        position += layout.size
    return found


def _count(chunk: bytes) -> int:
    return 0 if chunk == _EMPTY[: len(chunk)] else int.from_bytes(chunk).bit_count()


def _runs(chunk: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yield (first bit, end, value) of the runs of equal bits, lowest bit first."""
    if chunk in (_EMPTY, _FULL):
        yield 0, 8 * len(chunk), chunk == _FULL
        return
    total = len(chunk) * 8
    bits = int.from_bytes(chunk, "little")
    position = 0
    while position < total:
        present = bool(bits & 1)
        rest = ~bits if present else bits
        length = (rest & -rest).bit_length() - 1 if rest else total
        length = min(length, total - position)
        yield position, position + length, present
        bits >>= length
        position += length
