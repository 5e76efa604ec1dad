"""Crash loads: the machine panics, and the loaded kernel saves what was in memory."""

import io
import mmap
import re
import secrets
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.machine import Machine as Facts
from pykexec.memory import Range, RangeSet
from pykexec.plan import Purpose, Request
from pykexec.vmcore.dump import Dump
from pykexec.vmcore.log import KernelLog
from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import ARM64, PANIC, X86_64, Arch, Guest, Kernel, Machine, Result, Running, Stage
from tools.lab.arches.arm import ARCH as ARM
from tools.lab.arches.i386 import ARCH as I386
from tools.lab.arches.loongarch64 import ARCH as LOONGARCH64
from tools.lab.arches.ppc64le import ARCH as PPC64LE
from tools.lab.arches.riscv64 import ARCH as RISCV64
from tools.lab.arches.s390x import ARCH as S390X

_EL2 = ("-machine", "virtualization=on")
_NO_FILES: Mapping[str, bytes] = {}


def crash(
    kernel: Kernel,
    loader: str,
    run_guest: RunGuest,
    machine: Machine,
    *,
    prepare: str = "",
    capture: str = "",
    files: Mapping[str, bytes] = _NO_FILES,
    saved: bool | None = None,
) -> Result:
    """Crash that machine; what the capture kernel brings out must be right.

    `prepare` runs before the load, `capture` in the capture kernel, both with `files`; `saved` is as in
    `jobs.capture`.
    """
    marker = secrets.token_hex(8)
    guest = Guest(
        kernel,
        f"set -e\n{prepare}{jobs.crash_load(loader, marker, kernel)}",
        PANIC,
        jobs.capture(kernel, saved=saved) + capture,
        files,
        files=files,
    )
    result = run_guest(guest, machine)
    result.stage("first")
    second = result.stage("second")
    assert jobs.capture_command_line(marker, kernel) in second.read("cmdline")
    log = second.read("dmesg.txt")
    assert "Kernel panic - not syncing: sysrq triggered crash" in log
    assert marker in log
    return result


@pytest.mark.parametrize(
    ("arch", "version"),
    jobs.cases(
        "crash",
        {RISCV64: ["6.12"], ARM: ["6.1"], LOONGARCH64: ["7.2"], PPC64LE: ["6.1"]},
        {
            X86_64: ["6.1"],
            ARM64: ["6.12"],
            RISCV64: ["7.2"],
            ARM: ["6.1-lpae", "7.2"],
            S390X: ["6.1-kdump"],
        },
    ),
)
def test_dump_holds_the_first_kernels_log(
    arch: Arch, version: str, loader: str, run_guest: RunGuest
) -> None:
    """The other kernels' dumps are looked into in test_vmcore.py."""
    crash(Kernel.get(version, arch), loader, run_guest, Machine(arch), saved=True)


def test_reservation_above_4g(kernel: Kernel, loader: str, run_guest: RunGuest) -> None:
    result = crash(kernel, loader, run_guest, Machine(memory="6G", append="crashkernel=256M,high"))
    low, high = jobs.ranges(result.stage("first").read("iomem"), "Crash kernel")
    assert low.stop <= 1 << 32 <= high.start
    # The capture kernel lives in the high part, not only in the low one that is there for DMA.
    used = jobs.ranges(result.stage("second").read("iomem"), "System RAM")
    assert any(part.start in high and part.stop - 1 in high for part in used)


_C_HEADERS = """
kexec -c -d -p "$KERNEL" --initrd "$SECOND_IMAGE" --append none 2>&1 | grep 'p_type = ' > "$OUT/headers"
pykexec --snapshot "$OUT/machine.tar"
"""


def _compare_headers(first: Stage, kernel: Kernel) -> None:
    """The C tool describes the same memory.

    It takes lowmem to end at 896 MiB, where the kernel may have taken some of that for its mappings.
    """
    rows = re.findall(
        r"p_type = (\d+), p_offset = \S+ p_paddr = (\S+) p_vaddr = (\S+) p_filesz = \S+ p_memsz = (\S+)",
        first.read("headers"),
    )
    theirs = [tuple(int(field, 0) for field in row) for row in rows]
    facts = Facts.from_snapshot(first.folder / "machine.tar")
    request = Request(FileData.open(kernel.image, "kernel"), purpose=Purpose.CRASH)
    elf = ELFFile(io.BytesIO(plan_load(facts, request).segment("elfcorehdr").data))
    kinds = {"PT_LOAD": 1, "PT_NOTE": 4}
    ours = [
        (kinds[each["p_type"]], each["p_paddr"], each["p_vaddr"], each["p_memsz"])
        for each in elf.iter_segments()
    ]
    assert [row for row in ours if row[0] == 4] == [row for row in theirs if row[0] == 4]
    loads = [[row for row in rows if row[0] == 1] for rows in (ours, theirs)]
    memory = [RangeSet(Range.sized(at, size) for _, at, _, size in rows) for rows in loads]
    assert memory[0] == memory[1]
    for _, at, virtual, _ in loads[0]:
        for _, start, start_virtual, size in loads[1]:
            no_address = (1 << elf.elfclass) - 1
            if start <= at < start + size and no_address not in (virtual, start_virtual):
                assert virtual - at == start_virtual - start


@pytest.mark.parametrize("version", ["6.1", jobs.further("6.1-686", id="6.1-686")])
def test_i386(version: str, loader: str, run_guest: RunGuest) -> None:
    """makedumpfile 1.7.2 saves a dump, but cannot read it: there it takes addresses without KASLR."""
    save = 'makedumpfile -l -d 31 /proc/vmcore "$OUT/vmcore"\n'
    kernel = Kernel.get(version, I386)
    result = crash(
        kernel,
        loader,
        run_guest,
        Machine(I386),
        prepare=_C_HEADERS,
        capture=save,
        saved=False,
    )
    _compare_headers(result.stage("first"), kernel)
    second = result.stage("second")
    log = KernelLog(Dump.open(second.folder / "vmcore"))
    texts = {each.text.decode("latin-1").partition("\n")[0] for each in log}
    assert log.damage == []
    assert texts - {line.partition("] ")[2] for line in second.read("dmesg.txt").splitlines()} <= {""}
    assert "Kernel panic - not syncing: sysrq triggered crash" in texts


@pytest.mark.parametrize(
    ("version", "reservation", "count"),
    [
        jobs.further("6.1", "crashkernel=512M,high", 1, id="6.1-high"),
        pytest.param("6.1", "crashkernel=512M,high crashkernel=128M,low", 2, id="6.1-high-low"),
        jobs.further("7.2", "crashkernel=512M,high crashkernel=128M,low", 2, id="7.2-high-low"),
    ],
)
def test_arm64_usable_memory_is_all_that_was_reserved(
    version: str, reservation: str, count: int, loader: str, run_guest: RunGuest
) -> None:
    tree = 'cp /proc/device-tree/chosen/linux,usable-memory-range "$OUT/usable"\n'
    machine = Machine(ARM64, memory="6G", append=reservation)
    result = crash(Kernel.get(version, ARM64), loader, run_guest, machine, capture=tree)
    reserved = jobs.ranges(result.stage("first").read("iomem"), "Crash kernel")
    assert len(reserved) == count
    usable = (result.stage("second").folder / "usable").read_bytes()
    told = [range(start, start + size) for start, size in struct.iter_unpack(">QQ", usable)]
    assert told == reserved[::-1], "the high range first"
    ram = jobs.ranges(result.stage("second").read("iomem"), "System RAM")
    assert all(any(part.start <= each.start and each.stop <= part.stop for part in ram) for each in reserved)


@jobs.FURTHER
@pytest.mark.parametrize(
    ("append", "extra"), [pytest.param("", _EL2, id="el2"), pytest.param(" nokaslr", (), id="nokaslr")]
)
def test_arm64_variations(append: str, extra: tuple[str, ...], loader: str, run_guest: RunGuest) -> None:
    machine = Machine(ARM64, append=f"crashkernel=256M{append}", extra=extra)
    crash(Kernel.get("6.1", ARM64), loader, run_guest, machine)


@pytest.mark.parametrize(
    ("machine", "saved"),
    [
        jobs.further(jobs.POWER8_IN_BLOCKS, True, id="hash-table"),
        jobs.further(Machine(PPC64LE), False, id="page-tables"),
    ],
)
def test_ppc64le_with_pages_of_4k(machine: Machine, saved: bool, loader: str, run_guest: RunGuest) -> None:
    """The capture kernel is told of all memory up to the end of the reservation.

    With page tables makedumpfile 1.7.8 leaves out what it reads itself from a dump: vmemmap_list.
    """
    result = crash(Kernel.get("6.12", PPC64LE), loader, run_guest, machine, saved=saved)
    (reserved,) = jobs.reserved(result.stage("first"))
    ram = jobs.ranges(result.stage("second").read("iomem"), "System RAM")
    assert ram == [range(reserved.stop)]


@jobs.FURTHER
def test_ppc64le_crashes_on_another_processor(loader: str, run_guest: RunGuest) -> None:
    """Not the one that booted; of four, three wait for the capture kernel."""
    machine = Machine(PPC64LE, cpus=4)
    kernel, marker = Kernel.get("6.1", PPC64LE), secrets.token_hex(8)
    job = jobs.crash_load(loader, marker, kernel)
    guest = Guest(kernel, job, f"taskset 4 sh -c '{PANIC}'", jobs.capture(kernel))
    result = run_guest(guest, machine)
    assert marker in result.stage("second").read("dmesg.txt")
    assert re.search(r"CPU: 2 PID: \d+ .*", result.console)


@jobs.FURTHER
def test_ppc64le_keeps_the_tree_up_to_date(run_guest: RunGuest) -> None:
    """The running kernel writes its CPUs into the loaded tree as one comes."""
    online = "/sys/devices/system/cpu/cpu1/online"
    prepare = (
        f'trap \'echo 0 > {online}; echo 1 > {online}; dmesg | grep "crash hp" > "$OUT/said" || :\' EXIT\n'
    )
    kernel = Kernel.get("6.12", PPC64LE)
    result = crash(kernel, "pykexec -c --hotplug", run_guest, Machine(PPC64LE), prepare=prepare, saved=False)
    assert "fail" not in result.stage("first").read("said").lower()


@jobs.FURTHER
def test_arm_hyp(loader: str, run_guest: RunGuest) -> None:
    """In that mode purgatory leaves the caches off."""
    crash(Kernel.get("6.1", ARM), loader, run_guest, Machine(ARM, extra=_EL2))


@pytest.mark.parametrize("arch", [jobs.further(X86_64, id="x86_64"), pytest.param(ARM64, id="arm64")])
def test_uefi(arch: Arch, loader: str, run_guest: RunGuest) -> None:
    """The capture kernel can call the firmware, and knows of Secure Boot what the first one knew.

    On arm64 both have the hypervisor's level of privilege (EL2).
    """
    kernel = Kernel.get("6.1", arch)
    machine = Machine(arch, uefi=True, extra=(*jobs.WITH_ITS, *_EL2) if arch is ARM64 else ())
    look, files = jobs.EFI_LOOK, jobs.efivarfs(kernel)
    result = crash(kernel, loader, run_guest, machine, prepare=look, capture=look, files=files)
    first, second = result.stage("first"), result.stage("second")
    assert "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c" in first.read("variables")
    assert second.read("variables") == first.read("variables")
    assert second.read("secure-boot") == first.read("secure-boot") == "Secure boot disabled\n"


@pytest.mark.parametrize(
    ("arch", "version", "region", "extra"),
    [
        pytest.param(X86_64, "6.1", "kernel", (), id="kernel"),
        jobs.further(X86_64, "6.1", "initrd", (), id="initrd"),
        jobs.further(I386, "6.1", "kernel", (), id="i386-kernel"),
        jobs.further(ARM64, "6.1", "kernel", (), id="arm64-kernel"),
        pytest.param(ARM64, "6.1", "initrd", _EL2, id="arm64-el2-initrd"),
        jobs.further(RISCV64, "7.2", "kernel", (), id="riscv64-kernel"),
        jobs.further(RISCV64, "7.2", "initrd", (), id="riscv64-initrd"),
        jobs.further(LOONGARCH64, "7.2", "initrd", (), id="loongarch64-initrd"),
        jobs.further(ARM, "6.1", "kernel", (), id="arm-kernel"),
        jobs.further(PPC64LE, "6.1", "kernel", (), id="ppc64le-kernel"),
        jobs.further(PPC64LE, "6.12", "initrd", (), id="ppc64le-initrd"),
        jobs.further(S390X, "6.1-kdump", "kernel", (), id="s390x-kernel"),
        jobs.further(S390X, "6.1-kdump", "initrd", (), id="s390x-initrd"),
    ],
)
def test_damaged_image_does_not_run(
    arch: Arch, version: str, region: str, extra: tuple[str, ...], tmp_path: Path
) -> None:
    kernel = Kernel.get(version, arch)
    in_initrd = secrets.token_bytes(1 << 16)
    in_kernel = kernel.image.read_bytes()[1 << 20 : 2 << 20]
    job = jobs.crash_load("pykexec -c", secrets.token_hex(8), kernel)
    guest = Guest(kernel, job, f'read -r _ < "$GO"; {PANIC}', jobs.capture(kernel), {"/content": in_initrd})
    # The guest's memory is a file: a physical address below 2G stands there at its distance from the start.
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as memory:
        backend = f"memory-backend-file,id=ram,size=1G,share=on,mem-path={memory.name}"
        machine = Machine(arch, extra=("-object", backend, "-machine", "memory-backend=ram", *extra))
        with Running(machine, guest, tmp_path / "machine", timeout=600) as running:
            (reserved,) = jobs.reserved(running.wait_for("first"))
            start = arch.emulation.ram_start
            place = range(reserved.start - start, reserved.stop - start)
            _damage(Path(memory.name), place, in_kernel if region == "kernel" else in_initrd)
            running.go()
            result = running.wait()
    assert not result.reached("second")
    assert "Kernel panic - not syncing: sysrq triggered crash" in result.console
    # Not always behind that: a kernel may write what it says some moments later.
    assert f"purgatory: region {region} is damaged" in result.console, result.tail()


@jobs.FURTHER
def test_loongarch64_keeps_a_capture_kernels_command_line(loader: str, run_guest: RunGuest) -> None:
    """The running kernel has room for one, and any later load writes its own there."""
    kernel, marker = Kernel.get("7.2", LOONGARCH64), secrets.token_hex(8)
    later = f'{loader} -l "$KERNEL" --initrd "$SECOND_IMAGE" --append not-this-one\n'
    job = jobs.crash_load(loader, marker, kernel) + later
    result = run_guest(Guest(kernel, job, PANIC, jobs.capture(kernel)), Machine(LOONGARCH64))
    assert jobs.capture_command_line(marker, kernel) in result.stage("second").read("cmdline")
    assert "sysrq triggered crash" in result.stage("second").read("dmesg.txt")


def _damage(memory: Path, reserved: range, content: bytes) -> None:
    """Flip one bit of the copy of `content` in the reserved memory."""
    with memory.open("r+b") as file, mmap.mmap(file.fileno(), memory.stat().st_size) as view:
        place = view.find(content, reserved.start, reserved.stop)
        assert place >= 0, "what is to be damaged is not in the reserved memory"
        view[place + len(content) // 2] ^= 1
