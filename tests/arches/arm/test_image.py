"""What files of arm kernels tell, good ones and others."""

import dataclasses
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.arm import ARCH
from pykexec.booting.kernel import identify, inspect
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.memory import KIB, MIB, align_up
from pykexec.plan import Purpose, Request
from tests.arches.arm.images import FakeZImage, vmlinux
from tests.support import arm64_image
from tests.support.damage import check_any_damage
from tests.support.machines import snapshot
from tests.support.uimage import uimage

BANNER = b"Linux version 6.1.1-test (builder@host) #1 SMP\n\0"  # init/version.c
GOOD = FakeZImage()
ZIMAGE = GOOD.build()
VMLINUX = vmlinux(bytes(range(256)) * 16 + BANNER)
MACHINE = "qemu-arm-6.1-1g"
RAM = 0x40000000


def file(data: bytes) -> FileData:
    return FileData.from_bytes("/boot/vmlinuz", data)


def kernel_of(data: bytes, **changes: object) -> tuple[int, bytes, int]:
    """Return address, contents and memory size of the kernel in a plan for a boot."""
    request = Request(file(data), purpose=Purpose.BOOT, **changes)  # type: ignore[arg-type]
    segment = plan_load(snapshot(MACHINE), request).segment("kernel")
    return segment.address, bytes(segment.data), segment.memsz


def test_a_zimage_lies_behind_what_it_unpacks() -> None:
    """Then its code need not move (arch/arm/boot/compressed/head.S, "wont_overwrite")."""
    address, data, memsz = kernel_of(ZIMAGE)
    assert data == ZIMAGE
    end_of_bss = RAM + GOOD.text_offset + GOOD.inflated + GOOD.bss
    assert end_of_bss <= address < end_of_bss + 128 * KIB
    assert address + memsz < RAM + 128 * MIB, "its pc tells it where memory begins"
    assert memsz >= len(ZIMAGE) + 4 + 4 * KIB + GOOD.heap, "the stack, and what malloc() has"


@pytest.mark.parametrize("words", [0, 4])
def test_an_older_one_that_tells_less(words: int) -> None:
    """Then TEXT_OFFSET is taken to be the largest there is, and the size to be five times the file's."""
    old = dataclasses.replace(GOOD, words=words)
    address, _, memsz = kernel_of(old.build())
    assert address >= RAM + 0x208000 + (old.inflated if words else 5 * old.size)
    assert memsz >= old.size + 4 * KIB + 64 * KIB


def test_image_size_is_for_one_that_does_not_tell() -> None:
    old = dataclasses.replace(GOOD, words=0).build()
    for size in (MIB, 24 * MIB):
        assert kernel_of(old, image_size=size)[0] == align_up(RAM + 0x208000 + size, 64 * KIB)
    assert kernel_of(ZIMAGE, image_size=4096) == kernel_of(ZIMAGE), "no less than what it tells"


def test_what_is_appended_is_left_out() -> None:
    """The four bytes behind it are zero: a device tree there would be taken for the machine's."""
    tree = b"\xd0\x0d\xfe\xed" + bytes(100)
    _, data, memsz = kernel_of(dataclasses.replace(GOOD, appended=tree).build())
    assert data == ZIMAGE
    assert memsz >= len(data) + 4


def test_one_that_was_linked_for_an_address() -> None:
    old = dataclasses.replace(GOOD, start=0x10008000)
    assert kernel_of(old.build())[0] == kernel_of(ZIMAGE)[0]


def test_a_vmlinux_runs_where_it_was_linked_for() -> None:
    address, data, _ = kernel_of(VMLINUX)
    assert address == RAM + 0x208000
    assert data.endswith(BANNER)


@pytest.mark.parametrize(
    ("wrapped", "format_"), [(uimage(ZIMAGE), "uImage"), (gzip.compress(ZIMAGE, mtime=0), "zImage")]
)
def test_containers(wrapped: bytes, format_: str) -> None:
    assert kernel_of(wrapped, format=format_)[1] == ZIMAGE


@pytest.mark.parametrize(
    ("data", "format_", "release"), [(ZIMAGE, "zImage", None), (VMLINUX, "vmlinux", "6.1.1-test")]
)
def test_what_a_kernel_tells(data: bytes, format_: str, release: str | None) -> None:
    found = inspect(file(data), ARCH)
    assert found is not None
    assert (found.arch, found.format, found.release, found.line_limit) == ("arm", format_, release, 1023)
    assert not found.is_for_file_load
    assert identify(file(data)) == found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (arm64_image.FakeImage().build(), "which is an arm64 Image: no zImage magic"),
        (ZIMAGE[:0x30], "truncated within its zImage header"),
        (ZIMAGE[:-1], "truncated: 327679 bytes, its header says 327680"),
        (dataclasses.replace(GOOD, magic=0x18286F01).build(), "big-endian"),
        (dataclasses.replace(GOOD, order=0x01020304).build(), "big-endian"),
        (dataclasses.replace(GOOD, inflated=1 << 30).build(), "damaged zImage: it says of its kernel"),
        (dataclasses.replace(GOOD, text_offset=1 << 30).build(), "damaged zImage: it says of its kernel"),
        (ZIMAGE[:0x38] + b"\xff\xff\xff\x7f" + ZIMAGE[0x3C:], "its table .offset 0x38. does not end"),
        (b"x" * 5000, "no zImage magic"),
    ],
)
def test_bad_kernels(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        kernel_of(data)


@given(st.data())
def test_any_damage_is_told_or_refused(data: st.DataObject) -> None:
    check_any_damage(data, [ZIMAGE, VMLINUX], ARCH)
