"""What files of riscv64 kernels tell, good ones and others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.riscv64 import ARCH
from pykexec.booting.kernel import identify, inspect
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.memory import MIB
from pykexec.plan import Purpose, Request
from tests.arches.riscv64.images import FakeImage
from tests.support import arm64_image
from tests.support.damage import check_any_damage
from tests.support.elf import executable
from tests.support.machines import snapshot
from tests.support.pe import portable_executable

BANNER = b"Linux version 6.12.1-test (builder@host) #1 SMP\n\0"  # init/version.c
IMAGE = FakeImage(image_size=3 * MIB).build() + BANNER
VMLINUX = executable(IMAGE, address=0xFFFFFFFF80000000, machine=243)


def file(data: bytes) -> FileData:
    return FileData.from_bytes("/boot/vmlinuz", data)


@pytest.mark.parametrize(
    ("data", "format_", "memory"),
    [
        (IMAGE, "image-riscv", 4 * MIB),  # of whole 2 MiB: arch/riscv/mm/init.c, setup_bootmem()
        (FakeImage(image_size=4 * MIB).build() + BANNER, "image-riscv", 4 * MIB),
        (VMLINUX, "elf-riscv", len(IMAGE)),
    ],
)
def test_what_a_kernel_tells(data: bytes, format_: str, memory: int) -> None:
    found = inspect(file(data), ARCH)
    assert found is not None
    assert (found.arch, found.format, found.release) == ("riscv64", format_, "6.12.1-test")
    assert (found.memory, found.line_limit) == (memory, 1023)
    assert found.is_for_file_load
    assert identify(file(data)) == found


def test_a_unified_kernel_image() -> None:
    parts = [(".osrel", b"ID=x\n"), (".cmdline", b"console=ttyS0 quiet"), (".linux", IMAGE)]
    kernel = file(portable_executable(parts, machine=0x5064))
    plan = plan_load(snapshot("qemu-riscv64-7.2-1g"), Request(kernel, purpose=Purpose.BOOT))
    assert bytes(plan.segment("kernel").data) == IMAGE
    assert plan.command_line == "console=ttyS0 quiet"


def test_one_for_another_architecture() -> None:
    kernel = file(arm64_image.FakeImage().build())
    with pytest.raises(ImageError, match="which is an arm64 Image: no riscv64 Image signature"):
        plan_load(snapshot("qemu-riscv64-7.2-1g"), Request(kernel, purpose=Purpose.BOOT))


@given(st.data())
def test_any_damage_is_told_or_refused(data: st.DataObject) -> None:
    check_any_damage(data, [IMAGE, VMLINUX], ARCH)
