"""Plans for boards made by hand: e500, with addresses of one cell or two, and classic cores."""

import dataclasses
import gzip
import io
import struct
import tempfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.devicetree import DeviceTree
from pykexec.errors import ImageError, MachineError, PlacementError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.memory import Range, RangeSet
from pykexec.plan import Console, LoadPlan, Purpose, Request
from tests.arches.ppc.board import CRASH, LINKED, MIB, RSTCR, SERIAL, Board
from tests.arches.ppc.images import FakeVmlinux
from tests.support.dtb import Blob, Tree
from tests.support.effort import examples
from tests.support.machines import snapshot
from tests.support.uimage import uimage

E500 = Board()
ONE_CELL = Board(cells=(1, 1), node="memory@0")
OLD_E500 = Board(cells=(1, 1), crash_bytes=8)
CLASSIC = Board(cells=(1, 1), cpu="7400, altivec supported", node="memory@0", crash=(32 * MIB, 128 * MIB))
BOARDS = {"e500": E500, "one cell": ONE_CELL, "wide properties": OLD_E500}
KERNEL = FakeVmlinux()
CAPTURE = FakeVmlinux(is_relocatable=False, physical=32 * MIB)
"""As Book3S's are linked with CONFIG_CRASH_DUMP."""
INITRD = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" * 40000)
REGION = Range.sized(*CRASH)


def request(purpose: Purpose, kernel: FakeVmlinux | bytes = KERNEL, **changes: object) -> Request:
    data = kernel if isinstance(kernel, bytes) else kernel.build()
    plain = Request(
        FileData.from_bytes("vmlinux", data),
        purpose=purpose,
        initrd=INITRD,
        append="console=ttyS0",
        seed=bytes(range(1, 65)),
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def tree_of(plan: LoadPlan) -> DeviceTree:
    return DeviceTree(bytes(plan.segment("dtb").data), "plan")


def reservations(plan: LoadPlan) -> list[tuple[int, int]]:
    """Devicetree Specification, 5.3: pairs of start and size up to one of zeros."""
    blob = bytes(plan.segment("dtb").data)
    (at,) = struct.unpack_from(">I", blob, 16)
    pairs = list(struct.iter_unpack(">QQ", blob[at : at + 16 * 20]))
    return pairs[: pairs.index((0, 0))]


def loads(plan: LoadPlan) -> list[tuple[int, int, int, int]]:
    """What of memory a dump will have: offset, virtual and physical address, size."""
    elf = ELFFile(io.BytesIO(plan.segment("elfcorehdr").data))
    assert (elf.elfclass, elf.little_endian, elf["e_machine"]) == (32, False, "EM_PPC")
    headers = [each.header for each in elf.iter_segments() if each["p_type"] == "PT_LOAD"]
    return [(each["p_offset"], each["p_vaddr"], each["p_paddr"], each["p_memsz"]) for each in headers]


@pytest.mark.parametrize("name", BOARDS)
def test_a_crash_plan_for_e500(name: str, tmp_path: Path) -> None:
    """The reference: kexec-tools 29898e1, on QEMU's mpc8544ds, has the kernel and the device tree there."""
    board = BOARDS[name]
    plan = plan_load(board.machine(tmp_path), request(Purpose.CRASH))
    assert plan.flags == 0x140001
    assert all(REGION.covers(each.range) for each in plan.segments)
    assert {each.name for each in plan.segments} == {"kernel", "initrd", "dtb", "purgatory", "elfcorehdr"}
    kernel, core, dtb = (plan.segment(each) for each in ("kernel", "elfcorehdr", "dtb"))
    assert kernel.address == 0x4000000
    assert dtb.address == 0x57FF000
    assert plan.command_line == f"console=ttyS0 elfcorehdr={core.address // 1024}K maxcpus=1"
    assert bytes(kernel.data) == KERNEL.contents
    end = board.ram[0][1]
    assert loads(plan) == [
        (0, LINKED, 0, REGION.start),
        (REGION.end, LINKED + REGION.end, REGION.end, end - REGION.end),
    ]
    tree = tree_of(plan)
    assert tree.get(f"/{board.node}", "reg") == board.reg(board.ram)
    assert tree.get(f"/{board.node}", "linux,usable-memory") == board.reg([CRASH])
    initrd = plan.segment("initrd")
    assert reservations(plan) == [
        (core.address, core.memsz),
        (initrd.address, INITRD.size),
        (dtb.address, dtb.data.nbytes),
    ]


def test_the_machine_of_a_snapshot() -> None:
    """The static kexec took it, with crashkernel=128M@64M."""
    machine = snapshot("qemu-ppc-6.1-512m")
    assert machine.crash_regions == (REGION,)
    plan = plan_load(machine, request(Purpose.CRASH))
    assert plan.segment("kernel").address == 64 * MIB
    assert tree_of(plan).get("/memory", "linux,usable-memory") == E500.reg([CRASH])
    assert [each[1:] for each in loads(plan)] == [
        (LINKED, 0, 64 * MIB),
        (LINKED + 192 * MIB, 192 * MIB, 320 * MIB),
    ]
    block = struct.pack(">4QIIQ", plan.segment("dtb").address, RSTCR, 0, 0, 3, 0, SERIAL)
    assert block in bytes(plan.segment("purgatory").data)


def test_a_boot_plan_for_e500(tmp_path: Path) -> None:
    plan = plan_load(E500.machine(tmp_path), request(Purpose.BOOT))
    assert plan.flags == 0x140000
    assert plan.command_line == "console=ttyS0"
    kernel, dtb, initrd = (plan.segment(each) for each in ("kernel", "dtb", "initrd"))
    assert kernel.address == 0, "where memory begins"
    assert dtb.range.end <= 24 * MIB
    assert not any(each.range.overlaps(REGION) for each in plan.segments)
    chosen = dict(tree_of(plan).nodes())["/chosen"]
    numbers = [int.from_bytes(chosen[f"linux,initrd-{name}"]) for name in ("start", "end")]
    assert numbers == [initrd.address, initrd.address + INITRD.size]
    gone = {"linux,crashkernel-base", "linux,crashkernel-size", "linux,kernel-end", "linux,memory-limit"}
    assert not chosen.keys() & gone
    assert tree_of(plan).get("/memory", "linux,usable-memory") is None


def test_purgatory_is_told_of_the_boards_devices(tmp_path: Path) -> None:
    """purgatory/common/params.h: jump_to, arguments, console, console_shift, console_base, ..., reset."""
    plan = plan_load(E500.machine(tmp_path), request(Purpose.CRASH))
    arguments = struct.pack(">4Q", plan.segment("dtb").address, RSTCR, 0, 0)
    block = struct.pack(">Q", plan.segment("kernel").address) + arguments + struct.pack(">IIQ", 3, 0, SERIAL)
    data = bytes(plan.segment("purgatory").data)
    assert block in data
    assert data[data.index(block) + 108 : data.index(block) + 112] == (1).to_bytes(4)


@pytest.mark.parametrize("bus", [{}, {"ranges": b""}, {"ranges": bytes(7)}, {"#address-cells": b"x"}])
def test_no_reset_where_the_bus_does_not_say(bus: dict[str, bytes], tmp_path: Path) -> None:
    """An empty "ranges" shows all of the bus above, so the register is in RAM then: as far as told."""
    soc = {"#address-cells": b"\0\0\0\1", "#size-cells": b"\0\0\0\1", **bus}
    node = {"reg": struct.pack(">II", 0xE0000, 0x1000), "fsl,has-rstcr": b""}
    board = dataclasses.replace(E500, root={"soc@e0000000": {**soc, "global-utilities@e0000": node}})
    plan = plan_load(board.machine(tmp_path), request(Purpose.CRASH))
    register = 0xE00B0 if bus == {"ranges": b""} else 0
    assert struct.pack(">4Q", plan.segment("dtb").address, register, 0, 0) in bytes(
        plan.segment("purgatory").data
    )


def test_a_classic_core_takes_interrupts_at_address_0(tmp_path: Path) -> None:
    """So purgatory saves what is there, and the capture kernel has it."""
    plan = plan_load(CLASSIC.machine(tmp_path), request(Purpose.CRASH, CAPTURE))
    region = Range.sized(*(CLASSIC.crash or (0, 0)))
    backup, core = plan.segment("backup"), plan.segment("elfcorehdr")
    assert all(region.covers(each.range) for each in plan.segments)
    assert plan.segment("kernel").address == 32 * MIB
    assert loads(plan) == [
        (backup.address, LINKED, 0, 0x10000),
        (0x10000, LINKED + 0x10000, 0x10000, region.start - 0x10000),
        (region.end, LINKED + region.end, region.end, 512 * MIB - region.end),
    ]
    assert tree_of(plan).get("/memory@0", "linux,usable-memory") == CLASSIC.reg([(0, region.end)])
    assert reservations(plan)[:3] == [
        (0x10000, region.start - 0x10000),
        (backup.address, 0x10000),
        (core.address, core.memsz),
    ]
    assert struct.pack(">4QIIQ", plan.segment("dtb").address, *bytes(6)) in bytes(
        plan.segment("purgatory").data
    ), "no device is driven"


def test_a_classic_core_boots_where_the_kernel_is_linked(tmp_path: Path) -> None:
    board = dataclasses.replace(CLASSIC, crash=None)
    plan = plan_load(board.machine(tmp_path / "at 0"), request(Purpose.BOOT, FakeVmlinux(False)))
    assert plan.segment("kernel").address == 0
    plan = plan_load(board.machine(tmp_path / "at 32 MiB"), request(Purpose.BOOT, CAPTURE))
    assert plan.segment("kernel").address == 32 * MIB


@pytest.mark.parametrize("name", ["440GP Rev. C", "460EX", "476fpe", "APM821XX", "(generic 44x PPC)"])
def test_other_booke_cores(name: str, tmp_path: Path) -> None:
    """No backup, no boundary of 64 MiB; their devices are mapped in a way of their own."""
    board = dataclasses.replace(E500, cpu=name, crash=(32 * MIB, 128 * MIB))
    plan = plan_load(board.machine(tmp_path), request(Purpose.CRASH))
    assert {each.name for each in plan.segments} == {"kernel", "initrd", "dtb", "purgatory", "elfcorehdr"}
    assert plan.segment("kernel").address == 32 * MIB
    assert tree_of(plan).get("/memory", "linux,usable-memory") == board.reg([(32 * MIB, 128 * MIB)])


def test_highmem_is_in_the_dump_without_an_address_of_its_own(tmp_path: Path) -> None:
    """As ranges that are split where the map of all memory ends, with all ones, as the C tool has it."""
    board = dataclasses.replace(E500, ram=((0, 1024 * MIB),), lowmem=768 * MIB)
    plan = plan_load(board.machine(tmp_path), request(Purpose.CRASH))
    assert loads(plan) == [
        (0, LINKED, 0, REGION.start),
        (REGION.end, LINKED + REGION.end, REGION.end, 768 * MIB - REGION.end),
        (768 * MIB, 0xFFFFFFFF, 768 * MIB, 256 * MIB),
    ]
    plan = plan_load(board.machine(tmp_path), request(Purpose.BOOT))
    assert all(each.range.end <= 768 * MIB for each in plan.segments)


@pytest.mark.parametrize("data", [KERNEL.contents, gzip.compress(KERNEL.contents, mtime=0)])
def test_a_uimage(data: bytes, tmp_path: Path) -> None:
    """Its header says where the raw kernel begins, which does not tell how much memory it takes."""
    image = uimage(data, arch=7, load=0, entry=0x40)
    for purpose, start in ((Purpose.BOOT, 0), (Purpose.CRASH, 64 * MIB)):
        plan = plan_load(E500.machine(tmp_path), request(purpose, image, format="uImage-ppc"))
        kernel = plan.segment("kernel")
        assert (kernel.address, bytes(kernel.data)) == (start, KERNEL.contents)
        assert kernel.memsz == len(KERNEL.contents) + MIB
        assert struct.pack(">QQ", start + 0x40, plan.segment("dtb").address) in bytes(
            plan.segment("purgatory").data
        )
        assert "uImage" in plan.image_format
    linked = uimage(data, arch=7, load=80 * MIB, entry=80 * MIB)
    plan = plan_load(E500.machine(tmp_path), request(Purpose.CRASH, linked))
    assert plan.segment("kernel").address == 80 * MIB, "linked for the reservation"


@pytest.mark.parametrize(
    ("board", "message", "hint"),
    [
        (
            dataclasses.replace(E500, crash=(32 * MIB, 128 * MIB)),
            r"begins at 32 MiB; on e500 a kernel starts at multiples of 64 MiB only",
            "boot with crashkernel=128M@64M",
        ),
        (dataclasses.replace(E500, crash=None), "no linux,crashkernel-base", "crashkernel=SIZE@64M"),
        (dataclasses.replace(E500, cpu=None), "the kind of the CPU is not known", "snapshot"),
    ],
)
def test_bad_machines(board: Board, message: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=message) as raised:
        plan_load(board.machine(tmp_path), request(Purpose.CRASH))
    assert hint in (raised.value.hint or "")


def test_a_tree_may_tell_of_the_core(tmp_path: Path) -> None:
    board = dataclasses.replace(E500, cpu=None, root={"cpus": {"cpu@0": {"mmu-type": b"power-embedded\0"}}})
    plan = plan_load(board.machine(tmp_path), request(Purpose.CRASH))
    assert "backup" not in {each.name for each in plan.segments}


@pytest.mark.parametrize(
    ("board", "changes", "error", "message"),
    [
        (E500, {"kernel": b"x" * 5000}, ImageError, "no vmlinux for ppc, and no uImage"),
        (E500, {"kernel": KERNEL.build()[:0x18000]}, ImageError, "truncated"),
        (E500, {"kernel": FakeVmlinux(entry=0x30000)}, ImageError, "entered 0x30000 bytes from"),
        (E500, {"kernel": FakeVmlinux(memory_size=1 << 29)}, PlacementError, "free area"),
        (E500, {"kernel": uimage(b"x" * 8192, arch=2)}, ImageError, "a kernel for arm, not for ppc"),
        (E500, {"kernel": uimage(b"x" * 8192, arch=7, entry=8192)}, ImageError, "entered 0x2000 bytes"),
        (E500, {"kernel": uimage(b"x" * 8192, arch=7, load=4, entry=4)}, ImageError, "0x4, where no page"),
        (CLASSIC, {"kernel": FakeVmlinux(False)}, ImageError, "linked for .*outside of the memory for a"),
        (CLASSIC, {"console": Console("ttyS0"), "kernel": CAPTURE}, UsageError, "no console on this"),
        (E500, {"append": "x" * 2048}, UsageError, "Command line overflow: 2"),
        (E500, {"format": "vmlinux"}, UsageError, "Unsupported kernel type vmlinux"),
        (E500, {"hotplug": True}, MachineError, "--hotplug"),
    ],
)
def test_bad_requests(
    board: Board, changes: dict[str, object], error: type[PykexecError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        plan_load(board.machine(tmp_path), request(Purpose.CRASH, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("purpose", Purpose)
def test_a_tree_of_ones_own(purpose: Purpose, tmp_path: Path) -> None:
    memory = {"device_type": b"memory\0", "reg": E500.reg(E500.ram)}
    given = Blob({"#address-cells": bytes(3) + b"\2", "#size-cells": bytes(3) + b"\2", "memory": memory})
    tree = FileData.from_bytes("dtb", given.build())
    plan = plan_load(E500.machine(tmp_path), request(purpose, device_tree=tree))
    assert (tree_of(plan).get("/memory", "linux,usable-memory") is not None) == (purpose is Purpose.CRASH)


HOSTILE = st.one_of(
    st.binary(max_size=40), st.lists(st.integers(0, 2**32 - 1), max_size=8).map(lambda words: b"".join(
        word.to_bytes(4) for word in words))
)  # fmt: skip


@settings(max_examples=examples(60), deadline=None)
@given(
    st.dictionaries(st.sampled_from(["#address-cells", "#size-cells", "reserved-ranges"]), HOSTILE),
    HOSTILE,
    st.dictionaries(
        st.sampled_from(["linux,crashkernel-base", "linux,crashkernel-size", "linux,memory-limit"]), HOSTILE
    ),
    st.sampled_from(Purpose),
    st.sampled_from([E500, CLASSIC]),
)
def test_any_tree_is_planned_for_or_refused(
    root: dict[str, bytes],
    reg: bytes,
    chosen: dict[str, bytes],
    purpose: Purpose,
    board: Board,
) -> None:
    """No segment lies outside of what /proc/iomem has as RAM, whatever the tree says."""
    nodes: dict[str, Tree] = {
        board.node: {"device_type": b"memory\0", "reg": reg},
        "chosen": {**dict(board.tree["chosen"]), **chosen},  # type: ignore[arg-type]
    }
    odd = dataclasses.replace(board, root={**root, **nodes})
    kernel = KERNEL if board is E500 else CAPTURE
    with tempfile.TemporaryDirectory() as folder:
        try:
            plan = plan_load(odd.machine(Path(folder)), request(purpose, kernel))
        except PykexecError:
            return
    ram = RangeSet(Range.sized(*each) for each in board.ram)
    assert all(ram.covers(each.range) for each in plan.segments)
