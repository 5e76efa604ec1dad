"""Crash loads: the machine panics, and the loaded kernel saves what was in memory."""

import mmap
import re
import secrets
import tempfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import PANIC, SUITES, X86_64, Guest, Kernel, Machine, Result, Running


@pytest.mark.parametrize("version", [pytest.param(version, id=f"crash-{version}") for version in SUITES])
def test_dump_holds_the_first_kernels_log(version: str, loader: str, run_guest: RunGuest) -> None:
    marker = secrets.token_hex(8)
    kernel = Kernel.get(version, X86_64)
    result = run_guest(Guest(kernel, jobs.crash_load(loader, marker), PANIC, jobs.CAPTURE), Machine())
    _check_capture(result, marker)


def test_every_processor_has_its_note(kernel: Kernel, loader: str, run_guest: RunGuest) -> None:
    marker = secrets.token_hex(8)
    # The headers stand at the beginning; the notes follow within the first pages.
    capture = jobs.CAPTURE + 'dd if=/proc/vmcore of="$OUT/vmcore.head" bs=64k count=1\n'
    guest = Guest(kernel, jobs.crash_load(loader, marker), PANIC, capture)
    result = run_guest(guest, Machine(cpus=4))
    _check_capture(result, marker)
    with (result.stage("second").folder / "vmcore.head").open("rb") as file:
        segments = list(ELFFile(file).iter_segments())
        notes = [note for each in segments if isinstance(each, NoteSegment) for note in each.iter_notes()]
    assert [note["n_type"] for note in notes].count("NT_PRSTATUS") == 4
    assert [note["n_name"] for note in notes].count("VMCOREINFO") == 1


def test_reservation_above_4g(kernel: Kernel, loader: str, run_guest: RunGuest) -> None:
    marker = secrets.token_hex(8)
    guest = Guest(kernel, jobs.crash_load(loader, marker), PANIC, jobs.CAPTURE)
    result = run_guest(guest, Machine(memory="6G", append="crashkernel=256M,high"))
    _check_capture(result, marker)
    low, high = jobs.ranges(result.stage("first").read("iomem"), "Crash kernel")
    assert low.stop <= 1 << 32 <= high.start
    # The capture kernel lives in the high part, not only in the low one that is there for DMA.
    used = jobs.ranges(result.stage("second").read("iomem"), "System RAM")
    assert any(part.start in high and part.stop - 1 in high for part in used)


@pytest.mark.parametrize("region", ["kernel", "initrd"])
def test_damaged_image_does_not_run(region: str, kernel: Kernel, tmp_path: Path) -> None:
    in_initrd = secrets.token_bytes(1 << 16)
    in_kernel = kernel.image.read_bytes()[4 << 20 : 5 << 20]
    job = jobs.crash_load("pykexec", secrets.token_hex(8))
    guest = Guest(kernel, job, f'read -r _ < "$GO"; {PANIC}', jobs.CAPTURE, {"/content": in_initrd})
    # The guest's memory is a file: what is at a physical address below 2G stands at that offset.
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as memory:
        backend = f"memory-backend-file,id=ram,size=1G,share=on,mem-path={memory.name}"
        machine = Machine(extra=("-object", backend, "-machine", "memory-backend=ram"))
        with Running(machine, guest, tmp_path / "machine", timeout=120) as running:
            (reserved,) = jobs.ranges(running.wait_for("first").read("iomem"), "Crash kernel")
            _damage(Path(memory.name), reserved, in_kernel if region == "kernel" else in_initrd)
            running.go()
            result = running.wait()
    assert not result.reached("second")
    _, panic, after = result.console.partition("Kernel panic - not syncing: sysrq triggered crash")
    assert panic
    # Only purgatory prints after the panic's report; it names the region.
    assert any(re.search(rf"\b{region}\b", line) for line in _purgatory_lines(after)), result.tail()


def _damage(memory: Path, reserved: range, content: bytes) -> None:
    """Flip one bit of the copy of `content` in the reserved memory."""
    with memory.open("r+b") as file, mmap.mmap(file.fileno(), memory.stat().st_size) as view:
        place = view.find(content, reserved.start, reserved.stop)
        assert place >= 0, "what is to be damaged is not in the reserved memory"
        view[place + len(content) // 2] ^= 1


def _purgatory_lines(console: str) -> list[str]:
    """Lines without the time with which the kernel begins each of its own."""
    return [line for line in console.splitlines() if not re.match(r"\[ *\d+\.\d+\]", line)]


def _check_capture(result: Result, marker: str) -> None:
    result.stage("first")
    second = result.stage("second")
    assert jobs.capture_command_line(marker) in second.read("cmdline")
    log = second.read("dmesg.txt")
    assert "Kernel panic - not syncing: sysrq triggered crash" in log
    assert marker in log
