"""Virtual addresses, through page tables written by hand from the processors' manuals."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.arm64 import vmcore as arm64_dumps
from pykexec.arch.x86_64 import vmcore as x86_64_dumps
from pykexec.vmcore import Dump, NotInDumpError, paging
from pykexec.vmcore.part import Tables
from pykexec.vmcore.vmcoreinfo import VmcoreInfo
from tests.support.vmcore import Kdump, Part, TableBuilder, pages_of

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
TABLES_AT = 0x4000_0000


def x86_64(levels: int, *, encrypted: int = 0) -> TableBuilder:
    """Intel SDM volume 3, 4.5: bit 0 present, bit 1 writable, bit 7 page size, bit 63 execute disable."""
    return TableBuilder(
        page_size=4096,
        levels=levels,
        next_free=TABLES_AT,
        top_bits=9,
        table=lambda address: address | 0x63 | encrypted,
        page=lambda address: address | 0x163 | 1 << 63 | encrypted,
        block=lambda address: address | 0x1E3 | 1 << 63 | encrypted,
    )


def arm64(page_size: int, virtual_bits: int, *, wide: bool = False) -> TableBuilder:
    """Arm ARM D8.3: bits 1:0 are 3 for tables and pages, 1 for blocks; attributes stand around the address.

    `wide`: 52-bit physical addresses, whose top bits are in 15:12 (64 KiB) or 9:8 (with LPA2).
    """
    shift = page_size.bit_length() - 1
    levels = -(-(virtual_bits - shift) // (shift - 3))

    def spread(address: int) -> int:
        if not wide:
            return address
        if page_size == 64 * KIB:
            return address & ((1 << 48) - 1) | (address >> 48) << 12
        return address & ((1 << 50) - 1) | (address >> 50) << 8

    # AttrIndx, SH (not with LPA2, where its bits are the address's), AF, nG; PXN and UXN on top.
    attributes = (2 << 2) | 1 << 10 | 1 << 11 | 3 << 53
    shared = 0 if wide and page_size != 64 * KIB else 3 << 8
    return TableBuilder(
        page_size=page_size,
        levels=levels,
        next_free=TABLES_AT,
        top_bits=virtual_bits - shift - (shift - 3) * (levels - 1),
        table=lambda address: spread(address) | 3,
        page=lambda address: spread(address) | attributes | shared | 3,
        block=lambda address: spread(address) | attributes | shared | 1,
    )


def opened(folder: Path, tables: TableBuilder, lines: dict[str, object], *parts: Part, block: int) -> Dump:
    path = folder / "vmcore"
    machine = {"x86_64": "x86_64"}.get(str(lines.pop("arch")), "aarch64")
    pages = pages_of([*tables.parts(), *parts], block)
    path.write_bytes(Kdump(pages, machine=machine, block=block, lines=lines).build())
    return Dump.open(path)


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("encrypted", [0, 1 << 47])
def test_x86_64(tmp_path: Path, levels: int, encrypted: int) -> None:
    tables = x86_64(levels, encrypted=encrypted)
    top = 0xFFFF_8880_0000_0000 if levels == 4 else 0xFF11_0000_0000_0000
    tables.map(top + 0x5000, 0x7000_0000)
    tables.map(top + 0x6000, 0x7000_3000)
    tables.map(top + 2 * MIB, 0x6000_0000, depth=1)
    tables.map(top + 3 * GIB, 0x8000_0000, depth=2)
    text = 0xFFFF_FFFF_8100_0000
    lines = {
        "arch": "x86_64", "PAGESIZE": 4096, "NUMBER(phys_base)": tables.root - 0x0200_0000,
        "SYMBOL(swapper_pg_dir)": f"{0xFFFF_FFFF_8200_0000:x}", "NUMBER(sme_mask)": encrypted,
        "NUMBER(pgtable_l5_enabled)": int(levels == 5), "NUMBER(KERNEL_IMAGE_SIZE)": GIB,
    }  # fmt: skip
    parts = (
        Part(0x7000_0000, b"a" * 4096), Part(0x7000_3000, b"b" * 4096),
        Part(0x6001_2000, b"two MiB"), Part(0x8012_3000, b"one GiB"),
        Part(tables.root - 0x0200_0000 + 0x0100_0000, b"kernel text"),
    )  # fmt: skip
    dump = opened(tmp_path, tables, lines, *parts, block=4096)
    assert dump.read_virtual(top + 0x5FFF, 2) == b"ab"
    assert dump.read_virtual(top + 2 * MIB + 0x12000, 7) == b"two MiB"
    assert dump.read_virtual(top + 3 * GIB + 0x123000, 7) == b"one GiB"
    assert dump.read_virtual(text, 11) == b"kernel text"
    with pytest.raises(NotInDumpError, match=f"{top + 0x7000:#x}"):
        dump.read_virtual(top + 0x7000, 1)


@pytest.mark.parametrize(
    ("page_size", "virtual_bits", "levels", "wide"),
    [
        (4 * KIB, 39, 3, False), (4 * KIB, 48, 4, False), (4 * KIB, 52, 5, True),
        (16 * KIB, 36, 2, False), (16 * KIB, 47, 3, False), (16 * KIB, 48, 4, False),
        (16 * KIB, 52, 4, True),
        (64 * KIB, 42, 2, False), (64 * KIB, 48, 3, False), (64 * KIB, 52, 3, True),
    ],
)  # fmt: skip
def test_arm64(tmp_path: Path, page_size: int, virtual_bits: int, levels: int, wide: bool) -> None:
    tables = arm64(page_size, virtual_bits, wide=wide)
    assert tables.levels == levels, "arch/arm64/Kconfig, PGTABLE_LEVELS"
    vmalloc = (1 << 64) - (1 << (virtual_bits - 1))
    tables.map(vmalloc, 0x5000_0000)
    tables.map(vmalloc + page_size, 0x5000_0000 + 4 * page_size)
    block = page_size * page_size // 8
    tables.map(vmalloc + 8 * block, 0x8000_0000, depth=1)
    root_virtual = (1 << 64) - 0x4000_0000
    lines = {
        "arch": "arm64", "PAGESIZE": page_size, "NUMBER(VA_BITS)": virtual_bits,
        "NUMBER(TCR_EL1_T1SZ)": hex(64 - virtual_bits), "NUMBER(PHYS_OFFSET)": "0x40000000",
        "NUMBER(kimage_voffset)": hex(root_virtual - tables.root),
        "SYMBOL(swapper_pg_dir)": f"{root_virtual:x}",
    }  # fmt: skip
    parts = (
        Part(0x5000_0000, b"a" * page_size), Part(0x5000_0000 + 4 * page_size, b"b" * page_size),
        Part(0x8000_0000 + 3 * page_size, b"a block"), Part(0x4800_0000, b"linear"),
    )  # fmt: skip
    dump = opened(tmp_path, tables, lines, *parts, block=page_size)
    assert dump.read_virtual(vmalloc + page_size - 1, 2) == b"ab"
    assert dump.read_virtual(vmalloc + 8 * block + 3 * page_size, 7) == b"a block"
    # The linear map is not in these tables: VMCOREINFO alone tells where it is.
    assert dump.read_virtual((1 << 64) - (1 << virtual_bits) + 0x0800_0000, 6) == b"linear"


Walk = tuple[Callable[[], TableBuilder], Callable[[int], Tables], int]
WALKS: dict[str, Walk] = {
    "x86_64, 5 levels": (lambda: x86_64(5), lambda root: x86_64_dumps.PageTables(root, 5), 52),
    "4K": (lambda: arm64(4 * KIB, 48), lambda root: arm64_dumps.PageTables(root, 4 * KIB, 48, 48), 48),
    **{
        f"{size // KIB}K, 52 bits": (
            lambda size=size: arm64(size, 52, wide=True),  # type: ignore[misc]
            lambda root, size=size: arm64_dumps.PageTables(root, size, 52, 52),  # type: ignore[misc]
            52,
        )
        for size in (4 * KIB, 16 * KIB, 64 * KIB)
    },
}


@given(st.sampled_from(sorted(WALKS)), st.data())
def test_any_address_goes_where_it_was_mapped(name: str, data: st.DataObject) -> None:
    build, reader, physical_bits = WALKS[name]
    tables = build()
    pages = st.integers(0, (1 << physical_bits) // tables.page_size - 1)
    virtual_pages = st.integers(0, (1 << 51) // tables.page_size - 1)
    mapped = data.draw(st.dictionaries(virtual_pages, pages, min_size=1, max_size=5))
    top = (1 << 64) - (1 << 47 if physical_bits == 48 else 1 << 51)
    addresses = {
        (top + number * tables.page_size) % (1 << 64) | top: physical * tables.page_size
        for number, physical in mapped.items()
    }
    for virtual, physical in addresses.items():
        tables.map(virtual, physical)

    def entry(address: int) -> int:
        start = address - address % tables.page_size
        offset = address - start
        return int.from_bytes(tables.memory[start][offset : offset + 8], "little")

    for virtual, physical in addresses.items():
        place = reader(tables.root).translate(virtual + 5, entry)
        assert place == (physical + 5, tables.page_size - 5)


def test_a_kernel_for_52_bits_on_a_processor_with_48() -> None:
    """Its top table has room for 52; TTBR1 points to the part of it in use (arch/arm64/mm/proc.S)."""
    for page_size in (16 * KIB, 64 * KIB):
        tables = arm64(page_size, 52)
        virtual = 0xFFFF_8000_1234_0000
        tables.map(virtual, 0x5000_0000)
        lines = {
            "PAGESIZE": str(page_size), "NUMBER(VA_BITS)": "52", "NUMBER(TCR_EL1_T1SZ)": "0x10",
            "NUMBER(kimage_voffset)": hex((1 << 64) - GIB - tables.root),
            "SYMBOL(swapper_pg_dir)": f"{(1 << 64) - GIB:x}",
        }  # fmt: skip
        found = paging.tables(arm64_dumps.PART, VmcoreInfo(lines), None)
        assert found is not None

        def entry(address: int, memory: dict[int, bytearray] = tables.memory, size: int = page_size) -> int:
            offset = address % size
            return int.from_bytes(memory[address - offset][offset : offset + 8], "little")

        assert found.translate(virtual, entry) == (0x5000_0000, page_size)


def test_with_4k_pages_such_a_kernel_folds_its_top_table() -> None:
    tables = arm64(4 * KIB, 48)
    tables.map(0xFFFF_8000_1234_5000, 0x5000_0000)
    found = arm64_dumps.PageTables(tables.root, 4 * KIB, 48, 52)
    assert found.levels == 4

    def entry(address: int) -> int:
        offset = address % 4096
        return int.from_bytes(tables.memory[address - offset][offset : offset + 8], "little")

    assert found.translate(0xFFFF_8000_1234_5000, entry) == (0x5000_0000, 4096)


@pytest.mark.parametrize("missing", ["SYMBOL(swapper_pg_dir)", "NUMBER(phys_base)"])
def test_what_is_missing_is_said(tmp_path: Path, missing: str) -> None:
    lines: dict[str, object] = {
        "arch": "x86_64", "PAGESIZE": 4096, "NUMBER(phys_base)": 0,
        "SYMBOL(swapper_pg_dir)": "ffffffff82000000",
    }  # fmt: skip
    del lines[missing]
    dump = opened(tmp_path, x86_64(4), lines, block=4096)
    with pytest.raises(NotInDumpError, match="nothing says where") as caught:
        dump.read_virtual(0xFFFF_8880_0000_0000, 1)
    assert caught.value.hint is not None
    assert "page tables" in caught.value.hint


def test_tables_that_lead_into_a_circle_or_nowhere(tmp_path: Path) -> None:
    tables = x86_64(4)
    itself = tables.table(tables.root).to_bytes(8, "little")
    tables.memory[tables.root][:] = itself * 512
    lines = {
        "arch": "x86_64", "PAGESIZE": 4096, "NUMBER(phys_base)": tables.root - 0x0200_0000,
        "SYMBOL(swapper_pg_dir)": "ffffffff82000000",
    }  # fmt: skip
    dump = opened(tmp_path, tables, lines, block=4096)
    assert dump.read_virtual(0xFFFF_8880_0000_0000, 8) == itself
