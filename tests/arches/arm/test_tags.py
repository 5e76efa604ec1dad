"""Tags for kernels that take no device tree, by arch/arm/include/uapi/asm/setup.h."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.arm import tags
from pykexec.errors import MachineError, UsageError
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.machine import Machine
from pykexec.memory import Range
from pykexec.plan import Purpose, Request
from tests.arches.arm.images import FakeZImage
from tests.support.machines import snapshot, unpacked
from tests.support.odd_machines import Memory, arm

CORE, MEM, INITRD, INITRD2, CMDLINE = 0x54410001, 0x54410002, 0x54410005, 0x54420005, 0x54410009


def tag(number: int, content: bytes) -> bytes:
    return struct.pack("<II", 2 + len(content) // 4, number) + content


RUNNING = (
    tag(CORE, struct.pack("<III", 1, 4096, 0))
    + tag(MEM, struct.pack("<II", 0x40000000, 0x40000000))
    + tag(INITRD, bytes(8))
    + tag(INITRD2, bytes(8))
    + tag(CMDLINE, b"quiet\0\0\0")
)
KERNEL = FileData.from_bytes("zImage", FakeZImage().build())
INITRD_FILE = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" * 15000)


def read(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data[:8] != bytes(8):
        size, number = struct.unpack_from("<II", data)
        yield number, data[8 : 4 * size]
        data = data[4 * size :]
    assert not any(data)


@pytest.mark.parametrize("purpose", Purpose)
def test_the_running_kernels_tags_with_what_is_loaded(purpose: Purpose, tmp_path: Path) -> None:
    files: dict[str, str | bytes | None] = {"sys/firmware/fdt": None, "proc/atags": RUNNING + bytes(8)}
    machine = unpacked("qemu-arm-6.1-1g", tmp_path, files)
    asked = Request(KERNEL, purpose=purpose, initrd=INITRD_FILE, append="console=ttyAMA0", atags=True)
    plan = plan_load(machine, asked)
    assert {each.name for each in plan.segments} >= {"atags", "kernel", "initrd"}
    assert "dtb" not in {each.name for each in plan.segments}
    found = list(read(bytes(plan.segment("atags").data)))
    assert [number for number, _ in found] == [CORE, MEM, INITRD2, CMDLINE]
    told = dict(found)
    assert told[MEM] == struct.pack("<II", 0x40000000, 0x40000000)
    assert told[INITRD2] == struct.pack("<II", plan.segment("initrd").address, INITRD_FILE.size)
    assert told[CMDLINE].rstrip(b"\0").decode() == plan.command_line
    assert ("elfcorehdr=" in plan.command_line) == (purpose is Purpose.CRASH)


@given(st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=99), st.booleans())
def test_whatever_is_built_can_be_read(line: str, has_initrd: bool) -> None:
    machine = Machine(Memory({"proc/atags": RUNNING + bytes(8)}))
    built = tags.build(machine, line, Range.sized(0x41000000, 5) if has_initrd else None)
    assert [number for number, _ in read(built)] == [CORE, MEM, *([INITRD2] * has_initrd), CMDLINE]


def test_a_machine_without_tags() -> None:
    asked = Request(KERNEL, purpose=Purpose.BOOT, atags=True)
    with pytest.raises(MachineError, match="no /proc/atags"):
        plan_load(snapshot("qemu-arm-6.1-1g"), asked)
    tree = FileData.from_bytes("dtb", b"")
    with pytest.raises(UsageError, match="--atags is instead of a device tree"):
        plan_load(snapshot("qemu-arm-6.1-1g"), Request(KERNEL, device_tree=tree, atags=True))


@pytest.mark.parametrize("purpose", Purpose)
def test_memory_that_begins_anywhere(purpose: Purpose) -> None:
    machine = arm(base=0x41000000, crash=0x59200000).machine()
    with pytest.raises(MachineError, match="multiple of 128 MiB"):
        plan_load(machine, Request(KERNEL, purpose=purpose, atags=True))


@given(st.binary(max_size=64) | st.integers(0, len(RUNNING)).map(lambda size: RUNNING[:size]))
def test_damaged_tags_are_refused(data: bytes) -> None:
    machine = Machine(Memory({"proc/atags": data}))
    if data[4:8] == bytes(4):
        return  # an empty list, which ends at once
    with pytest.raises(MachineError, match="/proc/atags is damaged"):
        tags.build(machine, "", None)
