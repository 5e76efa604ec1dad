"""Virtual addresses in dumps, through page tables written by hand from the Privileged Architecture."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.riscv64.vmcore import PageTables
from pykexec.vmcore import Dump, NotInDumpError
from tests.support.vmcore import Kdump, Part, TableBuilder, pages_of

MIB, GIB = 1 << 20, 1 << 30
LEVELS = {39: 3, 48: 4, 57: 5}
PAGE_OFFSET = {39: 0xFFFFFFD600000000, 48: 0xFFFFAF8000000000, 57: 0xFF60000000000000}
"""Documentation/arch/riscv/vm-layout.rst."""
TABLES_AT = 0x9000_0000
LINK, DISTANCE = 0xFFFFFFFF80000000, 0xFFFFFFFEFFE00000


def entry(address: int, bits: int) -> int:
    """Figure 62: the page number from bit 10 on."""
    return address >> 12 << 10 | bits


def tables(levels: int) -> TableBuilder:
    """Valid, and readable, writable, executable, user, global, accessed, dirty from bit 1 on."""
    leaf = 0b1110_0111 | 1 << 61  # with a memory type on top (Svpbmt)
    return TableBuilder(
        page_size=4096,
        levels=levels,
        next_free=TABLES_AT,
        top_bits=9,
        table=lambda address: entry(address, 1),
        page=lambda address: entry(address, leaf),
        block=lambda address: entry(address, leaf),
    )


def opened(folder: Path, built: TableBuilder, bits: int, *parts: Part) -> Dump:
    lines: dict[str, object] = {
        "PAGESIZE": 4096, "NUMBER(VA_BITS)": bits, "NUMBER(PAGE_OFFSET)": hex(PAGE_OFFSET[bits]),
        "NUMBER(phys_ram_base)": 0x80000000, "NUMBER(KERNEL_LINK_ADDR)": hex(LINK),
        "NUMBER(va_kernel_pa_offset)": hex(DISTANCE), "SYMBOL(swapper_pg_dir)": f"{built.root + DISTANCE:x}",
    }  # fmt: skip
    path = folder / "vmcore"
    pages = pages_of([*built.parts(), *parts], 4096)
    path.write_bytes(Kdump(pages, machine="riscv64", block=4096, lines=lines).build())
    return Dump.open(path)


@pytest.mark.parametrize("bits", LEVELS)
def test_addresses(bits: int, tmp_path: Path) -> None:
    built = tables(LEVELS[bits])
    vmalloc = PAGE_OFFSET[bits] - (1 << (bits - 3))
    built.map(vmalloc, 0xA000_0000)
    built.map(vmalloc + 4096, 0xA000_5000)
    built.map(vmalloc + 2 * MIB, 0xA020_0000, depth=1)
    built.map(vmalloc + GIB, 0x1_4000_0000, depth=2)
    parts = (
        Part(0xA000_0000, b"a" * 4096), Part(0xA000_5000, b"b" * 4096), Part(0xA021_2000, b"two MiB"),
        Part(0x1_4012_3000, b"one GiB"), Part(0x8020_2000, b"kernel text"), Part(0xB000_0000, b"linear"),
    )  # fmt: skip
    dump = opened(tmp_path, built, bits, *parts)
    assert dump.read_virtual(vmalloc + 4095, 2) == b"ab"
    assert dump.read_virtual(vmalloc + 2 * MIB + 0x12000, 7) == b"two MiB"
    assert dump.read_virtual(vmalloc + GIB + 0x123000, 7) == b"one GiB"
    assert dump.read_virtual(LINK + 0x2000, 11) == b"kernel text"
    assert dump.read_virtual(PAGE_OFFSET[bits] + 0x3000_0000, 6) == b"linear"
    with pytest.raises(NotInDumpError, match=f"{vmalloc + 8192:#x}"):
        dump.read_virtual(vmalloc + 8192, 1)


@given(st.sampled_from(sorted(LEVELS.values())), st.data())
def test_any_address_goes_where_it_was_mapped(levels: int, data: st.DataObject) -> None:
    built = tables(levels)
    numbers = st.integers(0, (1 << 44) - 1)
    virtual_pages = st.integers(0, (1 << 26) - 1)
    mapped = data.draw(st.dictionaries(virtual_pages, numbers, min_size=1, max_size=5))
    for page, number in mapped.items():
        built.map((1 << 64) - (1 << 38) + page * 4096, number * 4096)

    def read(address: int) -> int:
        start = address & -4096
        return int.from_bytes(built.memory[start][address - start : address - start + 8], "little")

    for page, number in mapped.items():
        virtual = (1 << 64) - (1 << 38) + page * 4096 + 5
        assert PageTables(built.root, levels).translate(virtual, read) == (number * 4096 + 5, 4091)


def test_pages_that_are_mapped_as_one() -> None:
    """Svnapot: of 64 KiB the page number ends with 8, on all 16 entries."""
    contiguous = 1 << 63 | entry(0xA001_0000 | 8 << 12, 0b1100_0111)
    found = PageTables(0, 1).translate(0x3_4567, lambda _: contiguous)
    assert found == (0xA001_4567, 0x1_0000 - 0x4567)
