"""What files of sh's kernels tell, good ones and others."""

import gzip
import lzma
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.sh import ARCH, image
from pykexec.booting.kernel import identify, inspect
from pykexec.errors import ImageError
from pykexec.files import FileData
from tests.arches.sh.images import FakeZImage, configuration, kernel, vmlinux
from tests.support.bombs import gzip_of_zeros
from tests.support.bzimage import FakeBzImage
from tests.support.damage import check_any_damage

ZIMAGE = FakeZImage().build()
CONFIG = configuration("CONFIG_MEMORY_START=0x0c000000\n")


def file(data: bytes) -> FileData:
    return FileData.from_bytes("/boot/vmlinuz", data)


@pytest.mark.parametrize(
    ("data", "format_", "end"),
    [
        # Its bss ends there; the heap is that of kernels that know bzip2 (arch/sh/boot/compressed/misc.c).
        (ZIMAGE, "zImage-sh", 0x8C800000 + len(ZIMAGE) + 0x20 + 0x4100 + 0x400000 - 0x1000),
        (vmlinux(), "elf-sh", 0x8C010000 + 0x1000 + 0x30000 + 0x2E000),
    ],
)
def test_what_a_kernel_tells(data: bytes, format_: str, end: int) -> None:
    found = inspect(file(data), ARCH)
    assert found is not None
    assert (found.arch, found.format, found.release) == ("sh", format_, "6.1.192-test")
    assert found.memory == end - 0x8C010000
    assert found.line_limit == 511
    assert not found.is_for_file_load
    assert identify(file(data)) == found


def lzma_with_size(data: bytes) -> bytes:
    """As scripts/Makefile.lib has it (cmd_lzma_with_size)."""
    return lzma.compress(data, lzma.FORMAT_ALONE) + struct.pack("<I", len(data))


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, mtime=0), lzma_with_size])
@pytest.mark.parametrize(
    "text", ["CONFIG_MEMORY_START=0x0c000000\n", "CONFIG_MEMORY_START=-0x1oops\n", None]
)
def test_where_memory_begins(pack: object, text: str | None) -> None:
    data = kernel(more=configuration(text) if text else b"")
    packed = pack(data)  # type: ignore[operator]
    wanted = 0x0C000000 if text and "oops" not in text else None
    for made in (FakeZImage(packed=packed).build(), vmlinux(data=data)):
        assert image.parse(file(made)).built.memory_start == wanted


def test_a_kernel_that_nothing_here_unpacks_is_loaded_unread() -> None:
    """LZO, which arch/sh/Kconfig offers, too."""
    packed = b"\x89LZO\0\r\n\x1a\n" + bytes(1000)
    found = inspect(file(FakeZImage(packed=packed).build()), ARCH)
    assert found is not None
    assert (found.release, found.line_limit) == (None, 511)


def test_what_lies_behind_is_left_out() -> None:
    """As where it was read from flash memory."""
    padded = image.parse(file(ZIMAGE + b"\xff" * 100000))
    assert bytes(padded.data).rstrip(b"\xff") == ZIMAGE
    assert padded.memory == image.parse(file(ZIMAGE)).memory


@pytest.mark.parametrize(
    "data",
    [
        FakeBzImage().build(),
        FakeZImage(signature=b"HdrX").build(),
        ZIMAGE[:0x205],
        b"",
        vmlinux()[:5] + b"\x02" + vmlinux()[6:],  # big-endian
    ],
)
def test_other_files_are_none(data: bytes) -> None:
    assert inspect(file(data), ARCH) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (FakeZImage(magic=0).build(), "a zImage of another kind: no 0x400000f0 where sh's have it"),
        (FakeZImage(start=0x40001000).build(), r"physical addresses of 32 bits \(CONFIG_PMB\)"),
        (FakeZImage(start=0x8C900000).build(), "damaged zImage: at 0x8c800000"),
        (
            FakeZImage(packed=bytes(0x80000)).build()[:-0x18000],
            "truncated: [0-9]+ bytes, its code counts on",
        ),
        (ZIMAGE.replace(b"\x1f\x8b\x08\x00", b"\x1f\x8b\x08\xff"), "the kernel in it"),
        (FakeZImage(packed=gzip_of_zeros(9)).build(), "the kernel in it.: unpacks to more than 7 MiB"),
        (b"\x09\x00" * 0x101 + b"HdrS", "a zImage of another kind"),
        (vmlinux(bits=30), r'where no kernel is that begins with a page of parameters \("SE\?" at'),
        (vmlinux(entry=0x100000), "where no kernel is"),
        (vmlinux(0x0C010000), "linked for 0xc010000, where kernels have no memory"),
        (vmlinux()[:0x8000], "truncated"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        inspect(file(data), ARCH)


@given(st.data())
def test_any_damage_is_told_or_refused(data: st.DataObject) -> None:
    check_any_damage(data, [ZIMAGE, vmlinux()], ARCH)


PAGES = st.integers(0, (1 << 20) - 1).map(lambda page: page << 12) | st.integers(0, (1 << 32) - 1)
NEAR = st.integers(0x8C000, 0x8D000).map(lambda page: page << 12)


@given(PAGES | NEAR, PAGES | NEAR, st.integers(0, 1 << 24))
def test_any_addresses_are_read_or_refused(start: int, link: int, bss_size: int) -> None:
    """Where what it takes is no range of memory, or no kernel fits before it."""
    fake = FakeZImage(start=start, link=link % (1 << 32), bss_size=bss_size, packed=b"x" * 1000, code=0x300)
    try:
        data = fake.build()
    except struct.error:  # beyond the last address
        return
    try:
        found = image.parse(file(data))
    except ImageError:
        assert not (0x8C000000 <= start < link < 0x8D000000 and not (start | link) % 4096 and bss_size)
        return
    assert (found.memory.start, found.address, found.entry) == (start, link, link)
    assert 1 << 31 <= start < link < found.memory.end <= (1 << 32) + (4 << 20)
