"""Plans for snapshots of real machines, checked against what those machines say of themselves."""

import dataclasses
import io
import json
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pykexec import report
from pykexec.errors import (
    ImageError,
    MachineError,
    NoCrashMemoryError,
    PlacementError,
    PykexecError,
    UsageError,
)
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.machine import Machine
from pykexec.memory import Range, RangeSet
from pykexec.plan import Console, LoadPlan, Purpose, Request
from tests.support.bzimage import FakeBzImage
from tests.support.machines import X86_64_SNAPSHOTS, iomem, snapshot, unpacked

HIGH = "qemu-6.1-6g-high"
PLAIN = "qemu-6.1-1g"
KERNEL = FileData.from_bytes("vmlinuz", FakeBzImage().build())
INITRD = FileData.from_bytes("initrd", bytes(range(256)) * 1000)


def request(purpose: Purpose, **changes: object) -> Request:
    plain = Request(KERNEL, purpose=purpose, initrd=INITRD, append="console=ttyS0 quiet", seed=bytes(64))
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def check_sound(plan: LoadPlan) -> None:
    """What every plan must satisfy, whatever the machine (kernel/kexec_core.c)."""
    assert len(plan.segments) <= 16
    ends = 0
    for segment in plan.segments:
        assert segment.address % 4096 == segment.memsz % 4096 == 0
        assert segment.data.nbytes <= segment.memsz
        assert segment.address >= ends
        ends = segment.range.end
    kernel = plan.segment("kernel")
    assert kernel.address % FakeBzImage().kernel_alignment == 0
    assert kernel.address >= FakeBzImage().pref_address
    assert kernel.memsz >= FakeBzImage().init_size
    assert plan.entry in plan.segment("purgatory").range


@pytest.mark.parametrize("name", X86_64_SNAPSHOTS)
def test_crash_segments_lie_in_the_highest_reservation(name: str) -> None:
    plan = plan_load(snapshot(name), request(Purpose.CRASH))
    check_sound(plan)
    reserved = max(iomem(name, "Crash kernel"))
    assert all(reserved.covers(segment.range) for segment in plan.segments)
    assert plan.flags == 0x3E0001


@pytest.mark.parametrize("name", X86_64_SNAPSHOTS)
def test_boot_segments_lie_in_ram_above_low_memory(name: str) -> None:
    plan = plan_load(snapshot(name), request(Purpose.BOOT))
    check_sound(plan)
    ram = RangeSet(iomem(name, "System RAM"))
    assert all(ram.covers(segment.range) and segment.address >= 1 << 20 for segment in plan.segments)
    assert plan.flags == 0x3E0000
    assert plan.command_line == "console=ttyS0 quiet"


@pytest.mark.parametrize("name", X86_64_SNAPSHOTS)
def test_core_headers_describe_all_memory_of_the_crashed_kernel(name: str) -> None:
    machine = snapshot(name)
    plan = plan_load(machine, request(Purpose.CRASH))
    elf = ELFFile(io.BytesIO(plan.segment("elfcorehdr").data))
    headers = [segment.header for segment in elf.iter_segments()]
    loads = [h for h in headers if h["p_type"] == "PT_LOAD"]
    text, linear = loads[0], loads[1:]
    dumped = RangeSet(Range.sized(h["p_paddr"], h["p_memsz"]) for h in linear)
    crash = iomem(name, "Crash kernel")
    assert dumped == RangeSet(iomem(name, "System RAM")).minus(crash)
    # KASLR: what VMCOREINFO says of the kernel's place agrees with what the headers say.
    info = machine.kcore.vmcoreinfo
    stext, phys_base = int(info["SYMBOL(_stext)"], 16), int(info["NUMBER(phys_base)"])
    assert text["p_vaddr"] <= stext < text["p_vaddr"] + text["p_memsz"]
    assert text["p_paddr"] == text["p_vaddr"] - 0xFFFFFFFF80000000 + phys_base
    assert len({h["p_vaddr"] - h["p_paddr"] for h in linear}) == 1
    assert len([h for h in headers if h["p_type"] == "PT_NOTE"]) == len(machine.cpu_notes) + 1


def test_low_memory_is_read_from_where_purgatory_saves_it() -> None:
    plan = plan_load(snapshot(PLAIN), request(Purpose.CRASH))
    elf = ELFFile(io.BytesIO(plan.segment("elfcorehdr").data))
    moved = [
        h.header for h in elf.iter_segments() if h["p_type"] == "PT_LOAD" and h["p_offset"] != h["p_paddr"]
    ]
    assert [(h["p_paddr"], h["p_offset"]) for h in moved] == [(0x1000, plan.segment("backup").address)]


@pytest.mark.parametrize("name", X86_64_SNAPSHOTS)
def test_the_capture_kernel_is_told_its_memory_and_no_more(name: str) -> None:
    plan = plan_load(snapshot(name), request(Purpose.CRASH))
    ram = RangeSet(e.range for e in plan.memory_map if e.kind.name == "RAM")
    reserved = RangeSet(iomem(name, "Crash kernel"))
    low = RangeSet([Range(0x1000, 0xA0000)])
    assert reserved.union(low).intersect(ram) == ram
    kept = [plan.segment(each).range for each in ("elfcorehdr", "backup")]
    assert ram.intersect(reserved) == reserved.minus(kept)
    assert f" elfcorehdr={kept[0].start // 1024}K" in plan.command_line


def test_sparse_cpu_numbers_all_have_their_notes(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpu"
    machine = unpacked(
        PLAIN,
        tmp_path,
        {
            f"{folder}{n}/crash_notes{suffix}": text
            for n in (7, 100)
            for suffix, text in {"": f"{n:x}000", "_size": "400"}.items()
        },
    )
    elf = ELFFile(io.BytesIO(plan_load(machine, request(Purpose.CRASH)).segment("elfcorehdr").data))
    notes = [segment["p_paddr"] for segment in elf.iter_segments() if segment["p_type"] == "PT_NOTE"]
    assert notes[2:4] == [0x7000, 0x64000]
    assert len(notes) == 5


def test_purgatory_uses_the_console_of_the_new_kernel() -> None:
    for console, port in [("ttyS0", 0x3F8), ("ttyS1,115200n8", 0x2F8)]:
        plan = plan_load(snapshot(PLAIN), request(Purpose.CRASH, append=f"console={console}"))
        assert struct.pack("<Q", port) in bytes(plan.segment("purgatory").data)


@pytest.mark.parametrize(
    ("files", "console", "port"),
    [
        # Without a serial console, the first port of every PC (it is 0x3f8 to the C tool, too).
        ({"sys/class/tty/console/active": "tty0\n"}, Console(serial=True), 0x3F8),
        ({"sys/class/tty/console/active": "tty0\n"}, Console(), None),
        ({}, Console(serial=True), 0x3F8),
        ({}, Console("ttyS1", serial=True), 0x2F8),
        ({"sys/class/tty/ttyS0/port": "0x0\n"}, Console(serial=True), 0x3F8),
    ],
)
def test_a_console_that_is_asked_for_is_used(
    files: dict[str, str | bytes | None], console: Console, port: int | None, tmp_path: Path
) -> None:
    machine = unpacked(PLAIN, tmp_path, files)
    plan = plan_load(machine, request(Purpose.CRASH, append="quiet", console=console))
    wanted = struct.pack("<Q", port or 0x3F8)
    assert (wanted in bytes(plan.segment("purgatory").data)) is (port is not None)


def test_bounds_are_kept() -> None:
    within = Range(0x20000000, 0x28000000)
    plan = plan_load(snapshot(PLAIN), request(Purpose.BOOT, within=within))
    assert all(within.covers(segment.range) for segment in plan.segments)


def test_planning_has_no_hidden_input() -> None:
    plans = [report.as_json(plan_load(snapshot(HIGH), request(Purpose.CRASH))) for _ in range(2)]
    assert plans[0] == plans[1]
    assert json.loads(plans[0])["segments"]


@pytest.mark.parametrize(
    ("changes", "error", "message", "status"),
    [
        (
            {"kernel": FileData.from_bytes("k", b"x" * 5000)},
            ImageError,
            "file type of k, which is a text file: no bzImage signature",
            255,
        ),
        (
            {"initrd": FileData.from_bytes("i", bytes(300 << 20))},
            PlacementError,
            "bytes for the initrd",
            1,
        ),
        ({"append": "x" * 3000}, ImageError, "Command line overflow: 30.. bytes, .* takes 2047", 255),
        ({"append": "a\0b"}, UsageError, "NUL", 1),
        ({"within": Range(0, 1 << 20)}, PlacementError, "free area", 1),
    ],
)
def test_bad_requests(
    changes: dict[str, object], error: type[PykexecError], message: str, status: int
) -> None:
    with pytest.raises(error, match=message) as caught:
        plan_load(snapshot(PLAIN), request(Purpose.CRASH, **changes))
    assert caught.value.exit_code == status


def test_absurd_kernels_do_not_fit() -> None:
    for absurd in (
        FakeBzImage(init_size=0xFFFFFFFF),
        FakeBzImage(pref_address=1 << 60),
        FakeBzImage(kernel_alignment=1 << 31),
    ):
        kernel = FileData.from_bytes("vmlinuz", absurd.build())
        with pytest.raises(PlacementError, match="bytes for the kernel"):
            plan_load(snapshot(PLAIN), request(Purpose.CRASH, kernel=kernel))


def test_a_capture_kernel_must_be_relocatable() -> None:
    kernel = FileData.from_bytes("vmlinuz", FakeBzImage(relocatable_kernel=0).build())
    with pytest.raises(ImageError, match="not relocatable"):
        plan_load(snapshot(PLAIN), request(Purpose.CRASH, kernel=kernel))
    assert (
        plan_load(snapshot(PLAIN), request(Purpose.BOOT, kernel=kernel)).segment("kernel").address
        == 0x1000000
    )


def test_five_level_paging_needs_a_kernel_that_knows_it() -> None:
    """The lab's QEMU has five levels, and Debian's 6.1 uses them; its 5.10 was built without."""
    kernel = FileData.from_bytes("vmlinuz", FakeBzImage(xloadflags=0x1F).build())
    with pytest.raises(ImageError, match="5-level paging"):
        plan_load(snapshot(PLAIN), request(Purpose.CRASH, kernel=kernel))
    plan_load(snapshot("qemu-5.10-1g"), request(Purpose.CRASH, kernel=kernel))


def test_a_boot_needs_no_kcore(tmp_path: Path) -> None:
    machine = unpacked(PLAIN, tmp_path, {"proc/kcore": None})
    check_sound(plan_load(machine, request(Purpose.BOOT)))
    with pytest.raises(MachineError, match="/proc/kcore is missing"):
        plan_load(machine, request(Purpose.CRASH))


def without_reservation(folder: Path) -> Machine:
    text = (
        "00001000-0009fbff : System RAM\n00100000-3fffffff : System RAM\n  01000000-01ffffff : Kernel code\n"
    )
    return unpacked(PLAIN, folder, {"proc/iomem": text})


def test_nothing_reserved(tmp_path: Path) -> None:
    with pytest.raises(NoCrashMemoryError, match="Memory for crashkernel is not reserved") as caught:
        plan_load(without_reservation(tmp_path), request(Purpose.CRASH))
    assert caught.value.exit_code == 1


def test_an_unprivileged_reader_sees_zeros(tmp_path: Path) -> None:
    text = "00000000-00000000 : System RAM\n  00000000-00000000 : Crash kernel\n"
    machine = unpacked(PLAIN, tmp_path, {"proc/iomem": text})
    for purpose in Purpose:
        with pytest.raises(MachineError, match="only zeros"):
            plan_load(machine, request(purpose))


SETUP_DATA = "sys/kernel/boot_params/setup_data"


@pytest.mark.parametrize(
    "files",
    [
        {f"{SETUP_DATA}/0/type": "0x9\n", f"{SETUP_DATA}/1/type": "0x8\n"},
        {"sys/kernel/security/ima/runtime_measurements_count": "2\n"},
    ],
)
@pytest.mark.parametrize("purpose", Purpose)
def test_what_is_lost_is_said(tmp_path: Path, purpose: Purpose, files: dict[str, str]) -> None:
    """setup_data.h: 8 is SETUP_IMA; ksysfs.c writes types in hexadecimal."""
    machine = unpacked(PLAIN, tmp_path, files)
    warnings = plan_load(machine, request(purpose)).warnings
    said = [each for each in warnings if "IMA's list of measurements will not be handed on" in each]
    assert len(said) == (purpose is Purpose.BOOT)
    assert not any("KHO" in each for each in warnings)
