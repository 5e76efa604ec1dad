"""Plans for partitions made by hand, of both byte orders."""

import contextlib
import dataclasses
import errno
import io
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec import explain, kexec_file
from pykexec.arch.powerpc import memory as memories
from pykexec.devicetree import DeviceTree
from pykexec.errors import (
    DeviceTreeError,
    FileLoadUnavailable,
    ImageError,
    MachineError,
    PlacementError,
    PykexecError,
    UsageError,
)
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.memory import Range, RangeSet
from pykexec.plan import Console, LoadPlan, Purpose, Request
from tests.arches.powerpc.board import CRASH, KERNEL_END, MIB, RTAS, TERMINAL, Board, memory, u32, u64
from tests.arches.powerpc.images import HEAD, FakeVmlinux
from tests.support.dtb import Blob, Tree
from tests.support.effort import examples

LE, BE = Board(), Board("ppc64", page_size=4096)
BOARDS = {"ppc64le": LE, "ppc64": BE}
KERNELS = {"ppc64le": FakeVmlinux(), "ppc64": FakeVmlinux(order=">")}
INITRD = FileData.from_bytes("initrd", b"\x28\xb5\x2f\xfd" * 40000)
REGION = Range.sized(*CRASH)
LMB = 0x10000000


def request(name: str, purpose: Purpose, **changes: object) -> Request:
    kernel = FileData.from_bytes("vmlinux", KERNELS[name].build())
    plain = Request(kernel, purpose=purpose, initrd=INITRD, append="console=hvc0", seed=bytes(range(1, 65)))
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def planned(board: Board, purpose: Purpose, folder: Path, **changes: object) -> LoadPlan:
    return plan_load(board.machine(folder), request(board.name, purpose, **changes))


def tree_of(plan: LoadPlan) -> DeviceTree:
    return DeviceTree(bytes(plan.segment("dtb").data), "plan")


def reservations(plan: LoadPlan) -> list[tuple[int, int]]:
    """Devicetree Specification, 5.3: pairs of start and size up to one of zeros."""
    blob = bytes(plan.segment("dtb").data)
    (at,) = struct.unpack_from(">I", blob, 16)
    pairs = list(struct.iter_unpack(">QQ", blob[at : at + 16 * 20]))
    return pairs[: pairs.index((0, 0))]


@pytest.mark.parametrize("name", BOARDS)
def test_a_crash_plan(name: str, tmp_path: Path) -> None:
    board, kernel = BOARDS[name], KERNELS[name]
    plan = planned(board, Purpose.CRASH, tmp_path)
    assert plan.flags == 0x150001
    firmware = Range.sized(RTAS, 0x10000)
    assert all(REGION.covers(each.range) and not each.range.overlaps(firmware) for each in plan.segments)
    core, backup = plan.segment("elfcorehdr"), plan.segment("backup")
    assert plan.command_line == f"console=hvc0 elfcorehdr={core.address // 1024}K"
    assert backup.memsz == 0x10000
    loaded, linked = bytearray(plan.segment("kernel").data), bytearray(kernel.contents)
    assert loaded[0x5C:0x60] == struct.pack(f"{kernel.order}I", 1), "head_64.S: stay where you are"
    linked[0x5C:0x60] = loaded[0x5C:0x60]
    assert loaded == linked
    check_entry(plan)


@pytest.mark.parametrize("name", BOARDS)
def test_a_boot_plan(name: str, tmp_path: Path) -> None:
    plan = planned(BOARDS[name], Purpose.BOOT, tmp_path)
    assert plan.flags == 0x150000
    assert plan.command_line == "console=hvc0"
    assert bytes(plan.segment("kernel").data) == KERNELS[name].contents
    free = RangeSet([Range(KERNEL_END, 0x80000000)]).minus([REGION])
    assert all(free.covers(each.range) for each in plan.segments)
    assert {each.name for each in plan.segments} == {"kernel", "initrd", "dtb", "purgatory"}
    check_entry(plan)


def check_entry(plan: LoadPlan) -> None:
    """What the running kernel copies to address 0 is the kernel's, but for the first instruction."""
    purgatory, kernel = plan.segment("purgatory"), plan.segment("kernel")
    assert plan.entry == purgatory.address
    assert purgatory.data[4:HEAD] == kernel.data[4:HEAD]
    assert purgatory.data[:4] != kernel.data[:4]
    assert purgatory.range.end <= 1 << 32, "RTAS takes 32 bits"
    assert kernel.address % 0x10000 == 0
    order = "<" if plan.arch == "ppc64le" else ">"
    firmware = struct.pack(f"{order}4Q", plan.segment("dtb").address, RTAS, RTAS, 0x2001)
    # purgatory/common/params.h: jump_to, arguments, console, console_shift, console_base
    block = struct.pack(f"{order}Q", kernel.address) + firmware + struct.pack(f"{order}IIQ", 5, 0, TERMINAL)
    assert block in bytes(purgatory.data)


def test_room_for_a_kernel_larger_than_the_running_one(tmp_path: Path) -> None:
    """It copies itself to address 0 before it reads its device tree and its initrd."""
    kernel = FakeVmlinux(memory_size=64 * MIB)
    plan = planned(LE, Purpose.BOOT, tmp_path, kernel=FileData.from_bytes("vmlinux", kernel.build()))
    assert min(each.address for each in plan.segments) >= 64 * MIB


@pytest.mark.parametrize("name", BOARDS)
def test_core_headers(name: str, tmp_path: Path) -> None:
    """RTAS lies in the reservation; the kernel's own 64 KiB are where purgatory saves them."""
    plan = planned(BOARDS[name], Purpose.CRASH, tmp_path)
    elf = ELFFile(io.BytesIO(plan.segment("elfcorehdr").data))
    assert (elf["e_machine"], elf.little_endian) == ("EM_PPC64", name == "ppc64le")
    headers = [each.header for each in elf.iter_segments()]
    assert [each["p_type"] for each in headers[:2]] == ["PT_NOTE", "PT_NOTE"]
    loads = headers[2:]
    assert {each["p_vaddr"] - each["p_paddr"] for each in loads} == {0xC000000000000000}
    first, *others = loads
    saved = (first["p_paddr"], first["p_memsz"], first["p_offset"])
    assert saved == (0, 0x10000, plan.segment("backup").address)
    assert all(each["p_offset"] == each["p_paddr"] for each in others)
    size = BOARDS[name].page_size
    assert [(each["p_paddr"], each["p_memsz"]) for each in others] == [
        (0x10000, REGION.start - 0x10000),
        (RTAS, -(-0x83C // size) * size),
        (REGION.end, 0x80000000 - REGION.end),
    ]


def test_the_capture_kernels_tree(tmp_path: Path) -> None:
    plan = planned(LE, Purpose.CRASH, tmp_path)
    tree, initrd = tree_of(plan), plan.segment("initrd")
    chosen = dict(tree.nodes())["/chosen"]
    assert chosen["bootargs"] == plan.command_line.encode() + b"\0"
    assert chosen["linux,initrd-start"] == u64(initrd.address)
    assert chosen["linux,initrd-end"] == u64(initrd.address + INITRD.size)
    assert chosen["linux,booted-from-kexec"] == b""
    of_this_boot = {"linux,crashkernel-base", "linux,crashkernel-size", "linux,kernel-end"}
    assert not chosen.keys() & {*of_this_boot, "linux,memory-limit", "linux,usable-memory-range"}
    assert tree.get("/memory@0", "reg") == u64(0, 0x80000000)
    assert tree.get("/memory@0", "linux,usable-memory") == u64(0, REGION.end)
    backup, core, dtb = (plan.segment(name) for name in ("backup", "elfcorehdr", "dtb"))
    assert reservations(plan) == [
        (0x10000, REGION.start - 0x10000),
        (backup.address, backup.memsz),
        (core.address, core.memsz),
        (initrd.address, INITRD.size),
        (RTAS, 0x83C),
        (dtb.address, dtb.data.nbytes),
    ]


def test_the_next_kernels_tree(tmp_path: Path) -> None:
    plan = planned(LE, Purpose.BOOT, tmp_path)
    tree, initrd, dtb = tree_of(plan), plan.segment("initrd"), plan.segment("dtb")
    assert tree.get("/memory@0", "linux,usable-memory") is None
    assert reservations(plan) == [
        (initrd.address, INITRD.size),
        (RTAS, 0x83C),
        (dtb.address, dtb.data.nbytes),
    ]
    assert tree.get("/chosen", "linux,kernel-end") is None
    assert tree.get("/", "model") == b"IBM pSeries (emulated by qemu)\0"


def test_nodes_stand_in_the_order_of_their_addresses(tmp_path: Path) -> None:
    """Kernels number CPUs in this order, which is not that of the alphabet."""
    nodes = {"memory@f000000": memory((0xF000000, 0x1000000)), "memory@10000000": memory((0x10000000, MIB))}
    plan = planned(
        dataclasses.replace(LE, nodes={"memory@0": memory((0, 0xF000000)), **nodes}, crash=None),
        Purpose.BOOT,
        tmp_path,
    )
    paths = [path for path, _ in tree_of(plan).nodes() if path.startswith(("/cpus/", "/memory@"))]
    # nodes() yields the last child first.
    assert [path.partition("@")[2] for path in reversed(paths)] == [
        "0",
        "8",
        "10",
        "0",
        "f000000",
        "10000000",
    ]


def dynamic(**properties: bytes) -> Mapping[str, Tree]:
    return {"ibm,dynamic-reconfiguration-memory": {"ibm,lmb-size": u64(LMB), **properties}}


def v1(*blocks: tuple[int, int]) -> bytes:
    """Power Architecture Platform Reference, C.6.6.2: address, DRC index, reserved, associativity, flags."""
    return u32(len(blocks)) + b"".join(struct.pack(">QIIII", at, 0, 0, 0, flags) for at, flags in blocks)


def v2(*sets: tuple[int, int, int]) -> bytes:
    """C.6.6.3: count, address, DRC index, associativity, flags."""
    return u32(len(sets)) + b"".join(struct.pack(">IQIII", n, at, 0, 0, flags) for n, at, flags in sets)


BLOCKS = [(0, 0x80), (LMB, 0x8), (2 * LMB, 0x0), (3 * LMB, 0x8), (4 * LMB, 0x88), (5 * LMB, 0x8)]
"""Firmware's, this partition's, nobody's, this partition's, reserved, this partition's."""
OF_PARTITION = [Range.sized(at, LMB) for at in (0, LMB, 3 * LMB, 5 * LMB)]
IN_SETS = [
    (1, 0, 0x80),
    (1, LMB, 0x8),
    (1, 2 * LMB, 0),
    (1, 3 * LMB, 0x8),
    (1, 4 * LMB, 0x88),
    (1, 5 * LMB, 0x8),
]


@pytest.mark.parametrize(
    "listed",
    [{"ibm,dynamic-memory": v1(*BLOCKS)}, {"ibm,dynamic-memory-v2": v2(*IN_SETS)}],
    ids=["v1", "v2"],
)
def test_memory_that_comes_in_blocks(listed: dict[str, bytes], tmp_path: Path) -> None:
    """Counters stand for the blocks that kernels read them for: early_init_drmem_lmb() in
    arch/powerpc/kernel/prom.c skips others first. The C tool has one for each."""
    nodes = {"memory@0": memory((0, LMB)), **dynamic(**listed)}
    crash = LMB + 64 * MIB, 128 * MIB
    board = dataclasses.replace(LE, nodes=nodes, crash=crash, rtas={})
    # The real mode area is the memory node's alone: what lies above cannot be used there.
    with pytest.raises(PlacementError, match="0x0 bytes are free"):
        planned(board, Purpose.CRASH, tmp_path / "above")
    crash = 64 * MIB, 3 * LMB
    plan = planned(dataclasses.replace(board, crash=crash), Purpose.CRASH, tmp_path / "within")
    end = 64 * MIB + 3 * LMB
    tree = tree_of(plan)
    assert tree.get("/memory@0", "linux,usable-memory") == u64(0, LMB)
    blocks = [u64(1, LMB, LMB), u64(1, 3 * LMB, end - 3 * LMB), u64(0)]
    name = "/ibm,dynamic-reconfiguration-memory"
    assert tree.get(name, "linux,drconf-usable-memory") == b"".join(blocks)
    elf = ELFFile(io.BytesIO(plan.segment("elfcorehdr").data))
    loads = [each.header for each in elf.iter_segments() if each["p_type"] == "PT_LOAD"]
    dumped = RangeSet(Range.sized(each["p_paddr"], each["p_memsz"]) for each in loads)
    assert dumped == RangeSet(OF_PARTITION).minus([Range.sized(*crash)])


@given(
    st.lists(st.tuples(st.sampled_from([0, 0x8, 0x80, 0x88]), st.integers(1, 3)), max_size=8),
    st.integers(0, 24),
    st.integers(0, 24),
)
def test_blocks_are_read_as_kernels_read_them(sets: list[tuple[int, int]], start: int, size: int) -> None:
    """A reader made after early_init_drmem_lmb() finds the usable memory, whatever the blocks."""
    rows, at = [], 1
    for flags, count in sets:
        rows.append((count, at * LMB, flags))
        at += count
    nodes = {"memory@0": memory((0, LMB)), **dynamic(**{"ibm,dynamic-memory-v2": v2(*rows)})}
    tree = DeviceTree(Blob({"#address-cells": u32(2), "#size-cells": u32(2), **nodes}).build(), "tree")
    usable = RangeSet([Range.sized(start * LMB // 2, size * LMB // 2)])
    ram = memories.read(tree).ram
    memories.confine(tree, usable)
    words = [number for (number,) in struct.iter_unpack(">Q", tree.get(
        "/ibm,dynamic-reconfiguration-memory", "linux,drconf-usable-memory") or b"")]  # fmt: skip
    found, blocks = [], RangeSet([Range(0, LMB)])
    for count, first, flags in rows:
        for number in range(count):
            if flags & 0x80 or not flags & 0x8:
                continue
            blocks = blocks.union([Range.sized(first + number * LMB, LMB)])
            for _ in range(words.pop(0)):
                found.append(Range.sized(words.pop(0), words.pop(0)))
    assert words == []
    assert ram == blocks
    pairs = list(struct.iter_unpack(">QQ", tree.get("/memory@0", "linux,usable-memory") or b""))
    assert RangeSet([*found, *(Range.sized(*each) for each in pairs)]) == blocks.intersect(usable)


def test_firmware_and_tables_of_a_bare_machine(tmp_path: Path) -> None:
    """PowerNV: OPAL, a hash table, tables of I/O, and what firmware reserved; the hash table goes."""
    opal = {"opal-base-address": u64(0x30000000), "opal-entry-address": u64(0x300050D8)}
    opal |= {"opal-runtime-size": u64(0x1000000), "consoles": {"serial@1": {
        "compatible": b"ibm,opal-console-raw\0", "reg": u32(1)}}}  # type: ignore[dict-item]  # fmt: skip
    tables = {"linux,tce-base": u64(0x4000000), "linux,tce-size": u32(0x20000)}
    board = dataclasses.replace(
        LE,
        nodes={**LE.nodes, "ibm,opal": opal, "pciex@3fffe40000000": tables},
        root={"reserved-ranges": u64(0x7E000000, 0x1000000)},
        chosen={
            "linux,htab-base": u64(0x6000000),
            "linux,htab-size": u64(0x1000000),
            "stdout-path": b"/ibm,opal/consoles/serial@1\0",
        },
        rtas={},
    )  # fmt: skip
    boot = planned(board, Purpose.BOOT, tmp_path / "boot", within=Range(0x3F00000, 0x10000000))
    kept = [Range.sized(0x4000000, 0x20000), Range.sized(0x6000000, 0x1000000)]
    assert not any(each.range.overlaps(other) for each in boot.segments for other in kept)
    handed_on = [(0x7E000000, 0x1000000), (0x30000000, 0x1000000), (0x4000000, 0x20000)]
    assert reservations(boot)[1:-1] == handed_on
    assert tree_of(boot).get("/chosen", "linux,htab-base") is None
    arguments = struct.pack("<4Q", boot.segment("dtb").address, 0x30000000, 0x300050D8, 0)
    assert arguments + struct.pack("<IIQ", 5, 0, 1) in bytes(boot.segment("purgatory").data)
    crash = planned(board, Purpose.CRASH, tmp_path / "crash")
    usable = tree_of(crash).get("/memory@0", "linux,usable-memory")
    assert usable == u64(0, REGION.end, 0x7E000000, 0x1000000)
    elf = ELFFile(io.BytesIO(crash.segment("elfcorehdr").data))
    loads = [each.header for each in elf.iter_segments() if each["p_type"] == "PT_LOAD"]
    assert (0x30000000, 0x1000000) in [(each["p_paddr"], each["p_memsz"]) for each in loads]


def test_memory_cut_by_mem(tmp_path: Path) -> None:
    """linux,memory-limit, which the next kernel does not get: it reads it in its own byte order."""
    board = dataclasses.replace(LE, chosen={"linux,memory-limit": u64(0x60000000)})
    plan = planned(board, Purpose.CRASH, tmp_path)
    elf = ELFFile(io.BytesIO(plan.segment("elfcorehdr").data))
    *_, last = (each.header for each in elf.iter_segments())
    assert last["p_paddr"] + last["p_memsz"] == 0x60000000


def test_a_capture_kernel_hands_all_memory_on(tmp_path: Path) -> None:
    nodes = {"memory@0": memory((0, 0x80000000), **{"linux,usable-memory": u64(0, 0x38000000)})}
    board = dataclasses.replace(LE, nodes=nodes, crash=None, ram=[(0, 0x38000000)])
    plan = planned(board, Purpose.BOOT, tmp_path)
    assert all(each.range.end <= 0x38000000 for each in plan.segments)
    assert tree_of(plan).get("/memory@0", "linux,usable-memory") is None


@pytest.mark.parametrize("purpose", Purpose)
def test_a_tree_of_ones_own(purpose: Purpose, tmp_path: Path) -> None:
    given = Blob({"#address-cells": u32(2), "#size-cells": u32(2), "model": b"own\0", **LE.nodes}).build()
    plan = planned(LE, purpose, tmp_path, device_tree=FileData.from_bytes("dtb", given))
    tree = tree_of(plan)
    assert tree.get("/", "model") == b"own\0"
    assert (tree.get("/memory@0", "linux,usable-memory") is not None) == (purpose is Purpose.CRASH)


def test_what_the_running_kernel_keeps_up_to_date_is_not_verified(tmp_path: Path) -> None:
    """Core headers and device tree, which has room for the nodes of CPUs that may come."""
    files = {"sys/kernel/crash_elfcorehdr_size": "100000\n", "sys/devices/system/cpu/possible": "0-63\n"}
    machine = LE.machine(tmp_path, files)
    plans = [plan_load(machine, request("ppc64le", Purpose.CRASH, hotplug=each)) for each in (False, True)]
    all_names = {b"kernel", b"dtb", b"elfcorehdr", b"initrd"}
    verified = [bytes(plan.segment("purgatory").data) for plan in plans]
    names = [{name for name in all_names if name.ljust(16, b"\0") in data} for data in verified]
    assert names == [all_names, {b"kernel", b"initrd"}]
    assert plans[1].flags == 0x150009
    assert plans[1].segment("elfcorehdr").memsz >= 100000
    plain, roomy = (bytes(plan.segment("dtb").data) for plan in plans)
    node = Blob({"reg": u32(0)}).build()
    assert len(roomy) - len(plain) >= 61 * (len(node) - 40 - 16 - 16)
    assert int.from_bytes(roomy[4:8]) == len(roomy), "totalsize: libfdt adds nodes within"
    place = plans[1].segment("dtb").address, len(roomy)
    assert reservations(plans[1])[-1] == place
    assert dict(DeviceTree(roomy, "roomy").nodes()).keys() == dict(DeviceTree(plain, "plain").nodes()).keys()


@pytest.mark.parametrize("path", ["sys/kernel/fadump/enabled", "sys/kernel/fadump_enabled"])
def test_fadump_is_left_alone(path: str, tmp_path: Path) -> None:
    machine = dataclasses.replace(LE, crash=None).machine(tmp_path, {path: "1\n"})
    with pytest.raises(MachineError, match=r"fadump\) is on: the firmware keeps"):
        plan_load(machine, request("ppc64le", Purpose.CRASH))
    plan_load(machine, request("ppc64le", Purpose.BOOT))


def kernel(data: bytes) -> dict[str, object]:
    return {"kernel": FileData.from_bytes("vmlinux", data)}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (kernel(b"x" * 5000), ImageError, "no vmlinux for ppc64le"),
        (kernel(FakeVmlinux(order=">").build()), ImageError, "ppc64: no vmlinux for ppc64le"),
        (kernel(FakeVmlinux(run_flag=0x60000000).build()), ImageError, "not relocatable"),
        (kernel(FakeVmlinux(entry=0xC000000000000100).build()), ImageError, "no Linux kernel"),
        (kernel(FakeVmlinux().build()[:0x18000]), ImageError, "truncated"),
        (kernel(FakeVmlinux(memory_size=1 << 40).build()), PlacementError, "free area"),
        ({"append": "x" * 2048}, UsageError, "Command line overflow: 2"),
        ({"format": "vmlinux"}, UsageError, "Unsupported kernel type vmlinux\n.*elf-ppc64"),
        ({"hotplug": True}, MachineError, "--hotplug: the running kernel updates no core headers"),
        ({"console": Console("ttyS0")}, UsageError, "--serial=ttyS0: purgatory writes to the firmware's"),
        ({"console": Console(vga=True)}, UsageError, "--console-vga is for x86"),
    ],
)
def test_bad_requests(
    changes: dict[str, object], error: type[PykexecError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        planned(LE, Purpose.CRASH, tmp_path, **changes)


@pytest.mark.parametrize(
    ("board", "message"),
    [
        (dataclasses.replace(LE, crash=None), "crashkernel is not reserved: .*no linux,crashkernel-base"),
        (dataclasses.replace(LE, nodes={}), "no memory node"),
        (
            dataclasses.replace(LE, nodes={**LE.nodes, **dynamic(**{"ibm,dynamic-memory": u32(9)})}),
            "ibm,dynamic-memory says 9 rows, and has 0 bytes",
        ),
        (
            dataclasses.replace(
                LE, nodes={**LE.nodes, **dynamic(**{"ibm,dynamic-memory-v2": v2((0xFFFFFFFF, 0, 8))})}
            ),
            "more than 262144 blocks",
        ),
    ],
)
def test_bad_machines(board: Board, message: str, tmp_path: Path) -> None:
    with pytest.raises((MachineError, DeviceTreeError), match=message):
        planned(board, Purpose.CRASH, tmp_path)


def test_without_a_tree(tmp_path: Path) -> None:
    machine = LE.machine(tmp_path)
    (tmp_path / "proc/device-tree").rename(tmp_path / "elsewhere")
    with pytest.raises(MachineError, match="no device tree: no /proc/device-tree"):
        plan_load(machine, request("ppc64le", Purpose.BOOT))


@pytest.mark.parametrize("name", BOARDS)
def test_the_running_kernel_can_load_it_itself(name: str, tmp_path: Path) -> None:
    """arch/powerpc/kexec/elf_64.c takes a vmlinux; a kernel of the other byte order it would refuse."""
    machine = BOARDS[name].machine(tmp_path, {"sys/kernel/kexec_crash_loaded": "1\n"})
    plan = kexec_file.plan(machine, request(name, Purpose.CRASH))
    assert bytes(plan.kernel.data) == KERNELS[name].build()
    other = FileData.from_bytes("vmlinux", KERNELS["ppc64" if name == "ppc64le" else "ppc64le"].build())
    with pytest.raises(FileLoadUnavailable, match="Exec format error"):
        kexec_file.plan(machine, request(name, Purpose.CRASH, kernel=other))


def test_why_the_running_kernel_refuses(tmp_path: Path) -> None:
    """arch/powerpc/kexec/core_64.c, machine_kexec_prepare()."""
    machine = LE.machine(tmp_path)
    plan = plan_load(machine, request("ppc64le", Purpose.BOOT))
    told = explain.explain_load_failure(errno.ETXTBSY, plan, machine)
    assert "where the running kernel's own code is" in str(told)


DAMAGED = [
    ("chosen", "linux,crashkernel-base"),
    ("chosen", "linux,crashkernel-size"),
    ("chosen", "linux,kernel-end"),
    ("chosen", "linux,memory-limit"),
    ("chosen", "linux,htab-base"),
    ("chosen", "linux,htab-size"),
    ("chosen", "stdout-path"),
    ("rtas", "linux,rtas-base"),
    ("rtas", "rtas-size"),
    ("rtas", "system-reboot"),
    ("memory@0", "reg"),
    ("ibm,dynamic-reconfiguration-memory", "ibm,lmb-size"),
    ("ibm,dynamic-reconfiguration-memory", "ibm,dynamic-memory-v2"),
    (".", "#address-cells"),
    (".", "#size-cells"),
    (".", "reserved-ranges"),
]
NUMBERS = st.sampled_from([0, 1, 8, 0x10000, CRASH[0], CRASH[0] + 1, 1 << 31, 1 << 40, (1 << 64) - 1])
VALUES = st.binary(max_size=40) | st.lists(NUMBERS, max_size=4).map(lambda numbers: u64(*numbers))


@pytest.mark.slow
@settings(max_examples=examples(200), deadline=None)
@given(st.dictionaries(st.sampled_from(DAMAGED), VALUES, max_size=4), st.sampled_from(Purpose))
def test_any_tree_is_planned_for_or_refused(damage: dict[tuple[str, str], bytes], purpose: Purpose) -> None:
    nodes = {**LE.nodes, **dynamic(**{"ibm,dynamic-memory-v2": v2(*IN_SETS)})}
    files = {f"proc/device-tree/{node}/{name}": value for (node, name), value in damage.items()}
    with tempfile.TemporaryDirectory() as folder:
        machine = dataclasses.replace(LE, nodes=nodes).machine(Path(folder), dict(files))
        with contextlib.suppress(PykexecError):
            plan_load(machine, request("ppc64le", purpose))
