"""Plans for a snapshot of a real sh machine, checked against what that says of itself, and the C tool's."""

import dataclasses
import gzip
import io
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from pykexec.errors import ImageError, MachineError, PlacementError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.machine import Machine
from pykexec.memory import KIB, MIB, Range
from pykexec.plan import Console, LoadPlan, Purpose, Request
from tests.arches.sh.images import FakeZImage, configuration, kernel, vmlinux
from tests.support.machines import iomem, snapshot, unpacked
from tests.support.uimage import uimage

NAME = "qemu-sh-6.1-64m"
P1 = 0x80000000
REGION = Range(0x0E000000, 0x0F000000)
INITRD = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" * 15000)
LINE = "console=ttySC1,115200 quiet"
# purgatory/common/params.h; SH7751R's SCIF
SCIF = struct.pack("<IIQ", 6, 0, 0xFFE80000)


def zimage(at: int = 0x0C000000, **changes: object) -> FileData:
    """Return one for memory from `at` on."""
    fake = FakeZImage(start=P1 + at + 0x11000, link=P1 + at + 0x800000)
    return FileData.from_bytes("zImage", dataclasses.replace(fake, **changes).build())  # type: ignore[arg-type]


def elf(at: int = 0x0C000000, **changes: object) -> FileData:
    return FileData.from_bytes("vmlinux", vmlinux(P1 + at + 0x10000, **changes))  # type: ignore[arg-type]


def request(purpose: Purpose, kernel: FileData, **changes: object) -> Request:
    plain = Request(kernel, purpose=purpose, initrd=INITRD, append=LINE)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


AT = {Purpose.BOOT: 0x0C000000, Purpose.CRASH: REGION.start}
"""Where the kernel that is loaded takes memory to begin."""
KERNELS = {"zImage": zimage, "vmlinux": elf}


@pytest.fixture(params=Purpose)
def purpose(request: pytest.FixtureRequest) -> Purpose:
    found = request.param
    assert isinstance(found, Purpose)
    return found


def page_of(plan: LoadPlan) -> bytes:
    """Return the page before the kernel's first instruction, of 4 KiB."""
    if "vmlinux" in plan.image_format:
        return bytes(plan.segment("kernel").data[:4096])
    return bytes(plan.segment("zero page").data[-4096:])


@pytest.mark.parametrize("kind", KERNELS)
def test_the_kernel_is_told(kind: str, purpose: Purpose) -> None:
    """arch/sh/kernel/head_32.S, empty_zero_page; arch/sh/include/asm/setup.h."""
    at = AT[purpose]
    plan = plan_load(snapshot(NAME), request(purpose, KERNELS[kind](at)))
    initrd = plan.segment("initrd")
    assert plan.flags == 0x2A0000 | (purpose is Purpose.CRASH)
    page = page_of(plan)
    words = struct.unpack_from("<7I", page)
    assert words == (1, 0, 0x200, 1, initrd.address - at, INITRD.size, 0x53453F1D)
    assert initrd.address % 4096 == 0, "initrd must be page aligned (setup.c)"
    assert page[0x100:0x300].rstrip(b"\0").decode() == plan.command_line
    assert not any(page[0x1C:0x100]) and not any(page[0x300:])  # noqa: PT018


@pytest.mark.parametrize("kind", KERNELS)
def test_without_an_initrd_the_kernel_is_told_of_none(kind: str, purpose: Purpose) -> None:
    plan = plan_load(snapshot(NAME), request(purpose, KERNELS[kind](AT[purpose]), initrd=None))
    assert struct.unpack_from("<3I", page_of(plan), 0xC) == (1, 0, 0)


@pytest.mark.parametrize("kind", KERNELS)
def test_purgatory_has_addresses_of_p1(kind: str, purpose: Purpose) -> None:
    at = AT[purpose]
    plan = plan_load(snapshot(NAME), request(purpose, KERNELS[kind](at)))
    block = bytes(plan.segment("purgatory").data)
    entry = P1 + at + (0x800000 if kind == "zImage" else 0x11000)
    (params,) = (i for i in range(0, len(block), 4) if block[i : i + 4] == b"PURG")
    assert struct.unpack_from("<Q", block, params + 16) == (entry,)
    assert SCIF in block
    for each in plan.segments:
        if each.name != "purgatory":
            assert struct.pack("<QQ", P1 + each.address, each.data.nbytes) in block
    assert plan.segment("purgatory").range.start == plan.entry


def test_a_crash_kernel_finds_the_crashed_ones_memory() -> None:
    plan = plan_load(snapshot(NAME), request(Purpose.CRASH, elf(REGION.start)))
    core = plan.segment("elfcorehdr")
    size = core.address - REGION.start
    assert plan.command_line == f"{LINE} elfcorehdr={core.address // KIB}K mem={size // KIB}K"
    assert all(each.range.end <= core.address for each in plan.segments if each is not core)
    file = ELFFile(io.BytesIO(core.data))
    assert (file.elfclass, file["e_machine"], file["e_type"]) == (32, "EM_SH", "ET_CORE")
    loads = [each.header for each in file.iter_segments() if each["p_type"] == "PT_LOAD"]
    found = [(each["p_paddr"], each["p_memsz"], each["p_vaddr"]) for each in loads]
    assert found == [
        (0x0C000000, 32 * MIB, 0x8C000000),
        (0x0F000000, 16 * MIB, 0x8F000000),
    ], "as the kernel's own dump of such a machine was seen to have it"
    assert all(REGION.start <= each.address < each.range.end <= REGION.end for each in plan.segments)


# What kexec-tools 29898e1 computed for a machine like this one (64 MiB, crashkernel=16M@0x0e000000) and
# real kernels of Linux 6.1.192: their sizes, its entry point, its flags, and its segments (address, bytes,
# bytes of memory).
RECORDED_FILES = {
    ("zImage", Purpose.BOOT): (0x14E020, 0, 0),
    ("vmlinux", Purpose.BOOT): (0x26B098, 0x298AF8, 0),
    ("vmlinux", Purpose.CRASH): (0x26C098, 0x299AF8, 0x02000000),
}
RECORDED: Mapping[tuple[str, Purpose], tuple[int, int, list[tuple[int, int, int]]]] = {
    ("zImage", Purpose.BOOT): (
        0x0C020000,
        0,
        [(0x0C001000, 0x10000, 0x10000), (0x0C020000, 0x14E020, 0x14F000)],
    ),
    ("vmlinux", Purpose.BOOT): (0x0C011000, 0, [(0x0C010000, 0x26B098, 0x299000)]),
    ("vmlinux", Purpose.CRASH): (
        0x0E011000,
        1,
        [(0x0E010000, 0x26C098, 0x29A000), (0x0EFFF000, 0x400, 0x1000)],
    ),
}
INTENDED = {
    "entry": "purgatory is entered first; the C tool has none",
    "flags": "the C tool names no architecture, which the kernel takes for its own",
    "more": "purgatory",
    "kernel": "the zImage lies where it would move itself to, and so over nothing that is needed",
    "elfcorehdr": "the C tool gives it a KiB, with zeros at the end",
}


def differing(kind: str, purpose: Purpose) -> set[str]:
    size, memory, more = RECORDED_FILES[kind, purpose]
    if kind == "zImage":
        file = zimage(packed=bytes(size - 0x8008 - 4))
        assert file.size == size
    else:
        file = elf(0x0C000000 + more, data=kernel(size - 4096), bss=memory - size)
    entry, flags, theirs = RECORDED[kind, purpose]
    plan = plan_load(snapshot(NAME), request(purpose, file, initrd=None))
    ours = {each.name: (each.address, each.data.nbytes, each.memsz) for each in plan.segments}
    found = {"entry": entry != plan.entry, "flags": flags != plan.flags}
    names = ["zero page", "kernel"] if kind == "zImage" else ["kernel", "elfcorehdr"][: len(theirs)]
    found |= {name: ours.pop(name) != each for name, each in zip(names, theirs, strict=True)}
    return {name for name, differs in (found | {"more": bool(ours)}).items() if differs}


@pytest.mark.parametrize(("kind", "purpose"), RECORDED)
def test_only_intended_differences_from_the_c_tool(kind: str, purpose: Purpose) -> None:
    assert differing(kind, purpose) <= INTENDED.keys()


def test_every_listed_difference_occurs() -> None:
    assert set().union(*(differing(*case) for case in RECORDED)) == INTENDED.keys()


def test_the_c_tools_command_line_of_a_crash_kernel() -> None:
    plan = plan_load(snapshot(NAME), request(Purpose.CRASH, elf(REGION.start)))
    assert plan.command_line.endswith(" elfcorehdr=245756K mem=16380K"), "recorded with it"


@pytest.mark.parametrize("kind", KERNELS)
def test_without_a_command_line_there_is_the_running_kernels(kind: str, purpose: Purpose) -> None:
    """As with the C tool (kexec-sh.c), but without what is this boot's."""
    plan = plan_load(snapshot(NAME), request(purpose, KERNELS[kind](AT[purpose]), append=None))
    words = plan.command_line.split()
    assert words[0] == "console=ttySC1,115200"
    assert ("crashkernel=16M@0x0e000000" in words) == (purpose is Purpose.BOOT)


def test_a_capture_kernels_own_words_are_not_handed_on(tmp_path: Path) -> None:
    line = "console=ttySC1 elfcorehdr=245756K mem=16380K"
    machine = unpacked(NAME, tmp_path, {"proc/cmdline": line + "\n"})
    plan = plan_load(machine, request(Purpose.BOOT, elf(), append=None))
    assert plan.command_line == "console=ttySC1"


def test_the_longest_command_line() -> None:
    """COMMAND_LINE_SIZE in include/uapi/asm-generic/setup.h."""
    plan = plan_load(snapshot(NAME), request(Purpose.BOOT, elf(), append="x" * 511))
    assert page_of(plan)[0x100:0x300] == b"x" * 511 + b"\0"
    with pytest.raises(UsageError, match="Command line overflow: 512 bytes, vmlinux takes 511 at most"):
        plan_load(snapshot(NAME), request(Purpose.BOOT, elf(), append="x" * 512))


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize(
    ("purpose", "at", "message"),
    [
        (
            Purpose.CRASH,
            0x0C000000,
            "linked to be at 0c01.*, and a crash kernel's memory is 0e000000-0effffff",
        ),
        (Purpose.CRASH, 0x0F000000, "linked to be at 0f01"),
        (Purpose.BOOT, 0x0E000000, "linked to be at 0e01.*, where this machine has no free memory"),
        (Purpose.BOOT, 0x08000000, "linked to be at 0801"),
    ],
)
def test_a_kernel_that_is_linked_elsewhere(kind: str, purpose: Purpose, at: int, message: str) -> None:
    with pytest.raises(ImageError, match=message) as error:
        plan_load(snapshot(NAME), request(purpose, KERNELS[kind](at)))
    assert error.value.hint is not None
    if purpose is Purpose.CRASH:
        for word in (
            "CONFIG_PHYSICAL_START",
            "CONFIG_MEMORY_START 0xe000000",
            "CONFIG_MEMORY_SIZE 0x1000000",
        ):
            assert word in error.value.hint


def test_a_region_that_is_too_small(tmp_path: Path) -> None:
    machine = small(tmp_path, 0x0E400000)
    plan_load(machine, request(Purpose.CRASH, elf(REGION.start)))
    with pytest.raises(ImageError) as error:
        plan_load(machine, request(Purpose.CRASH, zimage(REGION.start)))
    assert error.value.hint == "reserve more: crashkernel=SIZE@0xe000000"


def small(folder: Path, end: int) -> Machine:
    """Return the machine with less for a crash kernel."""
    lines = (
        f"0c000000-0fffffff : System RAM\n  0c010000-0c1c4faf : Kernel code\n"
        f"  0e000000-{end - 1:08x} : Crash kernel\n"
    )
    return unpacked(NAME, folder, {"proc/iomem": lines})


@pytest.mark.parametrize("kind", KERNELS)
def test_where_a_crash_kernel_takes_memory_to_begin(kind: str) -> None:
    """With CONFIG_PHYSICAL_START alone it was seen to write to the crashed kernel's memory."""

    def load(start: int) -> LoadPlan:
        data = kernel(more=configuration(f"CONFIG_MEMORY_START={start:#010x}\n"))
        changes = {"data": data} if kind == "vmlinux" else {"packed": gzip.compress(data)}
        return plan_load(snapshot(NAME), request(Purpose.CRASH, KERNELS[kind](REGION.start, **changes)))

    assert load(REGION.start).warnings == load_without_config(kind).warnings
    (warning,) = set(load(0x0C000000).warnings) - set(load_without_config(kind).warnings)
    assert "begin at 0xc000000 (CONFIG_MEMORY_START), and its own at 0xe000000" in warning
    words = struct.unpack_from("<3I", page_of(load(0x0C000000)), 0xC)
    assert words[1] == load(0x0C000000).segment("initrd").address - 0x0C000000


@pytest.mark.parametrize(("value", "warns"), [("=y", True), (" is not set", False)])
def test_a_kernel_that_takes_no_command_line(value: str, warns: bool, purpose: Purpose) -> None:
    """As rts7751r2dplus_defconfig has it."""
    line = ("CONFIG_CMDLINE_OVERWRITE" if warns else "# CONFIG_CMDLINE_OVERWRITE") + value
    kernel_ = elf(AT[purpose], data=kernel(more=configuration(f"{line}\n")))
    found = plan_load(snapshot(NAME), request(purpose, kernel_)).warnings
    assert any("CONFIG_CMDLINE_OVERWRITE" in each for each in found) == warns


def load_without_config(kind: str) -> LoadPlan:
    return plan_load(snapshot(NAME), request(Purpose.CRASH, KERNELS[kind](REGION.start)))


def test_a_small_kernel_has_room_in_a_small_region() -> None:
    """As one of Linux 6.1 was seen to have, of this size."""
    kernel_ = elf(REGION.start, data=kernel(0x2A30E8), bss=0x3879C)
    assert plan_load(snapshot(NAME), request(Purpose.CRASH, kernel_)).warnings == ()


@pytest.mark.parametrize(
    ("offset", "first"),
    [(0x2000, 0x0C000000), (0x5000, 0x0C001000), (0x11000, 0x0C001000), (0x12000, 0x0C002000)],
)
def test_the_page_before_a_kernel_with_pages_of_any_size(offset: int, first: int) -> None:
    """As far down as there is memory: a page of 64 KiB begins there, or one of 16, 8 or 4 KiB."""
    plan = plan_load(snapshot(NAME), request(Purpose.BOOT, zimage(start=P1 + 0x0C000000 + offset)))
    pages = plan.segment("zero page")
    assert (pages.address, pages.range.end) == (first, 0x0C000000 + offset)
    assert {bytes(pages.data[at : at + 4096]) for at in range(0, pages.memsz, 4096)} == {page_of(plan)}


def test_a_kernel_without_room_for_that_page() -> None:
    with pytest.raises(ImageError, match="linked to be at 0c000000"):
        plan_load(snapshot(NAME), request(Purpose.BOOT, zimage(start=P1 + 0x0C000000)))


@given(st.integers(0, 0x300), st.integers(0, 0x900), st.integers(0, 40 * MIB), st.sampled_from(Purpose))
def test_nothing_lies_where_a_zimage_unpacks_itself(
    start: int, link: int, size: int, purpose: Purpose
) -> None:
    at = AT[purpose] + P1
    fake = FakeZImage(start=at + start * 4096, link=at + link * 4096)
    initrd = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" + bytes(size))
    file = FileData.from_bytes("zImage", fake.build())
    try:
        plan = plan_load(snapshot(NAME), request(purpose, file, initrd=initrd))
    except (ImageError, PlacementError):
        return
    taken = Range(fake.start - P1, fake.link - P1 + file.size + fake.bss_size + 4 * MIB)
    assert plan.segment("kernel").address == fake.link - P1
    for each in plan.segments:
        assert each.name == "kernel" or not each.range.overlaps(taken)


@pytest.mark.parametrize("format_", ["uImage-sh", None])
def test_a_uimage(format_: str | None) -> None:
    file = FileData.from_bytes("uImage", uimage(FakeZImage().build()))
    plan = plan_load(snapshot(NAME), request(Purpose.BOOT, file, format=format_))
    assert plan.image_format == "uImage, sh zImage"
    with pytest.raises(ImageError, match="file matches type uImage-sh"):
        plan_load(snapshot(NAME), request(Purpose.BOOT, file, format="zImage-sh"))


PMB = {
    "proc/cpuinfo": "cpu family\t: sh4a\naddress sizes\t: 32 bits physical\n",
    "proc/sys/kernel/arch": "sh4a\n",
    "pykexec-snapshot.json": '{"machine": "sh4a", "page_size": 4096}',
    "proc/iomem": "40000000-5fffffff : System RAM\n  50000000-50ffffff : Crash kernel\n",
}


def test_addresses_of_32_bits(tmp_path: Path) -> None:
    """There memory begins where P1 does (arch/sh/include/asm/page.h, CONFIG_PMB)."""
    machine = unpacked(NAME, tmp_path, PMB)
    kernel = FileData.from_bytes("vmlinux", vmlinux(0x80010000, bits=32))
    plan = plan_load(machine, request(Purpose.BOOT, kernel))
    assert plan.segment("kernel").address == 0x40010000
    block = bytes(plan.segment("purgatory").data)
    assert struct.pack("<Q", 0x80011000) in block
    assert struct.pack("<QQ", plan.segment("initrd").address + 0x40000000, INITRD.size) in block
    assert struct.unpack_from("<2I", page_of(plan), 0x10) == (
        plan.segment("initrd").address - 0x40000000,
        INITRD.size,
    )
    crash = FileData.from_bytes("vmlinux", vmlinux(0x90010000, bits=32))
    core = plan_load(machine, request(Purpose.CRASH, crash)).segment("elfcorehdr")
    loads = [each.header for each in ELFFile(io.BytesIO(core.data)).iter_segments()]
    virtual = {each["p_paddr"]: each["p_vaddr"] for each in loads if each["p_type"] == "PT_LOAD"}
    assert virtual == {0x40000000: 0x80000000, 0x51000000: 0x91000000}


def test_a_kernel_of_the_other_kind_of_addresses(tmp_path: Path) -> None:
    message = r"physical addresses of 32 bits \(CONFIG_PMB\), and the running one with 29"
    with pytest.raises(ImageError, match=message):
        plan_load(snapshot(NAME), request(Purpose.BOOT, elf(bits=32)))
    with pytest.raises(ImageError, match=r"addresses of 29 bits .*running one with 32"):
        plan_load(unpacked(NAME, tmp_path, PMB), request(Purpose.BOOT, zimage()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proc/iomem": "3c000000-43ffffff : System RAM\n"}, "has System RAM at 3c000000-43ffffff"),
        ({"pykexec-snapshot.json": '{"machine": "sh3", "page_size": 4096}'}, "needs an SH-4"),
        (
            {"pykexec-snapshot.json": '{"machine": "sh4eb", "page_size": 4096}'},
            "no loader for machine type sh4eb",
        ),
    ],
)
def test_machines_that_nothing_is_planned_for(
    changes: Mapping[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(PykexecError, match=message):
        plan_load(unpacked(NAME, tmp_path, changes), request(Purpose.BOOT, elf()))


def test_a_console_that_is_none(tmp_path: Path) -> None:
    """sh-sci.c drives others than SCIF, whose registers lie elsewhere."""
    machine = unpacked(NAME, tmp_path, {"sys/class/tty/ttySC1/type": "83\n"})
    assert SCIF not in bytes(plan_load(machine, request(Purpose.BOOT, elf())).segment("purgatory").data)
    with pytest.raises(UsageError, match="--serial=ttySC1 is not known to be a SCIF, and purgatory uses no"):
        plan_load(machine, request(Purpose.BOOT, elf(), console=Console("ttySC1")))


def test_no_memory_is_reserved(tmp_path: Path) -> None:
    machine = unpacked(
        NAME,
        tmp_path,
        {
            "proc/iomem": "".join(
                f"{each.start:08x}-{each.end - 1:08x} : System RAM\n" for each in iomem(NAME, "System RAM")
            )
        },
    )
    with pytest.raises(MachineError, match="Memory for crashkernel is not reserved"):
        plan_load(machine, request(Purpose.CRASH, elf(REGION.start)))
