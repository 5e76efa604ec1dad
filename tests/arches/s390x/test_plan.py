"""Plans for a snapshot of a real s390x machine, checked against what that says of itself."""

import dataclasses
import errno
import struct
from pathlib import Path

import pytest

from pykexec import explain
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
from pykexec.memory import MIB, Range
from pykexec.plan import Console, LoadPlan, Purpose, Request
from tests.arches.s390x.images import LINE, PARAMETERS, FakeImage
from tests.support.elf import executable
from tests.support.machines import iomem, snapshot, unpacked

NAME = "qemu-s390x-6.1-1g"
IMAGE = FakeImage().build()
KERNEL = FileData.from_bytes("bzImage", IMAGE)
INITRD = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" * 15000)
FIRMWARE = struct.pack(">IIQ", 5, 0, 0)
"""purgatory/common/params.h: the console."""
SECURE = "sys/firmware/ipl/secure"
START = 0x10000


def request(purpose: Purpose, **changes: object) -> Request:
    plain = Request(KERNEL, purpose=purpose, initrd=INITRD, append="quiet")
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def parameters(plan: LoadPlan) -> tuple[tuple[int, ...], bytes]:
    """Return the first five fields of the parameter area, and the command line."""
    kernel = bytes(plan.segment("kernel").data)
    line = kernel[LINE - START :].partition(b"\0")[0]
    return struct.unpack_from(">5Q", kernel, PARAMETERS - START), line


def check_sound(plan: LoadPlan, base: int) -> None:
    (_, initrd_at, initrd_size, *_), line = parameters(plan)
    assert (initrd_at, initrd_size) == (plan.segment("initrd").address - base, INITRD.size)
    assert initrd_at >= len(IMAGE), "behind the kernel"
    assert line == plan.command_line.encode()
    kernel = plan.segment("kernel")
    assert kernel.address == base + START
    told = [*range(PARAMETERS - START, PARAMETERS - START + 40), *range(LINE - START, LINE - START + 4096)]
    loaded, original = bytearray(kernel.data), bytearray(IMAGE[START:])
    for each in told:
        loaded[each] = original[each] = 0
    assert loaded == original, "the rest is as in the file"


def test_a_crash_plan() -> None:
    plan = plan_load(snapshot(NAME), request(Purpose.CRASH))
    (reserved,) = iomem(NAME, "Crash kernel")
    check_sound(plan, reserved.start)
    assert plan.flags == 0x160001
    assert all(reserved.covers(each.range) for each in plan.segments)
    (_, _, _, old_base, old_size), _ = parameters(plan)
    assert (old_base, old_size) == (reserved.start, reserved.size)
    assert {each.name for each in plan.segments} == {"kernel", "initrd", "purgatory"}, "no core headers"
    own = plan.segment("purgatory")
    assert Range(reserved.start + 0x2000, reserved.start + START).covers(own.range), (
        "what is exchanged begins behind it, and the crashed kernel's lowcore goes before it"
    )
    assert struct.pack(">5Q", 0x10010, reserved.start, reserved.size, 0, 0) in bytes(own.data)
    assert not plan.warnings


def test_a_boot_plan() -> None:
    plan = plan_load(snapshot(NAME), request(Purpose.BOOT))
    check_sound(plan, 0)
    assert plan.flags == 0x160000
    assert parameters(plan)[0][3:] == (0, 0)
    assert plan.segment("purgatory").range.end <= 1 << 31, "a short PSW has 31 bits"
    assert plan.entry == plan.segment("purgatory").address
    assert struct.pack(">5Q", START, 0, 0, 0, 0) + FIRMWARE in bytes(plan.segment("purgatory").data)


@pytest.mark.parametrize("purpose", Purpose)
def test_the_whole_line_is_replaced(purpose: Purpose) -> None:
    """Behind a short one nothing of the default is left, and one may be as long as there is room."""
    for length in (0, 1, 4095):
        plan = plan_load(snapshot(NAME), request(purpose, append="x" * length))
        kernel = bytes(plan.segment("kernel").data)
        assert kernel[LINE - START : LINE - START + 4096] == b"x" * length + bytes(4096 - length)
        assert kernel[LINE - START + 4096 :] == IMAGE[LINE + 4096 :]


@pytest.mark.parametrize(("told", "limit"), [(4096, 4095), (0, 895)])
def test_a_line_that_is_too_long(told: int, limit: int) -> None:
    kernel = FileData.from_bytes("bzImage", FakeImage(max_command_line_size=told).build())
    asked = request(Purpose.BOOT, kernel=kernel, append="x" * (limit + 1))
    with pytest.raises(UsageError, match=f"{limit + 1} bytes, bzImage takes {limit} at most"):
        plan_load(snapshot(NAME), asked)


def test_a_line_that_would_be_taken_for_ebcdic() -> None:
    """arch/s390/boot/ipl_parm.c, has_ebcdic_char()"""
    with pytest.raises(UsageError, match="not all ASCII: the new kernel would take it for EBCDIC"):
        plan_load(snapshot(NAME), request(Purpose.BOOT, append="name=J\u00fcrgen"))


def test_an_initrd_goes_behind_a_large_kernel() -> None:
    large = FileData.from_bytes("bzImage", FakeImage(size=9 * MIB + 0x100).build())
    for purpose in Purpose:
        plan = plan_load(snapshot(NAME), request(purpose, kernel=large))
        assert parameters(plan)[0][1] == 10 * MIB


@pytest.mark.parametrize("state", ["offline", "going-offline"])
def test_blocks_of_memory_that_are_not_online_are_left_out(state: str, tmp_path: Path) -> None:
    """Loading there would fault."""
    changes: dict[str, str | bytes | None] = {
        "sys/devices/system/memory/block_size_bytes": "8000000\n",
        **{f"sys/devices/system/memory/memory{number}/state": f"{state}\n" for number in (1, 5)},
        **{f"sys/devices/system/memory/memory{number}/state": "online\n" for number in (0, 2, 3, 4)},
    }
    machine = unpacked(NAME, tmp_path, changes)
    plan = plan_load(machine, request(Purpose.BOOT))
    off = [Range.sized(number * 128 * MIB, 128 * MIB) for number in (1, 5)]
    assert not [each for each in plan.segments for block in off if each.range.overlaps(block)]
    initrd = FileData.from_bytes("initrd", bytes(130 * MIB))
    with pytest.raises(PlacementError, match="Could not find a free area"):
        plan_load(machine, request(Purpose.BOOT, initrd=initrd, within=Range(0, 384 * MIB)))


def test_a_size_of_blocks_that_is_none(tmp_path: Path) -> None:
    machine = unpacked(NAME, tmp_path, {"sys/devices/system/memory/block_size_bytes": "x\n"})
    with pytest.raises(MachineError, match="block_size_bytes does not hold a number"):
        plan_load(machine, request(Purpose.BOOT))


def test_kernels_without_blocks_of_memory_load_too(tmp_path: Path) -> None:
    """CONFIG_MEMORY_HOTPLUG is off: all of it is online."""
    machine = unpacked(NAME, tmp_path, {"sys/devices/system/memory/block_size_bytes": None})
    for purpose in Purpose:
        assert plan_load(machine, request(purpose)) == plan_load(snapshot(NAME), request(purpose))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proc/iomem": "00000000-3fffffff : System RAM\n"}, "Memory for crashkernel is not reserved"),
        (
            {
                "proc/iomem": "00000000-0fffffff : System RAM\n10000000-2fffffff : Crash kernel\n",
            },
            "a reservation that no s390x kernel makes: 10000000-2fffffff",
        ),
        (
            {
                "proc/iomem": "00000000-0fffffff : System RAM\n20000000-2fffffff : Crash kernel\n"
                "40000000-4fffffff : Crash kernel\n",
            },
            "a reservation that no s390x kernel makes",
        ),
    ],
)
def test_what_is_wrong_with_a_machine_is_said(
    changes: dict[str, str | bytes | None], message: str, tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match=message):
        plan_load(unpacked(NAME, tmp_path, changes), request(Purpose.CRASH))


@pytest.mark.parametrize(
    ("line", "advice"),
    [("quiet", "boot with crashkernel=SIZE"), ("crashkernel=256M quiet", "without CONFIG_CRASH_DUMP does")],
)
def test_why_nothing_is_reserved(line: str, advice: str, tmp_path: Path) -> None:
    """Kernels without CONFIG_CRASH_DUMP do not look at crashkernel=, and say nothing."""
    changes: dict[str, str | bytes | None] = {
        "proc/cmdline": line,
        "proc/iomem": "00000000-3fffffff : System RAM\n",
    }
    with pytest.raises(NoCrashMemoryError) as caught:
        plan_load(unpacked(NAME, tmp_path, changes), request(Purpose.CRASH))
    assert caught.value.hint is not None
    assert advice in caught.value.hint


@pytest.mark.parametrize("secure", ["0\n", "1\n", None])
def test_secure_ipl(secure: str | None, tmp_path: Path) -> None:
    """The kernel then may take signed kernels only, which have to be files."""
    machine = unpacked(NAME, tmp_path, {SECURE: secure})
    plan = plan_load(machine, request(Purpose.BOOT))
    assert any("started by secure IPL" in each for each in plan.warnings) == (secure == "1\n")
    refused = explain.explain_load_failure(errno.EACCES, plan, machine)
    assert refused.hint is not None
    assert ("secure IPL demands a signed kernel" in refused.hint) == (secure == "1\n")


def test_a_kernel_without_the_system_call(tmp_path: Path) -> None:
    """As Debian's are from 6.12 on."""
    machine = unpacked(NAME, tmp_path, {"proc/sys/kernel/osrelease": "6.12.107+deb13-s390x\n"})
    plan = plan_load(machine, request(Purpose.BOOT))
    refused = explain.explain_load_failure(errno.ENOSYS, plan, machine)
    assert refused.hint is not None
    assert "6.12.107+deb13-s390x is built without CONFIG_KEXEC" in refused.hint


def test_a_vmlinux() -> None:
    kernel = FileData.from_bytes("vmlinux", executable(IMAGE, 0x100000, 22, ">"))
    with pytest.raises(ImageError, match="vmlinux is a vmlinux, which only kexec_file_load takes"):
        plan_load(snapshot(NAME), request(Purpose.BOOT, kernel=kernel))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hotplug": True}, "s390x's capture kernels find memory and CPUs themselves"),
        ({"format": "bzImage"}, "Unsupported kernel type bzImage"),
        ({"console": Console(serial=True)}, None),
        ({"device_tree": INITRD}, "a device tree is for architectures that boot with one"),
        ({"within": Range(0, 8 * MIB)}, "Could not find a free area of memory"),
    ],
)
def test_what_cannot_be_asked_for(changes: dict[str, object], message: str | None) -> None:
    asked = request(Purpose.CRASH, **changes)
    if message is None:
        assert FIRMWARE in bytes(plan_load(snapshot(NAME), asked).segment("purgatory").data)
        return
    with pytest.raises(PykexecError, match=message):
        plan_load(snapshot(NAME), asked)
