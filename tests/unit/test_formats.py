"""Containers, damaged and hostile; what is in good ones is compared where the real tools make them."""

import bz2
import functools
import gzip
import lzma
import struct
import sys
from collections.abc import Callable
from types import ModuleType

import lz4.block
import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pykexec import formats
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import compression, elf
from pykexec.vmcore import pages
from tests.support.arm64_image import FakeImage
from tests.support.bombs import gzip_of_zeros
from tests.support.stopwatch import Stopwatch
from tests.support.uimage import uimage
from tests.support.zboot import zboot

IMAGE = FakeImage().build()


def legacy_lz4(data: bytes, *, block: int = 8 << 20, end: bytes = b"") -> bytes:
    """lz4's "Legacy frame": blocks of 8 MiB, each with its compressed size before it."""
    blocks = [
        lz4.block.compress(data[at : at + block], store_size=False) for at in range(0, len(data), block)
    ]
    return b"\x02\x21\x4c\x18" + b"".join(struct.pack("<I", len(each)) + each for each in blocks) + end


GOOD: dict[str, bytes] = {
    "gzip": gzip.compress(IMAGE, 1, mtime=0),
    "xz": lzma.compress(IMAGE, preset=0),
    "lzma": lzma.compress(IMAGE, lzma.FORMAT_ALONE, preset=0),
    "bzip2": bz2.compress(IMAGE, 1),
    "zstd": zstandard.compress(IMAGE),
    "lz4": lz4.frame.compress(IMAGE),
    "uImage": uimage(IMAGE),
    "uImage, gzip": uimage(gzip.compress(IMAGE, 1, mtime=0)),
    "EFI zboot, gzip": zboot(gzip.compress(IMAGE, 1, mtime=0), b"gzip"),
}


def unwrap(data: bytes) -> tuple[bytes, str]:
    file, wrapping = formats.unwrap(FileData.from_bytes("kernel", data))
    return bytes(file.data), wrapping


@pytest.mark.parametrize("name", GOOD)
def test_what_is_inside(name: str) -> None:
    assert unwrap(GOOD[name]) == (IMAGE, name)


def error_or_size(data: bytes) -> int:
    """How much is inside; 0 for what is refused."""
    try:
        return len(unwrap(data)[0])
    except ImageError:
        return 0


def test_a_bare_kernel_is_left_alone() -> None:
    file = FileData.from_bytes("kernel", IMAGE)
    assert formats.unwrap(file) == (file, "")


@pytest.mark.parametrize("name", GOOD)
def test_truncated_anywhere(name: str) -> None:
    whole = GOOD[name].rstrip(b"\0")
    for length in range(8, len(whole), max(len(whole) // 150, 1)):
        assert error_or_size(whole[:length]) <= length, "refused, or taken for something else as it is"


@pytest.mark.parametrize(
    "data",
    [
        legacy_lz4(IMAGE),
        legacy_lz4(IMAGE, end=bytes(4)),
        legacy_lz4(IMAGE, end=struct.pack("<I", len(IMAGE))),
        legacy_lz4(IMAGE[:1000]) + legacy_lz4(IMAGE[1000:]),
        legacy_lz4(IMAGE, block=64 << 10),
    ],
)
def test_legacy_lz4(data: bytes) -> None:
    """With an end, with the size that kernels have behind them, several files in a row."""
    assert unwrap(data) == (IMAGE, "lz4")


@pytest.mark.parametrize(
    ("packed", "module"),
    [(lz4.frame.compress(IMAGE), "lz4.block"), (legacy_lz4(IMAGE), "lz4.frame")],
    ids=["frame", "legacy frame"],
)
def test_lz4_takes_one_module(packed: bytes, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"lz4.block": "lz4.frame", "lz4.frame": "lz4.block"}[module]
    monkeypatch.setitem(sys.modules, module, None)
    assert unwrap(packed) == (IMAGE, "lz4")
    monkeypatch.setitem(sys.modules, other, None)
    with pytest.raises(ImageError, match="compressed with lz4, which takes the Python package lz4"):
        unwrap(packed)


class OwnZstd:
    """With the methods of compression.zstd.ZstdDecompressor (Python 3.14), by means of the package."""

    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor().decompressobj()
        self.needs_input = True

    def decompress(self, data: bytes, max_length: int) -> bytes:
        found = self._inner.decompress(data)
        assert len(found) <= max_length
        return found

    eof = property(lambda self: self._inner.eof)
    unused_data = property(lambda self: self._inner.unused_data)


def test_zstd_of_python_itself_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    packed, module = zstandard.compress(IMAGE), ModuleType("compression.zstd")
    module.__dict__.update(ZstdDecompressor=OwnZstd, ZstdError=zstandard.ZstdError)
    package = ModuleType("compression")
    package.__dict__.update(zstd=module, __path__=[])
    monkeypatch.setitem(sys.modules, "compression", package)
    monkeypatch.setitem(sys.modules, "compression.zstd", module)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert unwrap(packed) == (IMAGE, "zstd")
    assert pages.unpack("zstd", zstandard.compress(bytes(4096)), 4096) == bytes(4096)
    for damaged in (packed[:4] + b"\xff" * 20, packed[:-40]):
        with pytest.raises(ImageError, match=r"damaged zstd data|truncated"):
            unwrap(damaged)
        with pytest.raises(pages.DamagedPageError):
            pages.unpack("zstd", damaged, 4096)


def test_without_any_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "compression", None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ImageError, match="compressed with zstd, which takes the Python package zstandard"):
        unwrap(zstandard.compress(IMAGE))


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": zstandard.compress,
    "lz4": lz4.frame.compress,
}


@pytest.mark.parametrize("name", COMPRESS)
def test_several_streams_are_one_file(name: str) -> None:
    """As pbzip2 and pzstd write them; what else is behind them is not looked at."""
    compress = COMPRESS[name]
    parts = [IMAGE[:100], IMAGE[100:5000], b"", IMAGE[5000:]]
    packed = b"".join(map(compress, parts))
    assert unwrap(packed) == (IMAGE, name)
    assert unwrap(packed + b"\0\0size") == (IMAGE, name)
    with pytest.raises(ImageError, match="truncated"):
        unwrap(packed[:-60])


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_frames_that_mean_nothing(name: str) -> None:
    """RFC 8878, 3.1.2: a magic number, the size of what is to be skipped, and that."""
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0size"
    packed = b"".join(skipped + COMPRESS[name](part) for part in (IMAGE[:5000], IMAGE[5000:]))
    assert unwrap(packed) == (IMAGE, name)
    alone = skipped * 3
    assert unwrap(alone) == (alone, "")
    assert unwrap(skipped[:6]) == (skipped[:6], "")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPRESS)
def test_streams_without_end_are_given_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth of as many as are read."""
    monkeypatch.setattr(compression, "_STREAMS_MAX", compression._STREAMS_MAX // 8)
    many = COMPRESS[name](b"") * 2500
    stopwatch = Stopwatch()
    with pytest.raises(ImageError, match=r"pieces of \w+ data"):
        unwrap(many)
    assert stopwatch.seconds() < 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (legacy_lz4(IMAGE)[:-1], "truncated"),
        (legacy_lz4(IMAGE) + b"\xff" * 8, "damaged lz4 data: a block of 4294967295 bytes"),
        (b"\x02\x21\x4c\x18\x08\0\0\0" + b"\xff" * 8, "damaged lz4 data"),
        (b"\x89LZO\0\r\n\x1a\n", "compressed with lzop, which pykexec cannot unpack"),
        (zstandard.compress(IMAGE)[:-40], "truncated"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 20, "damaged zstd data"),
        (lz4.frame.compress(IMAGE)[:-40], "truncated"),
        (b"\x04\x22\x4d\x18" + b"\xff" * 20, "damaged lz4 data"),
    ],
)
def test_damaged_lz4_and_zstd(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        unwrap(data)


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_any_damage_is_read_or_refused(name: str, data: st.DataObject) -> None:
    blob = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, min(len(blob), 300) - 1))] = data.draw(st.integers(0, 255))
    assert error_or_size(bytes(blob)) <= 1 << 30


def test_a_few_layers_are_opened() -> None:
    packed = functools.reduce(lambda data, _: gzip.compress(data, mtime=0), range(4), IMAGE)
    assert unwrap(packed) == (IMAGE, "gzip, gzip, gzip, gzip")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (uimage(IMAGE)[:-1], "truncated"),
        (uimage(IMAGE)[:-1] + b"x", "contents' checksum"),
        (uimage(IMAGE)[:8] + b"x" + uimage(IMAGE)[9:], "header's checksum"),
        (uimage(IMAGE, os=17), "no Linux kernel"),
        (uimage(IMAGE, kind=4), "no Linux kernel"),
        (zboot(b"", b"gzip")[:40], "truncated"),
        (
            functools.reduce(lambda data, _: gzip.compress(data, mtime=0), range(5), b""),
            "more than 4 times",
        ),
    ],
)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        unwrap(data)


@pytest.mark.parametrize(
    "compress",
    [
        lambda data: gzip.compress(data, 9, mtime=0),
        lambda data: bz2.compress(data, 9),
        lzma.compress,
        zstandard.compress,
        lz4.frame.compress,
        legacy_lz4,
    ],
)
@pytest.mark.slow
def test_a_bomb_is_stopped(compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_SIZE_MAX", 8 << 20)
    bomb = compress(bytes(24 << 20))
    stopwatch = Stopwatch()
    with pytest.raises(ImageError, match="unpacks to more than"):
        unwrap(bomb)
    assert stopwatch.seconds() < 2


def elf64(*segments: tuple[int, bytes], offset: int | None = None, size: int | None = None) -> bytes:
    """An ELF file with these (virtual address, bytes) to load."""
    start = 64 + 56 * len(segments)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 183, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0
    )
    table, contents = b"", b""
    for address, data in segments:
        place = start + len(contents) if offset is None else offset
        length = len(data) if size is None else size
        table += struct.pack("<IIQQQQQQ", 1, 7, place, address, address, length, length, 4096)
        contents += data
    return header + table + contents


def flattened(data: bytes) -> memoryview:
    return elf.flatten("vmlinux", elf.parse("vmlinux", memoryview(data)).pieces).data


def test_vmlinux_is_flattened_with_its_gaps() -> None:
    data = elf64((0xFFFF800008000000, b"head"), (0xFFFF800008000010, b"tail"))
    assert flattened(data) == b"head" + bytes(12) + b"tail"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x7fELF", "not an ELF"),
        (elf64(), "without anything"),
        (elf64((0, b"a"), (1 << 60, b"b")), "apart"),
        (elf64((0, b"a"), (128 << 20, b"b")), "apart"),
        (elf64(*[(number, b"a") for number in range(257)]), "257 program headers"),
        (elf64((0, b"a"), offset=1 << 40), "truncated"),
        (elf64((0, b"a"), size=1 << 20), "truncated"),
        (elf64((0, b"head"), (2, b"tail")), "the same memory"),
    ],
)
def test_damaged_elf(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        flattened(data)


@pytest.mark.slow
def test_a_small_bomb_costs_little() -> None:
    """300 KiB that unpack to 300 MiB: long before that it is clear that this is no kernel."""
    bomb = memoryview(gzip_of_zeros(300))
    taken: list[int] = []
    with pytest.raises(ImageError, match="unpacks to more than"):
        taken.extend(len(piece) for piece in compression.pieces("bomb", bomb, "gzip"))
    assert sum(taken) < 100 << 20
