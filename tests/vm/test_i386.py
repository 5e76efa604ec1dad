"""Kernels of i386 load what is no bzImage, bzImages by their 16-bit entry, and with memory above 4 GiB."""

from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.support import multiboot
from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tests.vm.test_crash import crash
from tests.vm.test_formats import boot, check_told, files_of, kexec
from tools.lab import X86_64, Guest, Kernel, Machine
from tools.lab.arches.i386 import ARCH as I386

pytestmark = jobs.FURTHER

_LARGE = Machine(
    replace(I386, emulation=replace(I386.emulation, command=X86_64.emulation.command)), memory="5G"
)
"""In qemu-system-i386 page tables above 4 GiB are damaged ones: its processors' addresses have 32 bits."""

_LOOK = 'cp /proc/cmdline /proc/iomem "$OUT"\n'


@pytest.fixture
def kernel() -> Kernel:
    return Kernel.get("6.1", I386)


@pytest.mark.parametrize(
    ("way", "load", "machine"),
    [
        ("vmlinux", "/boot/vmlinux", Machine(I386)),
        ("16bit-entry", '--real-mode "$KERNEL"', Machine(I386)),
        ("above-4G", '"$KERNEL"', _LARGE),
    ],
    ids=["vmlinux", "16bit-entry", "above-4G"],
)
def test_boot(way: str, load: str, machine: Machine, kernel: Kernel, run_guest: RunGuest) -> None:
    guest = Guest(kernel, "", second_job=_LOOK, files=files_of(way, kernel))
    result = boot(run_guest, guest, f'pykexec -l {load} --initrd "$SECOND_IMAGE"', machine)
    stages = [result.stage(name).read("iomem") for name in ("first", "second")]
    first, second = (jobs.ranges(stage, "System RAM") for stage in stages)
    assert first == second
    assert (first[-1].stop > 1 << 32) is (machine == _LARGE)


def test_crash_with_memory_above_4g(kernel: Kernel, run_guest: RunGuest) -> None:
    """The core headers are of 64 bits then, and tell of that memory."""
    look = 'dd if=/proc/vmcore of="$OUT/head" bs=64k count=1\n'
    result = crash(kernel, "pykexec", run_guest, _LARGE, capture=look)
    with (result.stage("second").folder / "head").open("rb") as file:
        elf = ELFFile(file)
        loads = [each.header for each in elf.iter_segments("PT_LOAD")]
        assert (elf["e_machine"], elf.elfclass) == ("EM_386", 64)
    assert max(each["p_paddr"] + each["p_memsz"] for each in loads) > 1 << 32


@pytest.mark.parametrize("version", [1, 2])
def test_multiboot(version: int, run_guest: RunGuest, tmp_path: Path) -> None:
    """The kernel is told the same as from an x86_64 kernel, which GRUB and QEMU are the measure of."""
    program = multiboot.build(tmp_path, version)
    told, result = kexec(run_guest, program, Machine(I386))
    check_told(told, result, "/boot/kernel " if version == 1 else "")
