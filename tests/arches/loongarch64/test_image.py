"""What files of loongarch64 kernels tell, good ones and others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.loongarch64 import ARCH
from pykexec.booting.kernel import identify, inspect
from pykexec.files import FileData
from pykexec.memory import MIB
from tests.arches.loongarch64.images import FakeImage
from tests.support.damage import check_any_damage
from tests.support.elf import executable

IMAGE = FakeImage(image_size=3 * MIB).build()
VMLINUX = executable(IMAGE, address=0x9000000000200000, machine=258)


def file(data: bytes) -> FileData:
    return FileData.from_bytes("/boot/vmlinuz", data)


@pytest.mark.parametrize(
    ("data", "format_", "memory"),
    [(IMAGE, "pei-loongarch", 3 * MIB), (VMLINUX, "elf-loongarch", len(IMAGE))],
)
def test_what_a_kernel_tells(data: bytes, format_: str, memory: int) -> None:
    found = inspect(file(data), ARCH)
    assert found is not None
    assert (found.arch, found.format, found.release) == ("loongarch64", format_, "7.2.1-test")
    assert (found.memory, found.line_limit) == (memory, 4095)
    assert found.is_for_file_load
    assert identify(file(data)) == found


@pytest.mark.parametrize(
    ("release", "limit"),
    [("6.1.0-9-loong64", 511), ("6.16.12", 511), ("6.17.1", 4095), ("6.18.2", 4095), ("7.2.13", 4095)],
)
def test_the_longest_command_line(release: str, limit: int) -> None:
    """COMMAND_LINE_SIZE in arch/loongarch/include/uapi/asm/setup.h, or include/uapi/asm-generic/setup.h."""
    image = FakeImage(banner=f"Linux version {release} (builder@host)".encode()).build()
    found = inspect(file(image), ARCH)
    assert found is not None
    assert found.line_limit == limit


def test_a_kernel_without_a_release_has_the_shorter_line() -> None:
    found = inspect(file(FakeImage(banner=b"").build()), ARCH)
    assert found is not None
    assert (found.release, found.line_limit) == (None, 511)


@pytest.mark.parametrize(
    "other",
    [
        FakeImage(machine=0xAA64),
        FakeImage(machine=0x6232),
        FakeImage(magic=0),
        FakeImage(magic=0, text_offset=0),
        FakeImage(magic=1, text_offset=0, entry=0x9000000000201000),
        FakeImage(magic=0, text_offset=0, entry=0xB000000000201000),
    ],
)
def test_other_files_are_none(other: FakeImage) -> None:
    assert inspect(file(other.build()), ARCH) is None


@given(st.data())
def test_any_damage_is_told_or_refused(data: st.DataObject) -> None:
    check_any_damage(data, [IMAGE, VMLINUX], ARCH)
