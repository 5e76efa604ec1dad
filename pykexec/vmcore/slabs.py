"""Check whether pages of the kernel's own memory were left out: those of the slab allocator.

A makedumpfile that does not know the kernel leaves them out without a word. struct page tells which pages
they are (include/linux/page-flags.h), and VMCOREINFO tells where each struct page is (mm/sparse.c).
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from pykexec.vmcore.dump import Dump
from pykexec.vmcore.errors import DumpError, NotInDumpError
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

_GROUPS_MAX = 512
"""The most groups of struct page to look at; a group fills one page."""
_IN_GROUP_MAX = 256
"""The most slab pages to take from a group: with the head of a large slab it tells of pages beyond it."""
_SECTION_FLAGS = 0xFF
"""The bits of section_mem_map that are no address (SECTION_MAP_MASK; a struct page has about 64 bytes)."""
_ORDER_MAX = 10
_TYPE = 0xFF00_0000


class Slabs(NamedTuple):
    """The number of slab pages that were looked for, and how many of them are not in the dump."""

    seen: int
    missing: int


def look(dump: Dump) -> Slabs | None:
    """Look for some slab pages from all over the memory; return None where that is not possible."""
    reader = _Reader.make(dump)
    if reader is None:
        return None
    seen = missing = 0
    for first in _groups(dump, reader.in_group):
        try:
            for address in itertools.islice(reader.slab_pages(first), _IN_GROUP_MAX):
                seen += 1
                missing += dump.contents.was_left_out(address) is True
        except NotInDumpError:
            continue
        except DumpError:
            return None
    return Slabs(seen, missing) if seen else None


def _groups(dump: Dump, in_group: int) -> Iterator[int]:
    """Yield numbers of page frames, the first of each group, at equal distances in the machine's memory."""
    page = dump.vmcoreinfo.page_size or 1
    size = in_group * page
    count = sum(each.size // size for each in dump.memory)
    step = max(count // _GROUPS_MAX, 1)
    number = 0
    for each in dump.memory:
        start, end = -(-each.start // size), each.end // size
        for group in range(start + -number % step, end, step):
            yield group * in_group
        number += max(end - start, 0)


class _Layout(NamedTuple):
    """The layout of struct page and struct mem_section, from VMCOREINFO. Sizes and offsets are in bytes."""

    page_size: int
    struct: int
    flags: int
    mapcount: int
    sections: int
    section: int
    section_map: int
    section_bits: int

    @classmethod
    def of(cls, info: VmcoreInfo) -> "_Layout | None":
        found = (
            info.page_size,
            info.size("page"),
            info.offset("page.flags"),
            info.offset("page._mapcount"),
            info.symbol("mem_section"),
            info.size("mem_section"),
            info.offset("mem_section.section_mem_map"),
            info.number("SECTION_SIZE_BITS"),
        )
        values = tuple(each for each in found if each is not None)
        if len(values) < len(found):
            return None
        layout = cls(*values)
        sound = 1 << 10 <= layout.page_size <= 1 << 20 and 32 <= layout.struct <= 256
        sound = sound and layout.flags + 8 <= layout.struct and layout.mapcount + 4 <= layout.struct
        return layout if sound and 8 <= layout.section <= 256 and 20 <= layout.section_bits <= 40 else None


class _Reader:
    """Reads struct page of 64-bit kernels with CONFIG_SPARSEMEM_EXTREME."""

    def __init__(self, dump: Dump, layout: _Layout) -> None:
        self._dump = dump
        self._layout = layout
        self._slab_value = dump.vmcoreinfo.number("PAGE_SLAB_MAPCOUNT_VALUE")
        self._slab_flag = dump.vmcoreinfo.number("PG_slab")
        self._head = dump.vmcoreinfo.number("PG_head_mask") or 0
        self.in_group = layout.page_size // layout.struct

    @classmethod
    def make(cls, dump: Dump) -> "_Reader | None":
        layout = _Layout.of(dump.vmcoreinfo)
        if layout is None or dump.word_size != 8 or dump.contents.was_left_out(0) is None:
            return None
        reader = cls(dump, layout)
        return None if reader._slab_value is None and reader._slab_flag is None else reader

    def slab_pages(self, first: int) -> Iterator[int]:
        """Yield physical addresses of a group's pages that belong to slabs. Raises DumpError."""
        layout = self._layout
        start = self._map_of(first) + first * layout.struct
        data = self._dump.read_virtual(start & (1 << 64) - 1, self.in_group * layout.struct)
        for index in range(self.in_group):
            at = index * layout.struct
            flags = self._number(data, at + layout.flags, 8)
            if self._is_slab(flags, self._number(data, at + layout.mapcount, 4)):
                pages = 1
                if flags & self._head and index + 1 < self.in_group:
                    pages = self._pages_of(self._number(data, at + layout.struct + layout.flags, 8))
                for page in range(first + index, first + index + pages):
                    yield page * layout.page_size

    def _pages_of(self, second: int) -> int:
        """Return how many pages a compound page has, from its second one (folio_order() since Linux 6.6)."""
        order = second & 0xFF
        return 1 << order if self._slab_value is not None and order <= _ORDER_MAX else 1

    def _is_slab(self, flags: int, mapcount: int) -> bool:
        value = self._slab_value
        if value is None:
            return bool(flags >> (self._slab_flag or 0) & 1)
        value &= (1 << 32) - 1
        if value & ~_TYPE == 0:  # Linux 6.12: a page has one type, which is a number
            return mapcount & _TYPE == value
        return mapcount & (0xF000_0000 | ~value) == 0xF000_0000

    def _map_of(self, page: int) -> int:
        """Return where the struct page of page frame 0 would be, for the section of this page frame."""
        layout = self._layout
        number = page * layout.page_size >> layout.section_bits
        per_root = layout.page_size // layout.section
        root = self._word(layout.sections + 8 * (number // per_root))
        found = self._word(root + number % per_root * layout.section + layout.section_map)
        return found & ~_SECTION_FLAGS

    def _word(self, address: int) -> int:
        return self._number(self._dump.read_virtual(address, 8), 0, 8)

    def _number(self, data: bytes, at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], self._dump.byte_order)
