"""What info says of a dump: whether its pages are what they were, all that are needed, and who reads it."""

import random
import struct
import subprocess
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykexec.kdump import makedumpfile
from pykexec.memory import Range
from pykexec.vmcore import Dump, cli, diskdump, info, part, slabs
from pykexec.vmcore.notes import Processor
from pykexec.vmcore.readers import Reader, Tools, readers
from tests.support import vmcore
from tests.support.effort import examples
from tests.support.schemas import require_valid
from tests.support.vmcore import Kdump, Part, elf, flattened, vmcoreinfo_note

PAGE = vmcore.PAGE
NO_TOOLS = Tools(None, None, "x86_64")
LINES: Mapping[str, object] = {
    "OSRELEASE": "6.1.0-test", "PAGESIZE": PAGE, "NUMBER(phys_base)": 0,
    "SYMBOL(_stext)": "ffffffff80000000", "SYMBOL(swapper_pg_dir)": "ffffffff80001000",
    "SYMBOL(init_uts_ns)": "ffffffff80002000", "SYMBOL(mem_section)": "ffffffff80001000", "SIZE(page)": 64,
}  # fmt: skip


def text_page(number: int) -> bytes:
    """Letters in no order: what packs it has no two ways to say so."""
    return bytes(random.Random(number).choices(b"abcdefgh", k=PAGE))


PAGES = {number: text_page(number) for number in (*range(1, 40), 100, 5000)}
WHOLE = Kdump(PAGES, lines=LINES)

Open = Callable[..., Dump]


@pytest.fixture
def open_dump(tmp_path: Path) -> Open:
    def opened(*contents: bytes) -> Dump:
        paths = [tmp_path / f"vmcore.{number}" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return Dump.open(*paths)

    return opened


# Damage


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dump") / "vmcore"


@settings(
    max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.integers(0, len(PAGES) - 1), st.integers(2, 1200), st.integers(1, 255))
def test_a_page_that_changed_is_no_page_of_a_whole_dump(file: Path, page: int, at: int, change: int) -> None:
    """zlib has a sum of what it packed: whatever byte it is, the change is found."""
    content = bytearray(WHOLE.build())
    table = content.index(struct.pack("<qII", *_first(content)))
    offset, size, _ = struct.unpack_from("<qII", content, table + 24 * page)
    content[offset + at % size] ^= change
    file.write_bytes(content)
    found = info.gather(Dump.open(file), tools=NO_TOOLS)
    (told,) = found.damage
    assert f"damaged: 1 of {len(PAGES)} pages" in told
    assert f"page {page + 1} of {len(PAGES)}, at offset {offset:#x}" in told
    assert not require_valid("info", info.as_json(found))["complete"]


def _first(content: bytes | bytearray) -> tuple[int, int, int]:
    """The first page's descriptor: pages are packed alike here, each behind the one before."""
    packed = vmcore.deflate(PAGES[1])
    return content.index(packed), len(packed), vmcore.ZLIB


def test_a_whole_dump(open_dump: Open) -> None:
    found = info.gather(open_dump(WHOLE.build()), tools=NO_TOOLS)
    assert found.damage == ()
    assert found.checked == (len(PAGES), len(PAGES), len(PAGES), 0, "")
    assert f"checked       {len(PAGES)} of {len(PAGES)} pages looked at" in info.as_text(found)


@pytest.mark.parametrize(
    ("flag", "packed"),
    [
        (vmcore.ZLIB, lambda page: zlib.compress(page)[:-1]),
        (vmcore.ZLIB, lambda page: bytes(100)),
        (vmcore.LZO, lambda page: bytes(100)),
        (vmcore.SNAPPY, lambda page: bytes(100)),
        (vmcore.ZSTD, lambda page: bytes(100)),
        (vmcore.ZSTD, lambda page: zstandard.compress(page)[:-3]),
        (vmcore.ZLIB, lambda page: zlib.compress(page[1:])),
    ],
)
def test_pages_of_all_kinds(flag: int, packed: Callable[[bytes], bytes], open_dump: Open) -> None:
    """A file system that lost data leaves zeros in its place."""
    dump = open_dump(replace(WHOLE, flag=flag, compress=packed).build())
    assert "damaged: 41 of 41" in info.gather(dump, tools=NO_TOOLS).damage[0]


def test_what_was_not_looked_at_is_said(open_dump: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskdump, "_LOOKED_AT_MAX", 10)
    monkeypatch.setattr(diskdump, "_UNPACKED_MAX", 4)
    content = bytearray(WHOLE.build())
    content[content.index(vmcore.deflate(PAGES[3])) + 20] ^= 1  # neither among those unpacked, nor at an end
    dump = open_dump(bytes(content))
    some = info.gather(dump, tools=NO_TOOLS)
    assert some.checked is not None
    assert (some.checked.saved, some.damage) == (41, ())
    assert 5 <= some.checked.looked_at <= 10
    assert 2 <= some.checked.unpacked <= 4
    assert "unpacked (--all-pages: all)" in info.as_text(some)
    every = info.gather(dump, tools=NO_TOOLS, all_pages=True)
    assert every.checked is not None
    assert every.checked.unpacked == 41
    assert "damaged: 1 of 41 pages" in every.damage[0]
    assert "--all-pages" not in info.as_text(every)


def test_exit_statuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 for a whole dump, 1 for one that is not."""
    whole = WHOLE.build()
    part = replace(WHOLE, split=(0, 30)).build()
    core = elf([Part(0x1000, bytes(4096))], notes=vmcoreinfo_note(LINES))
    damaged = bytearray(whole)
    damaged[_first(whole)[0] + 9] ^= 1
    cases = {
        "whole": (whole, 0), "flattened": (flattened(whole), 0), "elf": (core, 0), "cut": (whole[:-500], 1),
        "part": (part, 1), "damaged": (bytes(damaged), 1), "cut elf": (core[:-1], 1),
        "no end": (flattened(whole, end=False), 1), "marked": (replace(WHOLE, status=8).build(), 1),
    }  # fmt: skip
    for name, (content, status) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        for as_json in (False, True):
            assert cli.show_info([str(path)], as_json=as_json) == status, name
        told = require_valid("info", capsys.readouterr().out.partition("{")[2].join(["{", ""]))
        assert told["complete"] == (status == 0), name


# Pages that are needed

_FLAGS, _HEAD = 0, 6  # struct page: flags at 0, the bit of PG_head
_SLAB, _OTHER, _NONE = 0xF500_0000, 0xF200_0000, 0xFFFF_FFFF
_MAP_AT, _SECTION_AT, _ROOT_AT = 0x20_0000, 0x10_0000, 0x10_1000
_IMAGE = 0xFFFF_FFFF_8000_0000
_COUNT = 4096


def machine(types: Mapping[int, int], orders: Mapping[int, int], *, old: bool = False) -> dict[int, bytes]:
    """Page frames of a machine with sparse memory (mm/sparse.c), whose pages have these types and orders."""
    structs = bytearray(64 * _COUNT)
    for number in range(_COUNT):
        struct.pack_into("<I", structs, 64 * number + 48, types.get(number, _NONE) if not old else _NONE)
        if old and number in types:
            struct.pack_into("<Q", structs, 64 * number, 1 << 9)
    for number, order in orders.items():
        struct.pack_into("<Q", structs, 64 * number, 1 << _HEAD)
        struct.pack_into("<Q", structs, 64 * (number + 1), order)
    parts = [
        Part(_MAP_AT, bytes(structs)),
        Part(_SECTION_AT, struct.pack("<Q", _IMAGE + _ROOT_AT)),
        Part(_ROOT_AT, struct.pack("<Q", _IMAGE + _MAP_AT | 0x7)),
    ]
    pages = vmcore.pages_of(parts)
    return {number: pages.get(number, b"other".ljust(PAGE)) for number in range(_COUNT)}


def dump_of(pages: Mapping[int, bytes], left_out: set[int], lines: Mapping[str, object]) -> bytes:
    saved = {number: page for number, page in pages.items() if number not in left_out}
    info_lines = {
        **LINES, "SYMBOL(mem_section)": f"{_IMAGE + _SECTION_AT:x}", "SIZE(mem_section)": 16,
        "OFFSET(mem_section.section_mem_map)": 0, "NUMBER(SECTION_SIZE_BITS)": 27, "OFFSET(page.flags)": 0,
        "OFFSET(page._mapcount)": 48, "NUMBER(PG_head_mask)": 1 << _HEAD, **lines,
    }  # fmt: skip
    return Kdump(saved, page_count=_COUNT, lines=info_lines).build()


_TYPED = {"NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)": _SLAB - (1 << 32)}


def test_pages_of_slabs_that_were_left_out(open_dump: Open) -> None:
    """As makedumpfile 1.7.2 leaves them out on Linux 6.12; what else is missing was meant to be."""
    used = range(2000, 2064)
    pages = machine({**dict.fromkeys(used, _SLAB), **dict.fromkeys(range(3000, 3100), _OTHER)}, {})
    unneeded = set(range(3000, 4000))
    whole = info.gather(open_dump(dump_of(pages, unneeded, _TYPED)), tools=NO_TOOLS)
    assert whole.slabs == (64, 0)
    assert whole.damage == ()
    lost = info.gather(open_dump(dump_of(pages, unneeded | {*range(2010, 2040)}, _TYPED)), tools=NO_TOOLS)
    assert lost.slabs == (64, 30)
    assert "pages that are needed are missing: 30 of 64 pages" in lost.damage[0]
    assert "64 pages of slabs looked for, 30 missing" in info.as_text(lost)


def test_tail_pages_that_were_left_out(open_dump: Open) -> None:
    """As makedumpfile 1.7.9 leaves them out on Linux 7.1: of a slab of several pages the first is there."""
    heads = range(2000, 2064, 8)
    pages = machine(dict.fromkeys(heads, _SLAB), dict.fromkeys(heads, 3))
    tails = {number for number in range(2000, 2064) if number % 8}
    assert info.gather(open_dump(dump_of(pages, set(), _TYPED)), tools=NO_TOOLS).slabs == (64, 0)
    found = info.gather(open_dump(dump_of(pages, tails, _TYPED)), tools=NO_TOOLS)
    assert found.slabs == (64, 56)
    assert found.damage


def test_slabs_of_older_kernels(open_dump: Open) -> None:
    """Before Linux 6.10 they have a flag; and between it and 6.12 a bit that is cleared."""
    pages = machine(dict.fromkeys(range(2000, 2064), _SLAB), {}, old=True)
    found = info.gather(
        open_dump(dump_of(pages, {2000, 2001, 2002}, {"NUMBER(PG_slab)": 9})), tools=NO_TOOLS
    )
    assert found.slabs == (64, 3)
    cleared = {"NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)": ~0x1000}
    pages = machine(dict.fromkeys(range(2000, 2064), 0xFFFF_EFFF), {})
    assert info.gather(open_dump(dump_of(pages, {2000}, cleared)), tools=NO_TOOLS).slabs == (64, 1)


def test_slabs_all_over_a_large_memory(open_dump: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at does not grow with it, and comes from all of it."""
    pages = machine(dict.fromkeys(range(64, _COUNT, 2), _SLAB), {})
    monkeypatch.setattr(slabs, "_GROUPS_MAX", 8)
    dump = open_dump(dump_of(pages, {*range(2048, 4096)}, _TYPED))
    found = slabs.look(dump)
    assert found is not None
    assert found.seen <= 9 * 32
    assert 0.3 < found.missing / found.seen < 0.7


def test_where_slabs_cannot_be_told(open_dump: Open) -> None:
    pages = machine(dict.fromkeys(range(2000, 2064), _SLAB), {})
    for lines in ({}, {**_TYPED, "SIZE(page)": 0}, {**_TYPED, "SYMBOL(mem_section)": "ffffffff90000000"}):
        found = info.gather(open_dump(dump_of(pages, set(), lines)), tools=NO_TOOLS)
        assert (found.slabs, found.damage) == (None, ())


# Who reads it


def tools(version: str | None, crash: tuple[int, ...] | None = None) -> Tools:
    return Tools(makedumpfile.packaged(version) if version else None, crash, "x86_64")


def of_release(release: str, **lines: object) -> bytes:
    return replace(WHOLE, lines={**LINES, "OSRELEASE": release, **lines}).build()


_7_1 = {"OFFSET(page.compound_info)": 8}


@pytest.mark.parametrize(
    ("release", "lines", "version", "crash", "expected"),
    [
        ("6.1.0-50", {}, "1.7.2", (8, 0, 2), (True, True)),
        ("6.1.0-50", {}, None, None, (None, None)),
        ("6.12.1", {}, "1.7.2", (8, 0, 2), (True, False)),
        ("6.12.1", {}, "1.7.8", (8, 0, 5), (True, None)),
        ("6.12.1", {}, "1.7.8", (9, 0, 2), (True, True)),
        ("7.2.13", _7_1, "1.7.9", (9, 0, 2), (True, False)),
        ("7.2.13", _7_1, "1.8.0", (9, 0, 3), (True, None)),
        ("7.2.13", _7_1, "1.8.0", (), (True, None)),
        ("9.1.0", _7_1, "1.8.0", (9, 0, 2), (None, False)),
        ("what", {}, "1.8.0", (9, 0, 2), (None, None)),
    ],
)
def test_who_reads_it(
    release: str,
    lines: Mapping[str, object],
    version: str | None,
    crash: tuple[int, ...] | None,
    expected: tuple[bool | None, bool | None],
    open_dump: Open,
) -> None:
    """Only what the dump and the program's version show is claimed."""
    found = readers(open_dump(of_release(release, **lines)), tools(version, crash))
    assert (found["makedumpfile"].can_read, found["crash"].can_read) == expected
    assert all(each.problems for each in found.values() if not each.can_read)


def test_what_takes_a_newer_program(open_dump: Open) -> None:
    found = readers(open_dump(of_release("7.2.13", **_7_1)), tools("1.7.9", (9, 0, 2)))
    assert any("f50c015" in each for each in found["makedumpfile"].problems)
    assert any("newer than 9.0.2" in each for each in found["crash"].problems)
    assert found["crash"].version == "9.0.2"


def test_nobody_is_said_to_read_a_damaged_dump(open_dump: Open) -> None:
    content = bytearray(WHOLE.build())
    content[content.index(vmcore.deflate(PAGES[30])) + 500] ^= 1
    found = info.gather(open_dump(bytes(content)), tools=tools("1.7.2", (8, 0, 2)))
    assert found.damage
    assert [each.can_read for each in found.readers.values()] == [None, None]


def test_what_keeps_all_of_them_from_reading_it(open_dump: Open) -> None:
    here = tools("1.7.2", (8, 0, 2))
    flat = readers(open_dump(flattened(WHOLE.build())), here)
    assert flat["makedumpfile"].can_read is False
    assert "makedumpfile -R" in flat["makedumpfile"].problems[0]
    assert flat["crash"].can_read
    short = readers(open_dump(replace(WHOLE, lost=frozenset({2}), status=8).build()), here)
    assert all("init_uts_ns cannot be read" in each.problems[0] for each in short.values())
    lines = {name: value for name, value in LINES.items() if "phys_base" not in name and "mem_" not in name}
    fewer = readers(open_dump(replace(WHOLE, lines=lines).build()), here)
    assert fewer["makedumpfile"].problems[0] == "VMCOREINFO lacks NUMBER(phys_base)"
    assert "none of SYMBOL(mem_section)" in fewer["makedumpfile"].problems[1]
    without = readers(open_dump(elf([])), here)
    assert without["crash"] == Reader(
        False, "8.0.2", ("there is no VMCOREINFO, so it takes options for all that it cannot guess",)
    )


def test_arm64_with_52_bits(open_dump: Open) -> None:
    lines = {**LINES, "NUMBER(VA_BITS)": 52, "NUMBER(kimage_voffset)": 0, "NUMBER(PHYS_OFFSET)": 0}
    dump = open_dump(elf([], notes=vmcoreinfo_note(lines), machine="arm64"))
    for version, says in (("1.7.9", True), ("1.8.0", False)):
        problems = readers(dump, tools(version))["makedumpfile"].problems
        assert any("52 bits" in each for each in problems) == says


def test_programs_of_another_architecture(open_dump: Open) -> None:
    """Each of them reads dumps of the one that it is built for."""
    given = replace(tools("1.7.2", (8, 0, 2)), arch="arm64")
    for each in readers(open_dump(WHOLE.build()), given).values():
        assert each.can_read is None
        assert "reads dumps of arm64" in each.problems[0]


@pytest.mark.parametrize(("machine", "reads"), [("x86_64", True), ("loongarch64", None)])
def test_programs_of_an_architecture_that_nothing_is_known_of(
    open_dump: Open, machine: str, reads: bool | None
) -> None:
    memory = Part(0x1000, b"x" * 3 * PAGE, 0xFFFF_FFFF_8000_0000)
    dump = open_dump(elf([memory], notes=vmcoreinfo_note(LINES), machine=machine))
    found = readers(dump, replace(tools("1.7.2", (8, 0, 2)), arch=machine))
    assert [each.can_read for each in found.values()] == [reads, reads]
    for each in found.values():
        assert reads or "in a dump of loongarch64 is not known here" in each.problems[0]


@pytest.mark.parametrize("name", ["x86", "../arm64", "arm64.loader", "", "ELF machine 75"])
def test_no_dump_says_what_is_imported(open_dump: Open, name: str) -> None:
    dump = open_dump(replace(WHOLE, machine=name).build())
    assert dump.part is part.UNKNOWN
    assert dump.arch == (name or "unknown")


def test_the_other_byte_order_has_the_same_registers(open_dump: Open) -> None:
    little, big = (
        open_dump(elf([], machine="arm", elf_class=32, order=order)) for order in ("little", "big")
    )
    assert (little.arch, big.arch) == ("arm", "armbe")
    assert little.part.registers is big.part.registers is not None


@pytest.mark.programs
def test_the_version_of_crash() -> None:
    said = subprocess.run(["crash", "--version"], capture_output=True, text=True, check=False).stdout
    version = Tools.installed().crash
    assert version
    assert f"crash {'.'.join(map(str, version))}" in said


# Screens

SCREEN = """\
dump          vmcore
format        kdump-compressed, version 6; compression zlib, dump level 31
complete      yes
checked       1000000 of 8000000 pages looked at, 2000 unpacked (--all-pages:
              all)
kernel        6.1.0-test on x86_64, pages of 4096 bytes
crashed       2023-11-14 22:13:20 UTC
panic         Kernel panic - not syncing: Fatal exception in interrupt on a
              machine whose driver has a lot to say of it
first sign    BUG: kernel NULL pointer dereference, address: 0000000000000008
log           1000 records, layout: lockless
memory        40 GiB in 40 ranges; 164 KiB of it saved
  00000000-3fffffff
  80000000-bfffffff
  100000000-13fffffff
  and 37 more: --json has all
processors    256 left their registers
  0    process 0         pc 0xffffffff81000000  sp 0xffffc90000000000
  1    process 1         pc 0xffffffff81000000  sp 0xffffc90000001000
  2    process 2         pc 0xffffffff81000000  sp 0xffffc90000002000
  and 253 more: --registers shows all
makedumpfile  can read it (makedumpfile 1.7.2)
crash         can read it (crash 8.0.2)
VMCOREINFO    8 lines: --vmcoreinfo shows them
"""


@pytest.fixture
def large(open_dump: Open) -> info.Info:
    """The facts of a machine with more of everything than a screen has room for."""
    found = info.gather(open_dump(WHOLE.build()), tools=NO_TOOLS)
    assert found.checked is not None
    return replace(
        found,
        file="vmcore",
        checked=found.checked._replace(saved=8_000_000, looked_at=1_000_000, unpacked=2000),
        crash_time=1_700_000_000,
        dump_level=31,
        memory=tuple(Range.sized(each << 31, 1 << 30) for each in range(40)),
        processors=tuple(
            Processor(
                each,
                each,
                {f"r{number}": number for number in range(20)},
                0xFFFFFFFF81000000,
                0xFFFFC90000000000 + each * PAGE,
            )
            for each in range(256)
        ),
        log=info.LogSummary(
            "lockless",
            1000,
            "Kernel panic - not syncing: Fatal exception in interrupt on a machine whose driver has a lot to"
            " say of it",
            "BUG: kernel NULL pointer dereference, address: 0000000000000008",
            (),
        ),
        log_problem=None,
        readers={"makedumpfile": Reader(True, "1.7.2"), "crash": Reader(True, "8.0.2")},
    )


def test_a_report_is_one_screen(large: info.Info) -> None:
    assert info.as_text(large) == SCREEN
    assert SCREEN.count("\n") <= 24


def test_all_of_it_is_there_for_who_asks(large: info.Info) -> None:
    told = info.as_text(large, registers=True, vmcoreinfo=True).splitlines()
    assert max(map(len, told)) <= 80
    assert sum(line.startswith("         r18 0000000000000012") for line in told) == 256
    assert {f"  {name}={value}" for name, value in LINES.items()} <= set(told)


@given(columns=st.integers(40, 200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_report_is_folded(large: info.Info, columns: int) -> None:
    """At any width, without a word that is lost."""
    told = info.as_text(large, columns=columns)
    assert max(map(len, told.splitlines())) <= columns
    assert told.split() == SCREEN.split()
