"""What files of s390x kernels tell, good ones and others."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.s390x import ARCH
from pykexec.arch.s390x.image import parse
from pykexec.booting.kernel import KernelFacts, identify, inspect
from pykexec.errors import ImageError
from pykexec.files import FileData
from tests.arches.s390x.images import LINE, PARAMETERS, FakeImage
from tests.support.damage import check_any_damage
from tests.support.elf import executable

IMAGE = FakeImage().build()
VMLINUX = executable(IMAGE, address=0x100000, machine=22, order=">")


def file(data: bytes) -> FileData:
    return FileData.from_bytes("/boot/vmlinuz", data)


@pytest.mark.parametrize(("told", "limit"), [(4096, 4095), (0, 895), (896, 895), (16384, 16383)])
def test_what_a_kernel_tells(told: int, limit: int) -> None:
    """arch/s390/include/asm/setup.h: kernels that do not tell have 896 bytes for a command line."""
    found = inspect(file(FakeImage(max_command_line_size=told).build()), ARCH)
    assert found is not None
    assert (found.arch, found.format, found.release) == ("s390x", "image", "6.1.1-test")
    assert found.line_limit == limit
    assert found.is_for_file_load
    assert identify(file(FakeImage(max_command_line_size=told).build())) == found


@pytest.mark.parametrize(
    ("image", "release"),
    [
        (FakeImage(kernel_version=0), None),
        (FakeImage(version=b""), None),
        (FakeImage(version=b"\xc1\xc2 x"), None),
        (FakeImage(version=b"6.12.0"), "6.12.0"),
    ],
)
def test_a_version_that_is_none(image: FakeImage, release: str | None) -> None:
    found = inspect(file(image.build()), ARCH)
    assert found is not None
    assert found.release == release


def test_a_version_outside_of_the_file() -> None:
    data = bytearray(IMAGE)
    data[PARAMETERS + 0x28 : PARAMETERS + 0x30] = b"\xff" * 8
    found = inspect(file(bytes(data)), ARCH)
    assert found is not None
    assert found.release is None


def test_a_vmlinux_is_for_the_kernel_alone() -> None:
    found = inspect(file(VMLINUX), ARCH)
    assert found is not None
    assert (found.format, found.is_for_file_load) == ("vmlinux", True)
    with pytest.raises(ImageError, match="is a vmlinux, which only kexec_file_load takes"):
        parse(file(VMLINUX))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (FakeImage(signature=b"S390XX").build(), "no s390x kernel's header"),
        (IMAGE[:0x10408], "truncated: 66568 bytes"),
        (IMAGE[: LINE + 895], f"truncated: {LINE + 895} bytes"),
        (IMAGE[: LINE + 4095], f"truncated: {LINE + 4095} bytes"),
        (FakeImage(max_command_line_size=1 << 40).build(), "damaged kernel: 0x10000000000 bytes for a"),
        (FakeImage(max_command_line_size=1).build(), "damaged kernel: 0x1 bytes for a command line"),
        (b"", "an empty file: no s390x kernel's header"),
    ],
)
def test_what_is_no_kernel_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        parse(file(data))


@given(st.data())
def test_any_damage_is_told_or_refused(data: st.DataObject) -> None:
    check_any_damage(data, [IMAGE, VMLINUX], ARCH)


@given(st.data())
def test_any_damage_of_the_parameter_area_is_told_or_refused(data: st.DataObject) -> None:
    blob = bytearray(IMAGE)
    for _ in range(data.draw(st.integers(1, 8))):
        blob[data.draw(st.integers(0x10000, 0x10480))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0x10000, len(blob)))
    with contextlib.suppress(ImageError):
        found = inspect(file(bytes(blob[:end])), ARCH)
        assert found is None or isinstance(found, KernelFacts)
