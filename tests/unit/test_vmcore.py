"""Dump files made by hand: formats, addresses, notes, and what is damaged in them."""

import base64
import hashlib
import io
import lzma
import os
import random
import re
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest
import zstandard
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykexec.memory import Range
from pykexec.vmcore import Dump, DumpError, NotInDumpError, diskdump, info, library, pages
from pykexec.vmcore.flattened import FlattenedFile
from pykexec.vmcore.pieces import Pieces
from pykexec.vmcore.readers import Tools
from tests.support import vmcore
from tests.support.effort import examples
from tests.support.schemas import require_valid
from tests.support.stopwatch import Stopwatch
from tests.support.vmcore import Kdump, Part, elf, flattened, vmcoreinfo_note

BLOCK = vmcore.PAGE
NO_TOOLS = Tools(None, None, "x86_64")
LINES = {"OSRELEASE": "6.1.0-test", "PAGESIZE": 4096, "CRASHTIME": 1_700_000_000}


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def text_page(number: int) -> bytes:
    return (b"page %d, " % number * BLOCK)[:BLOCK]


Open = Callable[[bytes], Dump]


@pytest.fixture
def open_dump(tmp_path: Path) -> Open:
    def opened(*contents: bytes) -> Dump:
        paths = [tmp_path / f"vmcore.{number}" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return Dump.open(*paths)

    return opened


def outcome(path: Path) -> str:
    """What becomes of any file: it is read, or refused with an error that says why."""
    stopwatch = Stopwatch()
    try:
        dump = Dump.open(path)
        text = info.as_text(info.gather(dump, tools=NO_TOOLS))
        require_valid("info", info.as_json(info.gather(dump, tools=NO_TOOLS)))
        for place in (0, 0x1000, 1 << 40, (1 << 64) - 1):
            for read in (dump.read_physical, dump.read_virtual):
                try:
                    read(place, 64)
                except DumpError as error:
                    text += str(error)
    except DumpError as error:
        text = str(error)
    assert stopwatch.seconds() < 5
    assert "\n" not in text.partition("\n")[2].partition("\n")[0]
    return text


# ELF


@pytest.mark.parametrize(
    ("machine", "elf_class", "order", "arch", "word"),
    [
        ("x86_64", 64, "little", "x86_64", 8),
        ("x86_64", 32, "little", "x86_64", 8),  # kexec --elf32-core-headers
        ("i386", 32, "little", "i386", 4),
        ("i386", 64, "little", "i386", 4),
        ("arm", 32, "little", "arm", 4),
        ("arm", 32, "big", "armbe", 4),
        ("ppc64", 64, "little", "ppc64le", 8),
        ("ppc64", 64, "big", "ppc64", 8),
        ("sh", 32, "little", "sh", 4),
        ("sh", 32, "big", "sheb", 4),
        ("mips", 32, "big", "mips", 4),
        ("mips", 64, "little", "mips64", 8),
        ("x86_64", 64, "big", "ELF machine 62", 8),
        ("vax", 32, "little", "ELF machine 75", 4),
    ],
)
def test_elf(
    open_dump: Open, machine: str, elf_class: int, order: vmcore.Order, arch: str, word: int
) -> None:
    low, high = noise(5000, 1), noise(3000, 2)
    parts = [Part(0x1000, low, 0xC0001000), Part(0x80000, high, 0xC0080000)]
    content = elf(
        parts, notes=vmcoreinfo_note(LINES, order), machine=machine, elf_class=elf_class, order=order
    )
    dump = open_dump(content)
    assert (dump.arch, dump.word_size, dump.byte_order) == (arch, word, order)
    assert dump.vmcoreinfo.release == "6.1.0-test"
    assert dump.contents.damage == ()
    assert dump.memory == (Range.sized(0x1000, 5000), Range.sized(0x80000, 3000))
    assert dump.read_physical(0x1800, 2000) == low[0x800:][:2000]
    assert dump.read_virtual(0xC0080000, 3000) == high
    assert dump.physical_of(0xC0001234) == 0x1234
    # The builder, too, is checked: pyelftools sees the same.
    segments = [each for each in ELFFile(io.BytesIO(content)).iter_segments() if each["p_type"] == "PT_LOAD"]
    assert [each.data() for each in segments] == [low, high]


def test_more_segments_than_the_header_can_count(open_dump: Open) -> None:
    content = elf([Part(0x1000, b"last")], extended_count=True, more_headers=70_000)
    assert ELFFile(io.BytesIO(content)).num_segments() == 70_002
    stopwatch = Stopwatch()
    assert open_dump(content).read_physical(0x1000, 4) == b"last"
    assert stopwatch.seconds() < 2


def test_of_overlapping_segments_the_first_holds(open_dump: Open) -> None:
    parts = [Part(0x2000, b"text" * 256), Part(0x1000, b"map." * 2048)]
    assert open_dump(elf(parts)).read_physical(0x1FFC, 0x408) == b"map." + b"text" * 256 + b"map."


def test_what_is_not_in_the_dump(open_dump: Open) -> None:
    dump = open_dump(elf([Part(0x1000, b"x" * 100, memory_size=0x1000), Part(0x8000, b"y" * 100)]))
    with pytest.raises(NotInDumpError, match="0x1064 was left out when the dump was made"):
        dump.read_physical(0x1000, 101)
    with pytest.raises(NotInDumpError, match="no program header covers physical address 0x2000") as caught:
        dump.read_physical(0x2000, 1)
    assert (caught.value.address, caught.value.status) == (0x2000, 30)
    with pytest.raises(NotInDumpError, match="nothing says where virtual address 0xffffffff81000000 is"):
        dump.read_virtual(0xFFFFFFFF81000000, 1)


def test_truncated_elf_is_read_as_far_as_it_goes(open_dump: Open) -> None:
    whole = elf([Part(0x1000, noise(8192))])
    dump = open_dump(whole[:-4096])
    assert dump.read_physical(0x1000, 4096) == noise(8192)[:4096]
    assert "truncated" in dump.contents.damage[0]
    with pytest.raises(NotInDumpError, match="0x2000 is lost: the file is truncated"):
        dump.read_physical(0x1FFF, 2)


def test_what_follows_a_truncated_segment_stays_where_it_is(open_dump: Open) -> None:
    """The second in memory is the first in the file."""
    whole = elf([Part(0x2000, b"b" * 4096), Part(0x1000, b"a" * 4096)])
    dump = open_dump(whole[:-100])
    assert dump.read_physical(0x2000, 4096) == b"b" * 4096
    with pytest.raises(NotInDumpError, match="0x1f9c is lost"):
        dump.read_physical(0x1000, 8192)


def test_incomplete_flag(open_dump: Open) -> None:
    assert "incomplete" in open_dump(elf([Part(0, b"x")], flags=1)).contents.damage[0]
    # Elsewhere the flags are the processor's own.
    assert open_dump(elf([Part(0, b"x")], flags=1, machine="ppc64")).contents.damage == ()


@pytest.mark.parametrize(
    ("change", "message", "status"),
    [
        (lambda d: d[:10], "truncated in the ELF header", 3),
        (lambda d: d[:4] + b"\x07" + d[5:], "class 7 at offset 4", 6),
        (lambda d: d[:5] + b"\x07" + d[6:], "data encoding 7 at offset 5", 7),
        (lambda d: d[:6] + b"\x07" + d[7:], "version 7 at offset 6", 5),
        (lambda d: d[:40], "truncated in the ELF header", 10),
        (lambda d: d[:16] + b"\x02" + d[17:], "no core dump", 10),
        (lambda d: d[:20] + b"\x02" + d[21:], "version 2 at offset 20", 11),
        (lambda d: d[:54] + b"\x00" + d[55:], "program headers of 0 bytes", 12),
        (lambda d: d[:100], "program headers at 0x40 do not fit", 16),
        (lambda d: d[:56] + b"\xff\xff" + d[58:], "no section header", 16),
    ],
)
def test_damaged_elf(open_dump: Open, change: Callable[[bytes], bytes], message: str, status: int) -> None:
    with pytest.raises(DumpError, match=message) as caught:
        open_dump(change(elf([Part(0, b"x")])))
    assert caught.value.status == status


def test_an_absurd_number_of_segments(open_dump: Open) -> None:
    content = bytearray(elf([Part(0, b"x")], extended_count=True))
    section_at = int.from_bytes(content[40:48], "little")
    content[section_at + 44 : section_at + 48] = b"\xff\xff\xff\x7f"
    with pytest.raises(DumpError, match="1048576 at most"):
        open_dump(bytes(content))


@pytest.mark.slow
def test_many_empty_notes_are_refused(open_dump: Open) -> None:
    dump = open_dump(elf([], notes=struct.pack("<III", 0, 0, 7) * 200_000))
    stopwatch = Stopwatch()
    with pytest.raises(DumpError, match="more than 131072 notes"):
        len(dump.notes)
    assert stopwatch.seconds() < 2


def test_truncated_elf_anywhere(tmp_path: Path) -> None:
    whole = elf([Part(0x1000, noise(300), 0xFFFF888000001000)], notes=vmcoreinfo_note(LINES))
    path = tmp_path / "vmcore"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert outcome(path)


# kdump-compressed


PAGES = {number: text_page(number) for number in (1, 2, 3, 5, 40, 41, 33000, 70000)}
HOLES = frozenset(range(100, 30000))


def unzstd(page: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(page)


@pytest.mark.parametrize("version", range(1, 7))
@pytest.mark.parametrize(
    ("machine", "arch", "long", "aligned", "time_size", "order"),
    [
        ("x86_64", "x86_64", 8, 8, 16, "little"),
        ("aarch64", "arm64", 8, 8, 16, "little"),
        ("i686", "i386", 4, 4, 8, "little"),
        ("i686", "i386", 4, 4, 16, "little"),
        ("armv7l", "arm", 4, 8, 8, "little"),
        ("armv7l", "arm", 4, 8, 16, "little"),
        ("ppc64", "ppc64", 8, 8, 16, "big"),
        ("ppc64le", "ppc64le", 8, 8, 16, "little"),
        ("s390x", "s390x", 8, 8, 16, "big"),
        ("S390X", "s390x", 8, 8, 16, "big"),  # QEMU, target/s390x/cpu.h
        ("sh4", "sh", 4, 4, 8, "little"),
        ("ppc", "ppc", 4, 8, 16, "big"),
        ("Unknown", "Unknown", 8, 8, 16, "little"),  # QEMU, dump/dump.c
    ],
)
def test_kdump(
    open_dump: Open,
    machine: str,
    arch: str,
    long: int,
    aligned: int,
    time_size: int,
    order: vmcore.Order,
    version: int,
) -> None:
    built = Kdump(
        PAGES, HOLES, version=version, machine=machine, long=long, aligned=aligned, time_size=time_size,
        order=order, lines=LINES, notes=vmcoreinfo_note(LINES, order),
    )  # fmt: skip
    dump = open_dump(built.build())
    assert (dump.arch, dump.word_size, dump.byte_order) == (arch, long, order)
    assert dump.contents.format == f"kdump-compressed, version {version}"
    assert (dump.contents.compression, dump.contents.dump_level) == ("zlib", 31)
    assert (dump.contents.release, dump.contents.time) == ("6.1.0-test", 1_700_000_000)
    for number, page in PAGES.items():
        assert dump.read_physical(number * BLOCK, BLOCK) == page
    assert dump.read_physical(2 * BLOCK - 1, BLOCK + 2) == PAGES[1][-1:] + PAGES[2] + PAGES[3][:1]
    assert dump.vmcoreinfo.release == ("6.1.0-test" if version >= 3 else None)
    assert len(dump.notes) == (version >= 4)
    assert dump.memory == (Range(0, 100 * BLOCK), Range(30000 * BLOCK, 70001 * BLOCK))
    assert dump.contents.saved_bytes() == len(PAGES) * BLOCK
    with pytest.raises(NotInDumpError, match="0x4000 was left out"):
        dump.read_physical(4 * BLOCK, 1)
    with pytest.raises(NotInDumpError, match="0x65000 is in a memory hole"):
        dump.read_physical(101 * BLOCK, 1)
    with pytest.raises(NotInDumpError, match="is not in it"):
        dump.read_physical(70001 * BLOCK, 1)


@pytest.mark.parametrize("block", [4096, 16384, 65536])
def test_block_sizes(open_dump: Open, block: int) -> None:
    contents = {1: noise(block, 1), 9: bytes(block)}
    dump = open_dump(Kdump(contents, block=block, machine="aarch64").build())
    assert dump.read_physical(block, block) == contents[1], "stored as it is: it does not shrink"
    assert dump.read_physical(9 * block, block) == contents[9]


def test_zstd_pages(open_dump: Open) -> None:
    dump = open_dump(Kdump(PAGES, flag=vmcore.ZSTD, compress=unzstd).build())
    assert dump.contents.compression == "zstd"
    assert dump.read_physical(40 * BLOCK, 2 * BLOCK) == PAGES[40] + PAGES[41]


LOG_PAGE = b"".join(b"line %d of a log\n" % (i % 20) for i in range(400))[:4096]
# Made with liblzo2 2.10 (lzo1x_1_compress, lzo1x_999_compress) and libsnappy 1.1.9 (snappy_compress).
PACKED = [
    ("lzo", bytes(4096), "0ssI2001BW000000000000000007z$01N;C00000000000000001*HH"),
    ("lzo", bytes(4096), "5&$3o00000008Cy03ZMW000000ObGx5dZ)"),
    (
        "lzo",
        LOG_PAGE,
        "4Qy#{WgsvhZ)PB2AZ%}E3Y`HlEj<7-Ej<7;Ej<7<Ej<7=Ej<7>Ej<7?Ej<7@Ej<7^Ej<7+FMt9rg#s}yi2^Y$jRG+)kpeL;l>#v?n"
        "F28`odPi~p#m{3qyjIX0xcv1E|>x?lmaf00xpaKE{FmygaR&r0xo<4AOHXW0000000000008hL1qvW+Z)XZ@X>Mg8I3RBk000",
    ),
    (
        "lzo",
        LOG_PAGE,
        "A#7=GWgsvhZ)PB2AZ%}E3Y`HlEj<7-Ej<7;Ej<7<Ej<7=Ej<7>Ej<7?Ej<7@Ej<7^E<6G+fC4Us0x>R$0x>R)0x>R;0x>R?0x>R`"
        "0x>R~0x>S30x>S60w4eY000000OlkGAOHXW0001%Bn1%w00",
    ),
    (
        "snappy",
        LOG_PAGE,
        "fFL|<X>Mg8Fd%PcAYmYEZ)XYx5CAbc5C8x&IuHN=Gdd6e05m!f001>Q5C8x+IuHN=H#!gi0601j0022U5C8x%LZJXYq5uFfKBE8tF"
        "+QXK05LwL001#QrT_pjKBoWxF+QjO05LwP001#QssKW%06NM5KBoXarT{*r06wGuKBE9Wq5wXj06w4q{z?J<N&)^#0scw>{z?J<N&"
        ")^#0scw>{z?J<N&)^#0scw>{z?J<N&)^#0scw>{z?J<N&)^#0scw>{z?J<N&)^#0scw>{z?J<N&)^#0scw>{z?J<N&)^#0scw>{z?J"
        "<N&)^#0scw>{z?J<N&)^#0scw>{z?J<N&)^#0scw>{z?J<N&)^#0scw>{z?J<N&)^#0scw>{z?J<N&)^#0scw>LP`M",
    ),
]


@pytest.mark.parametrize(("name", "page", "packed"), PACKED)
def test_lzo_and_snappy(name: str, page: bytes, packed: str) -> None:
    data = base64.b85decode(packed)
    assert pages.unpack(name, data, 4096) == page
    for length in range(len(data)):
        with pytest.raises(pages.DamagedPageError):
            pages.unpack(name, data[:length], 4096)


# lzo1x_999_compress again: every kind of instruction, and distances of more than 32 KiB.
ALL_OF_LZO = (
    "zaSwZBP1mzCnzZ@D=aN8FEBAOGc+|eH#j*uJ3Ku;KR`i3LqtVJM@UIZOH55pPf$@(Q&d$}S6EqETU=dUUtnQkV`OD!XJ~0^Yiw<9"
    "Z*XyPb98lfcX)YvdwhL<=T}(nJUwA6Eb~Z7UnVEyGc-sgCKX0U$~-+#M@R=%Rv;rJ5-cryMn?}(QtdP~;YCJdK|*&(NtQoA0!m9O"
    "JwA>)J1R|1f;2UCKtYpJ6+}fh2_`oIAe03tA_)Tk2`p<3AsP)Szzqn?1qvkv2W1TriVZISAOHXW00000<^TX705AXm0uvQa7EcO@"
    "-~%N5Cjw;g4#MmPj&ve?0RpZ7|Fjtjl2s410|FkJ3Cw&3m7K08v?v0y2Rblv2A9w<CrAJS-emv8Ar73%q^JS{zjxCeWnKYv{d@re"
    "j@%vqMGl~j_$R;s0?2gSP5%a^1_fvW0taC8FJwXl9hxVA00P;gvy&MCi9&=30vjHeHgN*Ba{?!T03ZMW000000OlAYAOHXW00000"
    "<^TX7000000002y001BW00000008Cy03ZMW000000OkMyAOHXW00000<^TX7000000002y001BW00000008Cy03ZMW000000OkMy"
    "AOHXW00005000mlJY*mM00000008EkARqt$000000OkMyAOHXW00000<^TX7000000002y001BW00000008Cy03ZMW000000OkMy"
    "AOHXW0001$000;>pFd@8WDx)W"
)


def test_all_of_lzo() -> None:
    unpacked = pages.unpack("lzo", base64.b85decode(ALL_OF_LZO), 36902)
    assert hashlib.sha256(unpacked).hexdigest() == (
        "4461339594e72cd50cc445ef7cf9b627e1eb72b7112e8a37d415e007148531a3"
    )


def test_snappy_literals_of_all_lengths() -> None:
    for size in (1, 60, 61, 256, 257, 65536, 65537, 1 << 20):
        content = noise(size)
        width = max((size - 1).bit_length() + 7 >> 3, 1)
        tag = (
            bytes([size - 1 << 2])
            if size <= 60
            else bytes([59 + width << 2]) + (size - 1).to_bytes(width, "little")
        )
        length = bytes(
            [size >> s & 0x7F | (0x80 if size >> (s + 7) else 0) for s in range(0, 28, 7) if size >> s]
        )
        assert pages.unpack("snappy", length + tag + content, size) == content


@given(st.sampled_from(["zlib", "lzo", "snappy", "zstd"]), st.binary(max_size=300))
def test_any_compressed_data_is_unpacked_or_refused(name: str, data: bytes) -> None:
    with suppress(pages.DamagedPageError):
        assert len(pages.unpack(name, data, 4096)) == 4096


@given(st.sampled_from(PACKED), st.data())
def test_damaged_pages_stay_within_their_size(sample: tuple[str, bytes, str], data: st.DataObject) -> None:
    name, _, packed = sample
    blob = bytearray(base64.b85decode(packed))
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with suppress(pages.DamagedPageError):
        assert len(pages.unpack(name, bytes(blob), 4096)) == 4096


def test_zlib_and_zstd_bombs_are_stopped() -> None:
    bomb = bytes(64 << 20)
    for name, packed in (("zlib", vmcore.deflate(bomb)), ("zstd", unzstd(bomb))):
        stopwatch = Stopwatch()
        with pytest.raises(pages.DamagedPageError):
            pages.unpack(name, packed, 4096)
        assert stopwatch.seconds() < 0.5


def test_without_zstd(open_dump: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = open_dump(Kdump(PAGES, flag=vmcore.ZSTD, compress=unzstd).build())
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    with pytest.raises(DumpError, match="the Python package zstandard"):
        dump.read_physical(BLOCK, 1)


def test_incomplete_dump(open_dump: Open) -> None:
    dump = open_dump(Kdump(PAGES, status=8, lost=frozenset({40})).build())
    assert "incomplete" in dump.contents.damage[0]
    assert dump.read_physical(41 * BLOCK, BLOCK) == PAGES[41]
    with pytest.raises(NotInDumpError, match="0x28000 is lost: the dump is incomplete"):
        dump.read_physical(40 * BLOCK, 1)


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_kdump_cut_anywhere_is_not_called_complete(open_dump: Open, order: vmcore.Order) -> None:
    """Nor in the pages. The last one is full of zeros, and stored in front, as writers of dumps do it."""
    built = Kdump({**PAGES, 3: bytes(BLOCK), 70000: bytes(BLOCK)}, order=order, shared_zeros=True).build()
    assert open_dump(built).contents.damage == ()
    descriptors = BLOCK * (2 + 2 * 3)
    for size in (descriptors, descriptors + 24, *range(descriptors + 24 * len(PAGES), len(built), 99)):
        assert "truncated" in open_dump(built[:size]).contents.damage[0]
        assert not require_valid("info", info.as_json(info.gather(open_dump(built[:size]), tools=NO_TOOLS)))[
            "complete"
        ]


def test_a_kdump_whose_writer_was_killed(open_dump: Open) -> None:
    """It writes descriptors in blocks, after pages that lie behind them."""
    dump = open_dump(Kdump(PAGES, lost=frozenset({33000, 70000})).build())
    assert dump.contents.damage == ("truncated: its last pages were never written",)


def test_a_part_is_cut_where_its_own_pages_end(open_dump: Callable[..., Dump]) -> None:
    built = [
        Kdump(PAGES, page_count=70001, split=each).build() for each in ((0, 41), (41, 50000), (50000, 70001))
    ]
    for part in built:
        assert open_dump(part).contents.damage == ()
        assert "truncated: its pages end" in open_dump(part[:-1]).contents.damage[0]
    (found,) = open_dump(built[0], built[1][:-1], built[2]).contents.damage
    assert "truncated: its pages end" in found


def test_many_zeros_at_the_end_of_a_kdump(open_dump: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskdump, "_DESCRIPTORS_AT_ONCE", 4)
    zeros = dict.fromkeys(range(100, 121), bytes(BLOCK))
    pages = {number: page for number, page in {**PAGES, **zeros}.items() if number < 200}
    built = Kdump(pages, page_count=200, shared_zeros=True).build()
    assert open_dump(built).contents.damage == ()
    assert "truncated: its pages end" in open_dump(built[:-1]).contents.damage[0]


def test_a_page_that_does_not_unpack(open_dump: Open) -> None:
    dump = open_dump(Kdump(PAGES, compress=lambda page: b"x" + vmcore.deflate(page)).build())
    with pytest.raises(DumpError, match="damaged: the page of 0x1000: zlib"):
        dump.read_physical(BLOCK, 1)


def test_split_dump(open_dump: Callable[..., Dump]) -> None:
    built = [
        Kdump(PAGES, page_count=70001, split=each, lines=LINES).build()
        for each in ((0, 41), (41, 50000), (50000, 70001))
    ]
    whole = open_dump(*built[::-1])
    for number, page in PAGES.items():
        assert whole.read_physical(number * BLOCK, BLOCK) == page
    assert whole.contents.damage == ()
    first = open_dump(built[0])
    assert first.contents.is_part
    assert first.read_physical(40 * BLOCK, BLOCK) == PAGES[40]
    with pytest.raises(NotInDumpError, match="it is in another part of this split dump"):
        first.read_physical(41 * BLOCK, 1)
    assert any("split dump" in each for each in info.gather(first, tools=NO_TOOLS).damage)
    assert "a part is missing" in open_dump(built[0], built[2]).contents.damage[0]


def test_parts_that_are_none(open_dump: Callable[..., Dump]) -> None:
    part = Kdump(PAGES, page_count=70001, split=(0, 41)).build()
    with pytest.raises(DumpError, match="not a part of a split dump"):
        open_dump(part, Kdump(PAGES).build())
    with pytest.raises(DumpError, match="different dumps"):
        open_dump(part, Kdump(PAGES, page_count=80000, split=(41, 80000)).build())
    with pytest.raises(DumpError, match="not all are parts"):
        open_dump(part, elf([]))


SMALL = Kdump({1: text_page(1), 2: text_page(2)}, lines=LINES).build()


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, 0, "no version"),
        (428, 0, "no size of pages"),
        (428, 4097, "no size of pages"),
        (428, 1 << 30, "no size of pages"),
        (432, 0, "no size of pages"),
        (436, 0, "no size of pages"),
        (4096 + 96, 1 << 31, "bitmaps of 4096 bytes for 2147483648 pages"),
        (436, 0xFFFFFFFE, "truncated: its bitmaps end at"),
    ],
)
def test_damaged_kdump_header(open_dump: Open, offset: int, value: int, message: str) -> None:
    content = bytearray(SMALL)
    content[offset : offset + 4] = value.to_bytes(4, "little")
    with pytest.raises(DumpError, match=message):
        open_dump(bytes(content))


def test_truncated_kdump_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    for length in (*range(0, 600, 7), *range(600, len(SMALL), 97), *range(len(SMALL) - 300, len(SMALL), 5)):
        path.write_bytes(SMALL[:length])
        assert outcome(path)


SAMPLES = {
    "elf": elf([Part(0x1000, noise(300), 0xFFFF888000001000)], notes=vmcoreinfo_note(LINES)),
    "elf32": elf([Part(0x1000, noise(300))], elf_class=32, machine="arm", notes=vmcoreinfo_note(LINES)),
    "kdump": SMALL,
    "flattened": flattened(SMALL, range(0, len(SMALL), 1000)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(150)
)
@given(data=st.data())
def test_any_damage_is_read_or_refused(name: str, data: st.DataObject, tmp_path: Path) -> None:
    blob = bytearray(SAMPLES[name])
    for _ in range(data.draw(st.integers(1, 6))):
        value = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        count = data.draw(st.sampled_from([1, 2, 4, 8]))
        region = data.draw(st.sampled_from([(0, 600), (4096, 4300), (0, len(blob))]))
        at = data.draw(st.integers(region[0], max(min(region[1], len(blob)) - 1, region[0])))
        blob[at : at + count] = bytes([value]) * count
    path = tmp_path / f"vmcore.{name}"
    path.write_bytes(blob)
    assert outcome(path)


# Flattened


@given(st.lists(st.integers(0, 20_000), max_size=20), st.binary(min_size=1, max_size=200), st.randoms())
def test_flattened_is_the_file_it_was_made_of(cuts: list[int], seed: bytes, order: random.Random) -> None:
    content = (seed * 20_000)[: order.randrange(1, 20_000)]
    source = _Bytes(flattened(content, cuts))
    file = FlattenedFile(source)
    assert file.size == len(content)
    assert file.read_at(0, len(content) + 1) == content
    start, size = order.randrange(len(content)), order.randrange(1, 3000)
    assert file.read_at(start, size) == content[start : start + size]
    assert file.damage == ()


class _Bytes:
    """A source in memory."""

    name = "stream"
    container = ""
    damage = ()

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    read_written = read_at


@given(st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=30)), min_size=1, max_size=20))
def test_a_later_block_replaces_an_earlier_one(blocks: list[tuple[int, bytes]]) -> None:
    expected = bytearray(max(offset + len(data) for offset, data in blocks))
    for offset, data in blocks:
        expected[offset : offset + len(data)] = data
    file = FlattenedFile(_Bytes(vmcore.flattened_blocks(blocks)))
    assert file.read_at(0, 1000) == bytes(expected)


def test_flattened_dumps(open_dump: Open) -> None:
    for content in (SMALL, SAMPLES["elf"]):
        dump = open_dump(flattened(content, range(0, len(content), 777)))
        assert dump.contents.format.endswith(", flattened")
        assert dump.vmcoreinfo.release == "6.1.0-test"


def test_blocks_that_are_lost_are_no_zeros(open_dump: Open) -> None:
    """Pages stored as they are, whose blocks were written before others that describe them."""
    contents = {number: noise(BLOCK, number) for number in range(1, 6)}
    whole = Kdump(contents, lines=LINES).build()
    place = whole.index(contents[3])
    stream = vmcore.flattened_blocks(
        [(0, whole[:place]), (place + BLOCK, whole[place + BLOCK :])], end=False
    )
    dump = open_dump(stream)
    assert dump.read_physical(4 * BLOCK, BLOCK) == contents[4]
    with pytest.raises(NotInDumpError, match="0x3000 is lost"):
        dump.read_physical(3 * BLOCK, BLOCK)
    core = elf([Part(0, b"x" * 3000)])
    dump = open_dump(vmcore.flattened_blocks([(0, core[:-2000]), (len(core) - 1000, core[-1000:])]))
    assert dump.read_physical(0, 1000) == b"x" * 1000
    with pytest.raises(NotInDumpError, match="0x3e8 is lost"):
        dump.read_physical(0, 3000)


def test_truncated_flattened(open_dump: Open) -> None:
    stream = vmcore.flattened_blocks([(0, SMALL)], end=False)
    dump = open_dump(stream)
    assert "end mark is missing" in dump.contents.damage[0]
    assert dump.read_physical(BLOCK, BLOCK) == text_page(1)
    assert open_dump(stream[:-100]).read_physical(BLOCK, BLOCK) == text_page(1)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"makedumpfile\0\0\0\0", "truncated in the flattened format's header"),
        (struct.pack(">16sqq", b"makedumpfile", 1, 2), "version 2"),
        (vmcore.flattened_blocks([]), "the file is empty"),
        (vmcore.flattened_blocks([(-5, b"x")]), "claims 1 bytes at offset -0x5"),
        (vmcore.flattened_blocks([((1 << 63) - 1, b"x")]), "claims 1 bytes"),
        (vmcore.flattened_blocks([(0, b"")]), "claims 0 bytes"),
    ],
)
def test_damaged_flattened(open_dump: Open, stream: bytes, message: str) -> None:
    with pytest.raises(DumpError, match=message):
        open_dump(stream)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=30))
def test_pieces_are_what_painting_the_ranges_one_by_one_gives(ranges: list[tuple[int, int]]) -> None:
    painted: dict[int, int] = {}
    starts, ends, targets = [], [], []
    for number, (start, size) in enumerate(ranges):
        starts.append(start)
        ends.append(start + size)
        targets.append(1000 * number)
        painted.update({each: 1000 * number + each - start for each in range(start, start + size)})
    found = Pieces(starts, ends, targets)
    for address in range(102):
        piece = found.at(address)
        assert (None if piece is None else piece.target + address - piece.start) == painted.get(address)


# What is no dump


def xen_core() -> bytes:
    """As xl dump-core makes it: sections, no segments (docs/misc/dump-core-format.txt)."""
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    return ident + struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 0, 64, 0, 64, 56, 0, 64, 8, 1) + bytes(8 * 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"hello world", "not a crash dump"),
        (b"DISKDUMP" + bytes(100), "old diskdump"),
        (b"\x1f\x8b\x08" + bytes(20), "gzip -d"),
        (lzma.compress(b"x"), "xz -d"),
        (unzstd(b"x"), "zstd -d"),
        (b"PAGEDU64" + bytes(20), "Windows"),
        (b"PAGEDUMP" + bytes(20), "Windows"),
        (b"QEVM\0\0\0\x03" + bytes(99), "QEMU saves or migrates"),
        (b"LibvirtQemudSave\x02\0\0\0" + bytes(99), "virsh dump --memory-only"),
        (b"LibvirtQemudPart\x02\0\0\0" + bytes(99), "not finished"),
        (b"QFI\xfb\0\0\0\x03" + bytes(99), "qcow2"),
        (struct.pack("<IIQQ", 0x4C694D45, 1, 0x1000, 0x9FFFF) + bytes(99), "LiME"),
        (struct.pack("<I", 0xBED2BED2) + bytes(99), "VMware"),
        (struct.pack("<I", 0xBAD1BAD1) + bytes(99), "VMware"),
        (b"LibxlFmt" + bytes(99), "xl dump-core"),
        (bytes(4086) + b"S1SUSPEND\0" + bytes(99), "hibernates"),
        (bytes(4086) + b"SWAPSPACE2" + bytes(99), "swap space"),
        (xen_core(), "Xen"),
    ],
)
def test_what_is_no_dump(
    open_dump: Open, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kdumpfile", None)
    with pytest.raises(DumpError) as caught:
        open_dump(content)
    assert message in f"{caught.value.what} {caught.value.hint}"
    assert caught.value.hint
    assert caught.value.status == (12 if content.startswith(b"\x7fELF") else 4)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match="No such file") as caught:
        Dump.open(tmp_path / "missing")
    assert caught.value.status == 2
    with pytest.raises(DumpError, match="Is a directory"):
        Dump.open(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DumpError, match="Illegal seek"):
        Dump.open(tmp_path / "pipe")


def open_files() -> set[str]:
    return {str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if os.path.lexists(each)}


def test_files_are_closed(tmp_path: Path, open_dump: Callable[..., Dump]) -> None:
    """At once, not when the garbage collector comes; also those of a dump that turns out to be none."""
    before = open_files()
    parts = [Kdump(PAGES, page_count=70001, split=each).build() for each in ((0, 41), (41, 70001))]
    with open_dump(*parts) as dump:
        assert len(open_files() - before) == 2
        assert dump.read_physical(BLOCK, BLOCK) == PAGES[1]
    assert open_files() == before
    dump.close()
    with pytest.raises(DumpError) as kept:
        open_dump(parts[0], b"no part")
    assert open_files() == before
    del kept


def test_a_sparse_file_of_any_size_takes_no_time(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(SMALL)
    os.truncate(path, 1 << 43)
    assert "6.1.0-test" in outcome(path)


def test_a_flattened_file_of_tiny_blocks_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    blocks = b"".join(struct.pack(">qqc", 2 * number, 1, b"x") for number in range(1 << 20))
    path.write_bytes(flattened(b"x")[:4096] + blocks)
    stopwatch = Stopwatch()
    with pytest.raises(DumpError, match="flattened blocks have less than"):
        Dump.open(path)
    assert stopwatch.seconds() < 1


# libkdumpfile


@pytest.mark.parametrize("binding", ["debian", "pykdumpfile"])
def test_the_librarys_binding_is_used_for_other_formats(
    binding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against stand-ins for both bindings: Debian's `kdumpfile` class, and pykdumpfile's `Context`."""
    path = tmp_path / "vmcore"
    path.write_bytes(b"a format of its own")
    source, error = BINDINGS[binding]
    exceptions = ModuleType("kdumpfile.exceptions")
    exec(f"class {error}(Exception): pass", exceptions.__dict__)
    module = ModuleType("kdumpfile")
    module.__dict__["ERROR"] = exceptions.__dict__[error]
    exec(COMMON + source, module.__dict__)
    monkeypatch.setitem(sys.modules, "kdumpfile", module)
    monkeypatch.setitem(sys.modules, "kdumpfile.exceptions", exceptions)
    dump = Dump.open(path)
    assert isinstance(dump.contents, library.LibraryDump)
    assert (dump.arch, dump.word_size, dump.byte_order) == ("arm64", 8, "little")
    assert dump.vmcoreinfo.release == "6.1.0-lib"
    assert dump.read_physical(0x1000, 4) == b"1000"
    found = info.gather(dump, tools=NO_TOOLS)
    told = require_valid("info", info.as_json(found))
    assert (told["complete"], told["damage"], told["memory"]) == (None, [], None), "nothing tells"
    assert {"complete      unknown", "memory        unknown"} <= set(info.as_text(found).splitlines())
    with pytest.raises(NotInDumpError, match="not there"):
        dump.read_physical(0, 4)


COMMON = """
def tree(raw):
    arch = dict(name="aarch64", ptr_size=8, byte_order=1)
    return dict(arch=arch, linux=dict(vmcoreinfo=dict(raw=raw)), file=dict(format="lkcd"))
def read(space, address, size):
    assert space == 2
    if address == 0:
        raise ERROR("not there")
    return b"%x" % address
"""
DEBIAN = """
KDUMP_MACHPHYSADDR = 2
class kdumpfile:
    def __init__(self, file):
        self.attr = tree("OSRELEASE=6.1.0-lib\\n")
    def read(self, space, address, size):
        return bytearray(read(space, address, size))
"""
PYKDUMPFILE = """
MACHPHYSADDR = 2
class Blob:
    def get(self):
        return b"OSRELEASE=6.1.0-lib\\n"
class Context:
    def __init__(self):
        self.attr = None
    def open(self, path):
        self.attr = tree(Blob())
    def read(self, space, address, size):
        return memoryview(read(space, address, size))
"""

BINDINGS = {"debian": (DEBIAN, "KDumpBaseException"), "pykdumpfile": (PYKDUMPFILE, "KdumpfileError")}


# Notes


def prstatus(registers: int, word: int, at: int, pid: int, first: int, order: str = "<") -> bytes:
    """A struct elf_prstatus: registers count up from `first`."""
    head = bytearray(at)
    struct.pack_into(f"{order}i", head, 32 if word == 8 else 24, pid)
    code = "Q" if word == 8 else "I"
    return (
        bytes(head) + struct.pack(f"{order}{registers}{code}", *range(first, first + registers)) + bytes(8)
    )


# Counts and places by include/linux/elfcore.h and each architecture's user_regs_struct or pt_regs.
@pytest.mark.parametrize(
    ("arch", "registers", "word", "at", "pc", "sp"),
    [
        ("x86_64", 27, 8, 112, 16, 19),
        ("riscv64", 32, 8, 112, 0, 2),
        ("loongarch64", 35, 8, 112, 33, 3),  # and ten that are reserved
        ("ppc64le", 44, 8, 112, 32, 1),  # and four without a name
        ("arm64", 34, 8, 112, 32, 31),
        ("i386", 17, 4, 72, 12, 15),
        ("arm", 18, 4, 72, 15, 13),
        ("s390x", 27, 8, 112, 1, 17),  # sixteen of 32 bits take eight
        ("sh", 23, 4, 72, 16, 15),
    ],
)
def test_registers(open_dump: Open, arch: str, registers: int, word: int, at: int, pc: int, sp: int) -> None:
    order: vmcore.Order = "big" if arch == "s390x" else "little"
    mark = ">" if order == "big" else "<"
    contents = [prstatus(registers, word, at, pid, 1000 * pid, mark) for pid in (7, 8)]
    notes = b"".join(vmcore.note(b"CORE", 1, each, order) for each in [*contents, b"short"])
    notes += vmcore.note(b"LINUX", 1, bytes(400), order)
    dump = open_dump(elf([], notes=notes, machine=arch, elf_class=8 * word, order=order))
    assert [(each.number, each.process, each.pc, each.sp) for each in dump.processors] == [
        (0, 7, 7000 + pc, 7000 + sp),
        (1, 8, 8000 + pc, 8000 + sp),
    ]
    # gdb's order, and so the notes', is that of the values.
    shown = re.findall(
        r"\b([0-9a-f]{16})\b", info.as_text(info.gather(dump, tools=NO_TOOLS), registers=True)
    )
    assert [int(value, 16) for value in shown] == [
        first + number for first in (7000, 8000) for number in range(registers)
    ]


def test_a_huge_note_is_passed_over(open_dump: Open) -> None:
    notes = vmcore.note(b"LINUX", 0x700, bytes(3 << 20)) + vmcoreinfo_note(LINES)
    dump = open_dump(elf([], notes=notes))
    first = dump.notes[0]
    assert (first.name, first.size, first.content) == (b"LINUX", 3 << 20, b"")
    assert dump.vmcoreinfo.release == "6.1.0-test"


# VMCOREINFO and what is told of a dump


def test_vmcoreinfo(open_dump: Open) -> None:
    lines = {
        **LINES, "SYMBOL(prb)": "ffffffff81234560", "SIZE(page)": 64, "OFFSET(page.flags)": 8,
        "NUMBER(phys_base)": -111149056, "NUMBER(kimage_voffset)": "0xffff800008000000",
        "NUMBER(PAGE_OFFSET)": "ff60000000000000", "KERNELOFFSET": "1d800000", "SIZE(odd)": "x" * 9999,
    }  # fmt: skip
    found = open_dump(elf([], notes=vmcoreinfo_note(lines))).vmcoreinfo
    assert found.symbol("prb") == 0xFFFFFFFF81234560
    assert (found.size("page"), found.offset("page.flags")) == (64, 8)
    assert found.number("phys_base") == -111149056
    assert found.address("kimage_voffset") == 0xFFFF800008000000
    assert found.address("PAGE_OFFSET") == 0xFF60000000000000
    assert found.kernel_offset == 0x1D800000
    assert (found.size("odd"), found.size("none")) == (None, None)


def test_info(open_dump: Open) -> None:
    lines = {**LINES, "NUMBER(VA_BITS)": 52, "NUMBER(TCR_EL1_T1SZ)": "0xc"}
    memory = Part(0x1000, bytes(4096), memory_size=8192)
    dump = open_dump(elf([memory], notes=vmcoreinfo_note(lines), machine="arm64"))
    given = info.gather(dump, tools=NO_TOOLS)
    found = require_valid("info", info.as_json(given))
    assert found["complete"]
    assert found["memory"] == {"bytes": 8192, "saved_bytes": 4096, "ranges": [[0x1000, 0x3000]]}
    assert (found["arch"], found["page_size"], found["crash_time"]) == ("arm64", 4096, 1_700_000_000)
    assert "does not say where the kernel's log is" in found["log_problem"]
    problems = found["readers"]["makedumpfile"]["problems"]
    assert any("52 bits" in each for each in problems)
    assert any("NUMBER(kimage_voffset)" in each for each in problems)
    text = info.as_text(given)
    assert "2023-11-14 22:13:20 UTC" in text


def test_info_prints_nothing_that_a_terminal_would_act_on(open_dump: Open) -> None:
    notes = vmcoreinfo_note({"OSRELEASE": "6.1\x1b[2J", "PAGESIZE\x1b": 1})
    text = info.as_text(info.gather(open_dump(elf([], notes=notes)), tools=NO_TOOLS))
    assert "\x1b" not in text
