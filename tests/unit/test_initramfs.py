"""Putting initramfs together and looking at them; tests/differential has cpio(1) and the compressors."""

import gzip
import lzma
import mmap
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pykexec import initramfs
from pykexec.errors import FileError, ImageError, UsageError
from pykexec.initramfs import Addition, Kind
from tests.support.footprint import takes_at_most
from tests.support.stopwatch import Stopwatch
from tools.lab import cpio

MAIN = cpio.archive([cpio.Entry("bin", 0o40755), cpio.file("bin/sh", b"#" * 5000), cpio.file("init", "x")])
EARLY = cpio.archive(
    [
        *cpio.folders(["kernel/x86/microcode"]),
        cpio.file("early_cpio", "1"),
        cpio.file("kernel/x86/microcode/GenuineIntel.bin", b"\x01" * 2048),
    ]
)
TABLES = cpio.archive([cpio.file("kernel/firmware/acpi/dsdt.aml", b"DSDT")])


def assemble(*parts: bytes, additions: list[Addition] | None = None) -> bytes:
    return bytes(initramfs.assemble([memoryview(part) for part in parts], additions or []))


def padded(data: bytes, alignment: int = 512) -> bytes:
    return data + bytes(-len(data) % alignment)


def inspect(data: bytes) -> initramfs.Contents:
    return initramfs.inspect(memoryview(data))


def members(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Names to modes and contents, read by the "newc" layout of Documentation's buffer-format.rst."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += 4
            continue
        assert data[at : at + 6] == b"070701"
        assert at % 4 == 0
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        start = (at + 110 + fields[11] + 3) & ~3
        if name != "TRAILER!!!":
            found[name] = fields[1], data[start : start + fields[6]]
        at = (start + fields[6] + 3) & ~3
    return found


def test_one_alone_stays_where_it_is() -> None:
    part = memoryview(bytearray(MAIN))
    assert initramfs.assemble([part]) is part


def test_parts_begin_at_blocks_and_keep_their_order() -> None:
    first, second = gzip.compress(MAIN, mtime=0), lzma.compress(b"y" * 3001)
    assert assemble(first, second, MAIN) == padded(first) + padded(second) + MAIN


def test_the_parts_are_joined_in_the_room_that_they_take() -> None:
    """Not in a bytearray, which grows by copying."""
    part = memoryview(bytes(8 << 20))
    with takes_at_most(1 << 20):  # mappings are not counted
        joined = initramfs.assemble([part, part])
    assert isinstance(joined.obj, mmap.mmap)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([MAIN, EARLY], [EARLY, MAIN]),
        ([EARLY, MAIN], [EARLY, MAIN]),
        ([gzip.compress(MAIN, mtime=0), EARLY, TABLES], [EARLY, TABLES, gzip.compress(MAIN, mtime=0)]),
        ([MAIN, EARLY + gzip.compress(MAIN, mtime=0)], [EARLY, MAIN, gzip.compress(MAIN, mtime=0)]),
        ([MAIN, padded(EARLY) + b""], [padded(EARLY), MAIN]),
        ([TABLES + EARLY + MAIN, MAIN], [TABLES + EARLY, MAIN, MAIN]),
        # Archives with other files have their place in the order, whatever else is in them.
        ([MAIN, cpio.archive([cpio.file("kernel/x86/microcode/x", "1"), cpio.file("init", "2")])], None),
        ([MAIN, cpio.archive([cpio.file("kernel/x86/other", "1")])], None),
    ],
)
def test_early_files_come_first(parts: list[bytes], expected: list[bytes] | None) -> None:
    wanted = parts if expected is None else expected
    *before, last = wanted
    assert assemble(*parts) == b"".join(map(padded, before)) + last


def test_nothing_at_all() -> None:
    assert assemble() == b""
    assert assemble(b"", b"") == b""


def test_empty() -> None:
    assert members(initramfs.empty()) == {}
    assert inspect(initramfs.empty()).kind is Kind.EMPTY


ADDITIONS = [
    Addition("/etc/kexec/post.sh", memoryview(b"#!/bin/sh\n"), 0o100755),
    Addition("lib/firmware/x.bin", memoryview(b"firmware")),
    Addition("tmp/x", memoryview(b"")),
]


def test_additions_come_last_and_replace() -> None:
    joined = assemble(MAIN, additions=[Addition("./init", memoryview(b"mine"), 0o700)])
    assert joined.startswith(padded(MAIN))
    assert members(joined)["init"] == (0o100700, b"mine")
    assert members(joined)["bin/sh"] == (0o100644, b"#" * 5000)


def test_parents_are_made() -> None:
    assert members(initramfs.newc(ADDITIONS)) == {
        "etc": (0o40755, b""),
        "etc/kexec": (0o40755, b""),
        "etc/kexec/post.sh": (0o100755, b"#!/bin/sh\n"),
        "lib": (0o40755, b""),
        "lib/firmware": (0o40755, b""),
        "lib/firmware/x.bin": (0o100644, b"firmware"),
        "tmp": (0o41777, b""),
        "tmp/x": (0o100644, b""),
    }


def test_folders_that_may_be_links_are_left_to_the_main_archive() -> None:
    """clean_path() of init/initramfs.c would remove the link."""
    assert "lib" not in members(assemble(MAIN, additions=ADDITIONS))
    assert "lib/firmware" in members(assemble(MAIN, additions=ADDITIONS))
    assert "lib" in members(assemble(additions=ADDITIONS))


def test_the_same_files_give_the_same_archive() -> None:
    assert initramfs.newc(ADDITIONS) == initramfs.newc(ADDITIONS[::-1])


@pytest.mark.parametrize("path", ["", "/", ".", "a/../b", "a\0b", "a" * 4096, "TRAILER!!!"])
def test_impossible_paths(path: str) -> None:
    with pytest.raises(UsageError, match=r"no path for a file|cannot be in an initramfs"):
        initramfs.newc([Addition(path, memoryview(b""))])


def test_a_file_cannot_be_a_folder() -> None:
    with pytest.raises(UsageError, match="/a/b cannot be both"):
        initramfs.newc([Addition("a/b", memoryview(b"")), Addition("a/b/c", memoryview(b""))])


def test_read_addition(tmp_path: Path) -> None:
    source = tmp_path / "with:colon"
    source.write_bytes(b"data")
    source.chmod(0o750)
    found = initramfs.read_addition(f"{source}:/usr/bin/tool")
    assert (found.path, bytes(found.data), found.mode) == ("usr/bin/tool", b"data", 0o750)
    assert initramfs.read_addition(f"{source}:etc/").path == "etc/with:colon"


@pytest.mark.parametrize("text", ["", "x", ":x", "x:"])
def test_bad_additions(text: str) -> None:
    with pytest.raises((UsageError, FileError)):
        initramfs.read_addition(text)


def test_an_addition_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for source in (tmp_path, tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(FileError, match=f"cannot put {source} .*no file"):
            initramfs.read_addition(f"{source}:x")
    with pytest.raises(FileError, match="No such file"):
        initramfs.read_addition(f"{tmp_path}/missing:x")


def test_an_empty_file_can_be_added(tmp_path: Path) -> None:
    (tmp_path / "empty").touch(0o600)
    found = initramfs.read_addition(f"{tmp_path}/empty:x")
    assert (bytes(found.data), found.mode) == (b"", 0o600)


SIZE = 4096 + 8192
"""What MAIN's files take, in pages of 4 KiB."""


@pytest.mark.parametrize(
    ("data", "kind", "description", "unpacked", "early"),
    [
        (b"", Kind.EMPTY, "empty", 0, False),
        (bytes(600), Kind.EMPTY, "empty", 0, False),
        (MAIN, Kind.CPIO, "cpio archive", SIZE, False),
        (padded(MAIN), Kind.CPIO, "cpio archive", SIZE, False),
        (gzip.compress(MAIN, mtime=0), Kind.COMPRESSED, "gzip", len(MAIN), False),
        (lzma.compress(MAIN), Kind.COMPRESSED, "xz", len(MAIN), False),
        (padded(lzma.compress(MAIN)), Kind.COMPRESSED, "xz", len(MAIN), False),
        (lzma.compress(MAIN, lzma.FORMAT_ALONE), Kind.COMPRESSED, "lzma", None, False),
        (zstandard.compress(MAIN), Kind.COMPRESSED, "zstd", len(MAIN), False),
        (zstandard.compress(MAIN[:300]), Kind.COMPRESSED, "zstd", 300, False),
        (zstandard.compress(bytes(70000)), Kind.COMPRESSED, "zstd", 70000, False),
        (lz4.frame.compress(MAIN), Kind.COMPRESSED, "lz4", len(MAIN), False),
        (lz4.frame.compress(MAIN, store_size=False), Kind.COMPRESSED, "lz4", None, False),
        (b"\x02\x21\x4c\x18" + bytes(20), Kind.COMPRESSED, "lz4", None, False),
        (EARLY + gzip.compress(MAIN, mtime=0), Kind.CPIO, "cpio archive, then gzip", 8192 + len(MAIN), True),
        (EARLY, Kind.CPIO, "cpio archive", 8192, True),
        (EARLY + MAIN, Kind.CPIO, "cpio archive", 8192 + SIZE, True),
    ],
)
def test_inspect(data: bytes, kind: Kind, description: str, unpacked: int | None, early: bool) -> None:
    found = inspect(data)
    assert (found.kind, found.description, found.has_early_files) == (kind, description, early)
    assert found.unpacked == unpacked
    assert found.warning is None


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        (b"\x7fELF" + bytes(60), "no initramfs: a damaged ELF file"),
        (b"nonsense\n", "no initramfs: a text file"),
        (b"\xf4" * 300, "no initramfs: f4 f4"),
        (EARLY + b"hsqs" + b"\x01" * 200, "no initramfs behind its archives, at offset 0x.*: a squashfs"),
        (MAIN[:200], "truncated initramfs: no cpio header at offset 0x74"),
        (MAIN[:400], "truncated initramfs: the file at offset 0x74 does not end"),
        (MAIN[: len(MAIN) - 130], "truncated initramfs|may be truncated"),
        (MAIN[:-124], "its last archive has no end mark"),
        (b"070701" + b"g" * 110, "no cpio header at offset 0x0"),
        (b"070701" + b" 0000000" * 13 + b"x" * 10, "no cpio header at offset 0x0"),
        (b"070701" + b"f" * 104 + b"x" * 100, "does not end in it"),
        (b"070701", "no cpio header at offset 0x0"),
    ],
)
def test_what_a_kernel_will_not_unpack(data: bytes, warning: str) -> None:
    assert re.search(warning, inspect(data).warning or "")


@pytest.mark.slow
def test_archives_without_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth of as many entries as are read, and more zeros than are skipped."""
    monkeypatch.setattr(initramfs, "_ENTRIES_MAX", initramfs._ENTRIES_MAX // 8)
    entry = cpio.archive([cpio.file("x", "")])[:112]
    stopwatch = Stopwatch()
    assert "more than" in (inspect(entry * (1 << 16)).warning or "")
    assert inspect(bytes(80 << 20)).kind in (Kind.UNKNOWN, Kind.EMPTY)
    assert stopwatch.seconds() < 1


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", MAIN, gzip.compress(MAIN, mtime=0), lzma.compress(MAIN), EARLY]),
)
def test_anything_can_be_inspected(rest: bytes, start: bytes) -> None:
    found = inspect(start + rest)
    assert found.unpacked is None or found.unpacked >= 0
    assert (found.kind is Kind.UNKNOWN) <= (found.warning is not None)


@given(st.data())
def test_any_damage_can_be_inspected(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([EARLY + MAIN, lzma.compress(MAIN), zstandard.compress(MAIN)]))
    blob = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    inspect(bytes(blob))
    assert len(assemble(bytes(blob), MAIN)) >= len(MAIN)


@given(st.lists(st.binary(max_size=2000), max_size=5))
def test_every_part_is_there_once_and_aligned(parts: list[bytes]) -> None:
    joined = assemble(*parts)
    if len(parts) == 1:
        assert joined == parts[0]
        return
    at = 0
    for part in filter(None, parts):
        at = -(-at // 512) * 512
        assert joined[at : at + len(part)] == part
        at += len(part)
    assert len(joined) == at


NAMES = st.lists(
    st.text(
        st.characters(min_codepoint=33, max_codepoint=0x250, exclude_characters="/"), min_size=1, max_size=9
    ),
    min_size=1,
    max_size=4,
)


@given(st.dictionaries(NAMES.map("/".join), st.binary(max_size=50), max_size=6))
def test_what_is_put_in_can_be_read(files: dict[str, bytes]) -> None:
    try:
        archive = initramfs.newc([Addition(path, memoryview(data)) for path, data in files.items()])
    except UsageError:
        return
    found = members(archive)
    for path, data in files.items():
        clean = "/".join(part for part in path.split("/") if part != ".")
        assert found[clean][1] in files.values()
        assert data in files.values()
    assert inspect(archive).warning is None


_PACKING: Mapping[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(_PACKING)),
            st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=9)),
        ),
        max_size=3,
    )
)
def test_all_that_is_in_a_chain_is_read(parts: list[tuple[str, dict[str, bytes]]]) -> None:
    """Archives one behind the other; what is behind a compressed one is in it."""
    data = b""
    for packing, files in reversed(parts):
        archive = cpio.archive(cpio.file(name, content) for name, content in files.items())
        joined = archive + bytes(-len(archive) % 512) + data
        data = _PACKING[packing](joined)
    found = [(each.path, bytes(each.data)) for each in initramfs.members("x", memoryview(data))]
    assert found == [(name, content) for _, files in parts for name, content in files.items()]


@pytest.mark.parametrize("damage", [b"junk", b"070701junk"])
def test_members_of_what_is_no_initramfs(damage: bytes) -> None:
    archive = cpio.archive([cpio.file("a", b"1")])
    with pytest.raises(ImageError):
        list(initramfs.members("x", memoryview(archive + damage)))
