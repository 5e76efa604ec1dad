"""Reading bzImages, good, odd and hostile."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.x86 import bzimage
from pykexec.arch.x86.kernel import Entry, LinuxKernel
from pykexec.errors import ImageError
from pykexec.files import FileData
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.stopwatch import Stopwatch


def parse(image: bytes, entry: Entry | None = Entry.LONG) -> LinuxKernel:
    return bzimage.parse(FileData.from_bytes("vmlinuz", image), entry, "x86_64")


def test_the_header_fields_arrive() -> None:
    image = FakeBzImage(init_size=0x3378123, cmdline_size=255, pref_address=0x2000000)
    kernel = parse(image.build())
    assert bytes(kernel.image) == image.payload
    assert kernel.memory_size == 0x3379000
    assert (kernel.command_line_limit, kernel.window.start, kernel.alignment) == (255, 0x2000000, 0x200000)
    assert kernel.relocatable
    assert kernel.takes_efi


def test_no_setup_sectors_means_four() -> None:
    """boot.rst: for backwards compatibility 0 means 4."""
    image = bytearray(FakeBzImage(setup_sects=4).build())
    image[0x1F1] = 0
    assert bytes(parse(bytes(image)).image) == FakeBzImage().payload


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "the file is empty"),
        (b"root:x:0:0:root:/root:/bin/bash\n", "not a kernel"),
        (b"#!/bin/sh\n" * 1000, r"vmlinuz, which is a script \(/bin/sh\): no bzImage signature"),
        (b"#!/bin/sh\n", r"vmlinuz, which is a script \(/bin/sh\): not a kernel"),
        (FakeImage().build(), "vmlinuz, which is an arm64 Image: [^\n]*\n[^\n]*this machine is x86_64"),
        (FakeBzImage().build()[:700], "truncated: 700 bytes"),
        (b"\x01\x92" * 1000, r"^Cannot determine the file type of vmlinuz: no bzImage"),
        (FakeBzImage(version=0x020B).build(), "boot protocol 2.11"),
        (FakeBzImage(loadflags=0).build(), "a zImage"),
        (FakeBzImage(xloadflags=0).build(), "a 32-bit kernel"),
        (FakeBzImage(syssize=0).build(), "syssize is 0"),
        (FakeBzImage(syssize=0xFFFFFFFF).build(), "truncated"),
        (FakeBzImage(init_size=0).build(), "init_size 0x0 is smaller"),
        (FakeBzImage(kernel_alignment=0).build(), "no power of two"),
        (FakeBzImage(kernel_alignment=0x300000).build(), "no power of two"),
    ],
)
def test_what_is_wrong_is_said(image: bytes, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse(image)
    assert re.search(message, str(caught.value))
    assert "vmlinuz" in str(caught.value)
    assert caught.value.exit_code == 255


def test_setup_sects_beyond_the_file() -> None:
    image = bytearray(FakeBzImage().build())
    image[0x1F1] = 255
    with pytest.raises(ImageError, match="truncated"):
        parse(bytes(image))


def test_truncated_anywhere() -> None:
    image = FakeBzImage(payload=b"\x90" * 1024).build()
    for length in range(len(image)):
        with pytest.raises(ImageError):
            parse(image[:length])


@given(st.data())
def test_any_header_is_either_read_or_refused_quickly(data: st.DataObject) -> None:
    image = bytearray(FakeBzImage(payload=b"\x90" * 1024).build())
    for _ in range(data.draw(st.integers(1, 8))):
        image[data.draw(st.integers(0x1F1, 0x26B))] = data.draw(st.integers(0, 255))
    stopwatch = Stopwatch()
    try:
        kernel = parse(bytes(image))
    except ImageError:
        pass
    else:
        assert kernel.image.nbytes <= kernel.memory_size
    assert stopwatch.seconds() < 1
