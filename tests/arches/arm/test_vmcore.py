"""Addresses in dumps, through page tables written by hand from the Arm ARM (DDI 0406, B3.5 and B3.6)."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.arm.vmcore import LongTables, ShortTables
from pykexec.kdump import makedumpfile
from pykexec.memory import Range
from pykexec.vmcore import Dump, NotInDumpError
from pykexec.vmcore.readers import Tools, readers
from tests.support.vmcore import Kdump, Part, TableBuilder, elf, pages_of, vmcoreinfo_note

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
RAM = 0x40000000
PAGE_OFFSET = 0xC0000000
VMALLOC = 0xF0800000
LINES = {"PAGESIZE": 4096, "SYMBOL(_stext)": "c0300000", "SYMBOL(swapper_pg_dir)": "c0204000"}
ROOT = RAM + 0x204000
MARK = b"in the linear map"


class Short:
    """Short descriptors: a table of 4096 entries, and tables of 256."""

    def __init__(self) -> None:
        self.memory = {ROOT: bytearray(16 * KIB)}

    def section(self, virtual: int, physical: int) -> None:
        self._set(ROOT, virtual >> 20, physical | 0x40E)

    def supersection(self, virtual: int, physical: int) -> None:
        """Its address has 40 bits, those from 32 on in two places; the entry is there 16 times."""
        entry = physical & 0xFF000000 | 1 << 18 | (physical >> 32 & 0xF) << 20 | (physical >> 36) << 5 | 2
        for number in range(16):
            self._set(ROOT, (virtual >> 20) + number, entry)

    def page(self, virtual: int, physical: int) -> None:
        self._set(self._table(virtual), virtual >> 12 & 0xFF, physical | 0x45E)

    def large_page(self, virtual: int, physical: int) -> None:
        for number in range(16):
            self._set(self._table(virtual), (virtual >> 12 & 0xFF) + number, physical | 0x45D)

    def _table(self, virtual: int) -> int:
        at = RAM + 0x300000 + (virtual >> 20) * KIB
        self.memory.setdefault(at, bytearray(KIB))
        self._set(ROOT, virtual >> 20, at | 0x01)
        return at

    def _set(self, table: int, index: int, entry: int) -> None:
        struct.pack_into("<I", self.memory[table], 4 * index, entry)

    def parts(self) -> list[Part]:
        return [Part(address, bytes(data)) for address, data in self.memory.items()]

    def read(self, address: int) -> int:
        (start,) = (each for each, data in self.memory.items() if each <= address < each + len(data))
        return int(struct.unpack_from("<I", self.memory[start], address - start)[0])


def long_tables() -> TableBuilder:
    """Long descriptors: three levels, the first of 4 entries."""
    return TableBuilder(
        page_size=4096,
        levels=3,
        next_free=ROOT,
        top_bits=2,
        table=lambda address: address | 3,
        page=lambda address: address | 0x40_0000_0000_0713,
        block=lambda address: address | 0x40_0000_0000_0711,
    )


def compressed(folder: Path, lines: dict[str, object], *parts: Part) -> Dump:
    """As makedumpfile writes it: the first page is that at which memory begins."""
    pages = pages_of([Part(part.physical - RAM, part.content) for part in parts])
    pages.setdefault(0, bytes(4096))
    path = folder / "vmcore"
    made = Kdump(pages, machine="armv7l", lines=lines, long=4, phys_base=RAM)
    path.write_bytes(made.build())
    return Dump.open(path)


def test_pages_are_counted_from_where_memory_begins(tmp_path: Path) -> None:
    """makedumpfile.h, ARCH_PFN_OFFSET of arm."""
    dump = compressed(tmp_path, dict(LINES), Part(RAM + 0x5000, MARK))
    assert dump.memory == (Range(RAM, RAM + 0x6000),)
    assert dump.read_physical(RAM + 0x5000, len(MARK)) == MARK
    assert dump.read_virtual(PAGE_OFFSET + 0x5000, len(MARK)) == MARK
    assert dump.contents.was_left_out(RAM + 0x4000)
    for outside in (0x5000, RAM - 1, RAM + 0x6000):
        assert not dump.contents.was_left_out(outside)
        with pytest.raises(NotInDumpError, match="is not in it"):
            dump.read_physical(outside, 1)


def test_others_count_them_from_zero(tmp_path: Path) -> None:
    """QEMU does (dump.c), and says where memory begins all the same."""
    path = tmp_path / "vmcore"
    pages = {RAM // 4096 + 5: MARK.ljust(4096, b"\0")}
    holes = frozenset(range(RAM // 4096))
    dump = Kdump(pages, holes, machine="armv7l", lines=dict(LINES), long=4, phys_base=RAM)
    path.write_bytes(dump.build())
    assert Dump.open(path).read_virtual(PAGE_OFFSET + 0x5000, len(MARK)) == MARK


def test_parts_of_a_split_dump(tmp_path: Path) -> None:
    pages = {number: bytes([number]) * 4096 for number in range(8)}
    paths = [tmp_path / "1", tmp_path / "2"]
    for path, split in zip(paths, ((0, 3), (3, 8)), strict=True):
        made = Kdump(pages, machine="armv7l", lines=dict(LINES), long=4, phys_base=RAM, split=split)
        path.write_bytes(made.build())
    whole = Dump.open(*paths)
    assert whole.contents.damage == ()
    assert [whole.read_physical(RAM + 4096 * n, 1) for n in range(8)] == [bytes([n]) for n in range(8)]
    with pytest.raises(NotInDumpError, match="0x40000000 is not in it; it is in another part"):
        Dump.open(paths[1]).read_physical(RAM, 1)
    assert Dump.open(paths[0]).contents.damage == ()


@pytest.mark.parametrize("stext", ["80101234", "c0008000", "b0300000", "40208000"])
def test_the_linear_map_begins_near_the_kernel(stext: str, tmp_path: Path) -> None:
    """As arch/arm/Kconfig has it: VMSPLIT_2G, _3G, _3G_OPT, _1G."""
    lines = {**LINES, "SYMBOL(_stext)": stext}
    dump = compressed(tmp_path, lines, Part(RAM + 0x5000, MARK))
    assert dump.read_virtual((int(stext, 16) & 0xFE000000) + 0x5000, len(MARK)) == MARK


def test_beyond_the_linear_map_nothing_is_guessed(tmp_path: Path) -> None:
    dump = compressed(tmp_path, dict(LINES), Part(RAM + 0x30000000, MARK))
    with pytest.raises(NotInDumpError):
        dump.read_virtual(PAGE_OFFSET + 0x30000000, 1)


def test_short_descriptors(tmp_path: Path) -> None:
    built = Short()
    built.page(VMALLOC, RAM + 0x700000)
    built.page(VMALLOC + 4096, RAM + 0x703000)
    built.large_page(VMALLOC + 0x10000, RAM + 0x710000)
    built.section(VMALLOC + MIB, RAM + 0x800000)
    built.supersection(0xF1000000, RAM + 0x1000000)
    parts = (
        Part(RAM + 0x700000, b"a" * 4096), Part(RAM + 0x703000, b"b" * 4096),
        Part(RAM + 0x71F000, b"64 KiB"), Part(RAM + 0x8F0000, b"1 MiB"), Part(RAM + 0x1F00000, b"16 MiB"),
    )  # fmt: skip
    dump = compressed(tmp_path, dict(LINES), *built.parts(), *parts)
    assert dump.read_virtual(VMALLOC + 4095, 2) == b"ab"
    assert dump.read_virtual(VMALLOC + 0x1F000, 6) == b"64 KiB"
    assert dump.read_virtual(VMALLOC + MIB + 0xF0000, 5) == b"1 MiB"
    assert dump.read_virtual(0xF1F00000, 6) == b"16 MiB"
    with pytest.raises(NotInDumpError, match=f"{VMALLOC + 8192:#x}"):
        dump.read_virtual(VMALLOC + 8192, 1)


def test_long_descriptors(tmp_path: Path) -> None:
    """Kernels with LPAE say so; their memory may be above 4 GiB."""
    built = long_tables()
    built.map(VMALLOC, RAM + 0x700000)
    built.map(VMALLOC + 4096, RAM + 0x703000)
    built.map(VMALLOC + 2 * MIB, RAM + 0x800000, depth=1)
    lines = {**LINES, "SYMBOL(swapper_pg_dir)": "c0204000", "CONFIG_ARM_LPAE": "y"}
    parts = (
        Part(RAM + 0x700000, b"a" * 4096), Part(RAM + 0x703000, b"b" * 4096),
        Part(RAM + 0x9F0000, b"2 MiB"),
    )  # fmt: skip
    dump = compressed(tmp_path, lines, *built.parts(), *parts)
    assert dump.read_virtual(VMALLOC + 4095, 2) == b"ab"
    assert dump.read_virtual(VMALLOC + 2 * MIB + 0x1F0000, 5) == b"2 MiB"


def test_the_same_in_core_files(tmp_path: Path) -> None:
    built = Short()
    built.page(VMALLOC, RAM + 0x700000)
    memory = bytearray(8 * MIB)
    for part in (*built.parts(), Part(RAM + 0x700000, b"a page")):
        memory[part.physical - RAM : part.physical - RAM + len(part.content)] = part.content
    path = tmp_path / "vmcore"
    parts = [Part(RAM, bytes(memory), PAGE_OFFSET)]
    path.write_bytes(elf(parts, notes=vmcoreinfo_note(dict(LINES)), machine="arm", elf_class=32))
    assert Dump.open(path).read_virtual(VMALLOC, 6) == b"a page"


_PAGES = {"SYMBOL(init_uts_ns)": "c0005000", "SYMBOL(mem_map)": "c0006000", "SIZE(page)": 36}


@pytest.mark.parametrize(
    ("stext", "can_read"),
    [("c0300000", True), ("80101234", True), ("c0400000", False), ("c1000000", False)],
)
def test_whether_makedumpfile_reads_it(stext: str, can_read: bool, tmp_path: Path) -> None:
    """arch/arm.c there: the linear map begins at _stext & 0xffc00000. What it did is test_kdump.py's."""
    start = int(stext, 16) & 0xFE000000
    lines = {**LINES, **_PAGES, "OSRELEASE": "6.1.0", "SYMBOL(_stext)": stext}
    lines |= {"SYMBOL(init_uts_ns)": f"{start + 0x5000:x}", "SYMBOL(swapper_pg_dir)": f"{start + 0x4000:x}"}
    dump = compressed(tmp_path, lines, Part(RAM + 0x4000, bytes(0x2000)))
    found = readers(dump, Tools(makedumpfile.packaged("1.7.2"), None, "arm"))["makedumpfile"]
    assert found.can_read == can_read
    assert can_read == (not any("_stext" in each for each in found.problems))


@given(st.dictionaries(st.integers(0, 0xFFF), st.integers(0, 0xFFF), min_size=1, max_size=9), st.data())
def test_any_section_goes_where_it_was_mapped(mapped: dict[int, int], data: st.DataObject) -> None:
    built = Short()
    for virtual, physical in mapped.items():
        built.section(virtual << 20, physical << 20)
    number = data.draw(st.sampled_from(sorted(mapped)))
    offset = data.draw(st.integers(0, MIB - 1))
    place = ShortTables(ROOT).translate(number << 20 | offset, built.read)
    assert place == (mapped[number] << 20 | offset, MIB - offset)


@given(st.integers(0, (1 << 28) - 1), st.integers(0, 0xFFFFF), st.integers(0, 4095))
def test_any_long_descriptor(frame: int, page: int, offset: int) -> None:
    built = long_tables()
    built.map(page << 12, frame << 12)

    def read(address: int) -> int:
        start = address & -4096
        return int.from_bytes(built.memory[start][address - start : address - start + 8], "little")

    place = LongTables(ROOT).translate(page << 12 | offset, read)
    assert place == (frame << 12 | offset, 4096 - offset)
    block = built.memory[ROOT]
    struct.pack_into("<Q", block, (page >> 18) * 8, (frame >> 18) << 30 | 1)
    assert LongTables(ROOT).translate(page << 12, read) == (
        (frame >> 18) << 30 | (page & 0x3FFFF) << 12,
        GIB - ((page & 0x3FFFF) << 12),
    )


@pytest.mark.parametrize("tables", [ShortTables(ROOT), LongTables(ROOT)])
@pytest.mark.parametrize("entry", [0, 4])
def test_what_is_not_mapped(tables: ShortTables | LongTables, entry: int) -> None:
    assert tables.translate(VMALLOC, lambda _: entry) is None


@pytest.mark.parametrize("tables", [ShortTables(ROOT), LongTables(ROOT)])
def test_addresses_of_more_than_32_bits(tables: ShortTables | LongTables) -> None:
    assert tables.translate(1 << 32 | VMALLOC, lambda _: 0x40000002 | 1) is None
