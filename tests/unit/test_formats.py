"""Containers, damaged and hostile; what is in good ones is compared where the real tools make them."""

import bz2
import gzip
import lzma
import struct
import time
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import formats
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import compression, elf, identify
from tests.support.arm64_image import FakeImage
from tests.support.zboot import zboot

IMAGE = FakeImage().build()


def uimage(data: bytes, *, os: int = 5, kind: int = 2) -> bytes:
    """From U-Boot's include/image.h."""
    fields = (0, len(data), 0, 0, zlib.crc32(data), os, 22, kind, 0, b"Linux")
    unsigned = struct.pack(">IIIIIIIBBBB32s", 0x27051956, 0, *fields[:5], *fields[5:])
    return unsigned[:4] + struct.pack(">I", zlib.crc32(unsigned)) + unsigned[8:] + data


GOOD: dict[str, bytes] = {
    "gzip": gzip.compress(IMAGE, 1),
    "xz": lzma.compress(IMAGE, preset=0),
    "lzma": lzma.compress(IMAGE, lzma.FORMAT_ALONE, preset=0),
    "bzip2": bz2.compress(IMAGE, 1),
    "uImage": uimage(IMAGE),
    "uImage, gzip": uimage(gzip.compress(IMAGE, 1)),
    "EFI zboot, gzip": zboot(gzip.compress(IMAGE, 1), b"gzip"),
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


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_any_damage_is_read_or_refused(name: str, data: st.DataObject) -> None:
    blob = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, min(len(blob), 300) - 1))] = data.draw(st.integers(0, 255))
    assert error_or_size(bytes(blob)) <= 1 << 30


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
            gzip.compress(gzip.compress(gzip.compress(gzip.compress(gzip.compress(b""))))),
            "more than 4 times",
        ),
    ],
)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        unwrap(data)


@pytest.mark.parametrize("compress", [lambda d: gzip.compress(d, 9), lambda d: bz2.compress(d, 9)])
def test_a_bomb_is_stopped(compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_SIZE_MAX", 16 << 20)
    bomb = compress(bytes(64 << 20))
    start = time.monotonic()
    with pytest.raises(ImageError, match="unpacks to more than"):
        unwrap(bomb)
    assert time.monotonic() - start < 2


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


def test_vmlinux_is_flattened_with_its_gaps() -> None:
    data = elf64((0xFFFF800008000000, b"head"), (0xFFFF800008000010, b"tail"))
    assert elf.flatten("vmlinux", memoryview(data)) == b"head" + bytes(12) + b"tail"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x7fELF", "damaged ELF"),
        (elf64(), "without anything"),
        (elf64((0, b"a"), (1 << 60, b"b")), "apart"),
        (elf64((0, b"a"), offset=1 << 40), "truncated"),
        (elf64((0, b"a"), size=1 << 20), "truncated"),
    ],
)
def test_damaged_elf(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        elf.flatten("vmlinux", memoryview(data))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (elf64((0, b"a")), "an ELF file for aarch64"),
        (b"\x7fELF\x02\x02\x01" + bytes(11) + b"\x00\x16" + bytes(50), "an ELF file for s390"),
        (b"MZ" + bytes(58) + b"\x40\0\0\0" + b"PE\0\0\x64\xaa", "an EFI executable for arm64"),
        (b"MZ" + bytes(58) + b"\x40\0\0\0" + b"PE\0\0\x64\x86", "an EFI executable for x86_64"),
        (b"MZ" + bytes(58) + b"\xff\xff\xff\xff", None),
        (b"MZ", None),
        (b"\x7fELF", None),
        (b"", None),
    ],
)
def test_what_a_file_is_instead(data: bytes, expected: str | None) -> None:
    """Machine numbers are those of the ELF and PE specifications (elf.h: 183, 22)."""
    assert identify.describe(memoryview(data)) == expected
