"""Plans for the snapshot of an arm machine, checked against what that machine says of itself."""

import contextlib
import dataclasses
import io
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pykexec.arch.arm import ARCH
from pykexec.devicetree import DeviceTree
from pykexec.errors import ImageError, MachineError, PlacementError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.machine import Machine
from pykexec.machine.snapshot import write_snapshot
from pykexec.memory import MIB, Range, RangeSet
from pykexec.plan import Console, LoadPlan, Purpose, Request
from tests.arches.arm.images import FakeZImage
from tests.support.dtb import Blob
from tests.support.fit import fit
from tests.support.machines import iomem, snapshot, unpacked
from tests.support.odd_machines import GIB, RAM, Memory, arm, line

NAME = "qemu-arm-6.1-1g"
GOOD = FakeZImage()
KERNEL = FileData.from_bytes("zImage", GOOD.build())
INITRD = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" * 15000)
UART = struct.pack("<IIQ", 2, 0, 0x09000000)  # purgatory/common/params.h: the PL011 of QEMU's virt machine
LOWMEM = 760 * MIB
WHERE = {Purpose.BOOT: "System RAM", Purpose.CRASH: "Crash kernel"}
"""The next kernel's memory."""


def request(purpose: Purpose, **changes: object) -> Request:
    plain = Request(
        KERNEL, purpose=purpose, initrd=INITRD, append="console=ttyAMA0", seed=bytes(range(1, 65))
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def tree_of(plan: LoadPlan) -> DeviceTree:
    return DeviceTree(bytes(plan.segment("dtb").data), "plan")


def loads_of(plan: LoadPlan) -> list[tuple[int, int, int]]:
    """Return virtual and physical address and size of what core headers describe."""
    elf = ELFFile(io.BytesIO(plan.segment("elfcorehdr").data))
    assert (elf["e_machine"], elf.elfclass) == ("EM_ARM", 32), "arch/arm/include/asm/elf.h takes no other"
    headers = [each.header for each in elf.iter_segments() if each["p_type"] == "PT_LOAD"]
    return [(each["p_vaddr"], each["p_paddr"], each["p_memsz"]) for each in headers]


def check_sound(plan: LoadPlan, start: int) -> None:
    """For a kernel whose memory begins at `start`: Documentation/arch/arm/booting.rst, and head.S."""
    kernel, *rest = (plan.segment(name) for name in ("kernel", "dtb", "initrd", "purgatory"))
    unpacked_to = Range.sized(start + GOOD.text_offset, GOOD.inflated + GOOD.bss)
    assert kernel.address >= unpacked_to.end, "it would move, over what is behind it"
    assert kernel.address & 0xF8000000 == start & 0xF8000000, "where it takes memory to begin"
    assert kernel.memsz >= GOOD.size + 4 + 4096 + GOOD.heap
    assert all(each.address >= kernel.range.end for each in rest)
    assert all(each.range.end <= start + LOWMEM for each in rest), "what the kernel maps at once"
    assert plan.segment("dtb").address % 8 == 0
    chosen = dict(tree_of(plan).nodes())["/chosen"]
    assert chosen["bootargs"] == plan.command_line.encode() + b"\0"
    first, last = (int.from_bytes(chosen[f"linux,initrd-{which}"]) for which in ("start", "end"))
    assert (first, last - first) == (plan.segment("initrd").address, INITRD.size)
    assert UART in bytes(plan.segment("purgatory").data)


def test_why_a_zimage_takes_its_memory_names_no_field_of_images() -> None:
    """Image_size is a field of arm64's and riscv64's header."""
    kernel = plan_load(snapshot(NAME), request(Purpose.BOOT)).segment("kernel")
    assert kernel.why.endswith("its file, stack and heap")
    assert "image_size" not in kernel.why


def test_a_crash_plan() -> None:
    plan = plan_load(snapshot(NAME), request(Purpose.CRASH))
    (reserved,) = iomem(NAME, "Crash kernel")
    check_sound(plan, reserved.start)
    assert plan.flags == 0x280001
    assert all(reserved.covers(segment.range) for segment in plan.segments)
    tree, core = tree_of(plan), plan.segment("elfcorehdr")
    usable = struct.pack(">QQ", reserved.start, core.address - reserved.start)
    assert tree.get("/chosen", "linux,usable-memory-range") == usable
    assert tree.get("/chosen", "linux,elfcorehdr") == struct.pack(">QQ", core.address, core.data.nbytes)
    assert core.address % (2 * MIB) == 0
    # Documentation/admin-guide/kernel-parameters.txt; for kernels before 5.15
    size = (core.address - reserved.start) >> 10
    assert plan.command_line == f"console=ttyAMA0 elfcorehdr={core.address:#x} mem={size}K"


def test_a_boot_plan() -> None:
    plan = plan_load(snapshot(NAME), request(Purpose.BOOT))
    check_sound(plan, iomem(NAME, "System RAM")[0].start)
    assert plan.flags == 0x280000
    free = RangeSet(iomem(NAME, "System RAM")).minus(iomem(NAME, "Crash kernel"))
    assert all(free.covers(segment.range) for segment in plan.segments)
    assert plan.command_line == "console=ttyAMA0"


def test_core_headers() -> None:
    """PAGE_OFFSET is in none of the kernel's files; its text begins within 32 MiB of it."""
    (ram,), (reserved,) = iomem(NAME, "System RAM"), iomem(NAME, "Crash kernel")
    found = loads_of(plan_load(snapshot(NAME), request(Purpose.CRASH)))
    low = [each for each in found if each[1] < ram.start + LOWMEM]
    assert {virtual - physical for virtual, physical, _ in low} == {0xC0000000 - ram.start}
    assert {virtual for virtual, physical, _ in found if physical >= ram.start + LOWMEM} == {0xFFFFFFFF}
    dumped = RangeSet(Range.sized(physical, size) for _, physical, size in found)
    assert dumped == RangeSet([ram]).minus([reserved])


@pytest.mark.parametrize(
    ("symbols", "option", "offset"),
    [
        ("80008000 T _text\n80101234 T _stext\n", None, 0x80000000),
        ("c0300000 T _stext\n", 0x80000000, 0x80000000),
        ("00000000 T _stext\n", None, 0xC0000000),  # hidden
        (None, None, 0xC0000000),
    ],
)
def test_page_offset(symbols: str | None, option: int | None, offset: int, tmp_path: Path) -> None:
    machine = unpacked(NAME, tmp_path, {"proc/kallsyms": symbols})
    virtual, physical, _ = loads_of(plan_load(machine, request(Purpose.CRASH, page_offset=option)))[0]
    assert virtual - physical == offset - 0x40000000


def test_memory_above_4g_is_missing_and_that_is_said() -> None:
    machine = arm(line(0x1_0000_0000, GIB, RAM), line(0x8_0000_0000, 4 * GIB, RAM), size=2 * GIB)
    plan = plan_load(machine.machine(), request(Purpose.CRASH))
    assert any("lack the 5120 MiB of memory above 4 GiB" in each for each in plan.warnings)
    assert all(physical + size <= 4 * GIB for _, physical, size in loads_of(plan))
    assert plan_load(snapshot(NAME), request(Purpose.CRASH)).warnings == ()


def test_a_reservation_that_old_kernels_leave() -> None:
    plan = plan_load(arm(crash=0x59200000).machine(), request(Purpose.CRASH))
    assert any("begins at 0x59200000: before Linux 5.16" in each for each in plan.warnings)


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("value", ["CONFIG_CPU_TTBR0_PAN=y", "# CONFIG_CPU_TTBR0_PAN is not set"])
def test_a_kernel_that_cannot_start_another(value: str, purpose: Purpose, tmp_path: Path) -> None:
    release = snapshot(NAME).kernel_release
    machine = unpacked(NAME, tmp_path, {f"boot/config-{release}": f"CONFIG_ARM=y\n{value}\n"})
    write_snapshot(machine, tmp_path / "m.tar", ARCH.facts)
    for each in (machine, Machine.from_snapshot(tmp_path / "m.tar")):
        warnings = plan_load(each, request(purpose)).warnings
        assert any("CONFIG_CPU_TTBR0_PAN" in text for text in warnings) == value.endswith("=y")


@pytest.mark.parametrize("atags", [False, True])
@pytest.mark.parametrize("purpose", Purpose)
def test_a_machine_without_memory(purpose: Purpose, atags: bool) -> None:
    lines = [line(0x58000000, 256 * MIB, "Crash kernel")]
    machine = dataclasses.replace(arm(), lines=lines, more={"proc/atags": bytes(8)}).machine()
    with contextlib.suppress(PykexecError):  # for a crash there is enough
        plan_load(machine, request(purpose, atags=atags))


@pytest.mark.parametrize("purpose", Purpose)
def test_a_fit_image(purpose: Purpose) -> None:
    """Each board's system comes as one: kernel, initrd and device tree."""
    image = fit("arm", GOOD.build(), bytes(INITRD.data), {"chosen": {}, "model": b"board\0"}, "of the image")
    asked = request(
        purpose, kernel=FileData.from_bytes("x.itb", image), initrd=None, append=None, format="fit"
    )
    plan = plan_load(snapshot(NAME), asked)
    check_sound(plan, iomem(NAME, WHERE[purpose])[0].start)
    assert plan.image_format == "FIT image, configuration one, arm zImage"
    assert bytes(plan.segment("kernel").data) == GOOD.build()
    assert bytes(plan.segment("initrd").data) == bytes(INITRD.data)
    assert tree_of(plan).get("/", "model") == b"board\0"
    assert plan.command_line.startswith("of the image")
    with pytest.raises(ImageError, match=r"-t uki: x\.itb is a FIT image"):
        plan_load(snapshot(NAME), dataclasses.replace(asked, format="uki"))


def test_what_lies_where_it_unpacks_itself() -> None:
    machine = arm(line(0x40400000, MIB, "reserved", 1)).machine()
    with pytest.raises(PlacementError, match="free area"):
        plan_load(machine, request(Purpose.BOOT))


def test_an_appended_tree_is_for_machines_without_one() -> None:
    two = (2).to_bytes(4)
    tree = Blob({"#address-cells": two, "#size-cells": two, "chosen": {}, "mine": {}}).build()
    kernel = FileData.from_bytes("zImage", dataclasses.replace(GOOD, appended=tree).build())
    files = arm().files()
    files.pop("sys/firmware/fdt")
    plan = plan_load(Machine(Memory(files)), request(Purpose.BOOT, kernel=kernel))
    assert tree_of(plan).has("/mine")
    assert not tree_of(plan_load(snapshot(NAME), request(Purpose.BOOT, kernel=kernel))).has("/mine")
    with pytest.raises(MachineError, match="no device tree"):
        plan_load(Machine(Memory(files)), request(Purpose.BOOT))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kernel": FileData.from_bytes("k", b"x" * 5000)}, ImageError, "no zImage magic"),
        ({"append": "x" * 1024}, UsageError, "Command line overflow: 1024 bytes, arm takes 1023"),
        ({"append": "x" * 1010}, UsageError, "Command line overflow: 10[0-9]+ bytes, arm takes 1023"),
        ({"format": "uImage"}, ImageError, "Wrong file type uImage, file matches type zImage"),
        ({"entry_32bit": True}, UsageError, "--entry-32bit is for x86; this machine is arm"),
        ({"console": Console("ttyS9")}, UsageError, "--serial=ttyS9: this machine has no such"),
        ({"hotplug": True}, MachineError, "--hotplug: the running kernel updates no core headers"),
        ({"page_offset": 0xFFFFF000}, MachineError, "--page-offset: no kernel has its memory at 0xfffff000"),
        ({"image_size": 200 * MIB, "kernel": None}, PlacementError, "free area"),
    ],
)
def test_bad_requests(changes: dict[str, object], error: type[PykexecError], message: str) -> None:
    if changes.get("kernel", KERNEL) is None:
        changes["kernel"] = FileData.from_bytes("zImage", dataclasses.replace(GOOD, words=0).build())
    with pytest.raises(error, match=message):
        plan_load(snapshot(NAME), request(Purpose.CRASH, **changes))


@pytest.mark.parametrize("option", [{"image_size": 1}, {"page_offset": 1}, {"atags": True}])
@pytest.mark.parametrize("name", ["qemu-6.1-1g", "qemu-arm64-6.1-1g"])
def test_others_have_none_of_these(name: str, option: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"^--(image-size|page-offset|atags): "):
        plan_load(snapshot(name), Request(KERNEL, **option))  # type: ignore[arg-type]
