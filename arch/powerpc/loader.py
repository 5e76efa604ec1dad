"""Plans for powerpc: vmlinux and a flattened device tree, and a purgatory that begins as the kernel does."""

from __future__ import annotations

from collections.abc import Sequence

from pykexec import command_line, elfcore, formats
from pykexec.arch import Arch
from pykexec.arch.powerpc import firmware as firmwares
from pykexec.arch.powerpc import memory as memories
from pykexec.arch.powerpc.firmware import Kind
from pykexec.arch.powerpc.image import HEAD_SIZE, LINE_LIMIT, Vmlinux, VmlinuxKind
from pykexec.arch.powerpc.memory import TreeMemory
from pykexec.booting import formats as types
from pykexec.booting import tree as trees
from pykexec.booting.context import ELFCOREHDR, INITRD, KERNEL, SHORTEN, Context, line_overflow
from pykexec.devicetree import UNPACKED_TREE, DeviceTree
from pykexec.elfcore import MemoryPart
from pykexec.errors import ImageError, MachineError, NoCrashMemoryError, UsageError
from pykexec.machine import Machine
from pykexec.memory import GIB, KIB, MemoryKind, Placement, Range, RangeSet, TypedRange
from pykexec.plan import ADDRESS_SPACE, LoadPlan, Purpose, Request
from pykexec.purgatory import Backup
from pykexec.values import dataclass

BACKUP, DTB = "backup", "dtb"
SAVED = Range(0, 64 * KIB)
"""What a capture kernel needs for its interrupt vectors, wherever it runs (asm/kdump.h,
KDUMP_RESERVE_LIMIT)."""
_RESERVATION_SIZE = 16
"""Bytes of a memory reservation in a device tree."""
_LINEAR_START = 0xC000000000000000
"""The virtual address at which kernels of 64 bits have physical address 0 (CONFIG_PAGE_OFFSET)."""
_BELOW_4G = Range(0, 4 * GIB)
_OF_THIS_BOOT = (
    "linux,crashkernel-base",
    "linux,crashkernel-size",
    "linux,htab-base",
    "linux,htab-size",
    "linux,kernel-end",
    # Kernels write this in big-endian and read it as it comes (arch/powerpc/kernel/prom.c), like the first.
    "linux,memory-limit",
    "linux,pci-domain",
    memories.USABLE,
    memories.DYNAMIC_USABLE,
)
"""Properties that the running kernel has made for itself, or that were for it alone."""
_POSSIBLE_CPUS = "sys/devices/system/cpu/possible"
_DIGITS_MAX = 6
"""NR_CPUS has four."""
_PROPERTY_OVERHEAD = 16
"""Bytes of its tag, its size, the place of its name, and what ends the name and fills up the value."""
_NODE_OVERHEAD = 64
"""Bytes of a node's name and tags."""
_FADUMP = ("sys/kernel/fadump/enabled", "sys/kernel/fadump_enabled")


@dataclass(frozen=True, slots=True)
class _Crash:
    """The memory of a crash load; ranges are physical."""

    region: Range
    """What crashkernel= reserved."""
    dumped: RangeSet
    """All memory of the crashed kernel."""
    usable: RangeSet
    """What the capture kernel is told of."""


def plan(kind: VmlinuxKind, machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    file, wrapping = formats.unwrap(request.kernel)
    kernel = kind.parse(file)
    types.require(kernel.path, request.format, kind.type, kind.arch.formats)
    own = running_tree(machine)
    tree = own if request.device_tree is None else trees.read_tree(machine, request.device_tree)
    memory, firmware = memories.read(own), firmwares.find(own)
    lost = trees.not_handed_on(machine, tree) if request.purpose is Purpose.BOOT else []
    crash = _survey(machine, kernel, memory) if request.purpose is Purpose.CRASH else None
    context = Context.begin(kind.arch, machine, request, _room(machine, kernel, memory, crash))
    layout = context.layout
    _place_kernel(context, kernel, kind.staying(kernel) if crash else kernel.data)
    line = command_line.for_request(request, machine.command_line)
    backup = None
    if crash:
        backup = place_backup(context)
        headers = context.place_core_headers(_core_headers(kind.arch, machine, crash, backup))
        line = f"{line} elfcorehdr={headers.start // KIB}K".lstrip()
    if what := line_overflow(line, LINE_LIMIT, kind.arch.name):
        raise UsageError(what, hint=SHORTEN)
    # RTAS takes addresses of 32 bits.
    within = _BELOW_4G if firmware.kind is Kind.RTAS else ADDRESS_SPACE
    blob = context.place_purgatory(within=within, placement=Placement.LOWEST)
    initrd = context.place_initrd(ADDRESS_SPACE, Placement.LOWEST, "anywhere beside the kernel")
    trees.renew(tree, command_line=line, initrd=initrd, seed=request.seed)
    drop_own(tree)
    if crash:
        memories.confine(tree, crash.usable)
    tree.reserve(_reservations(context, memory, crash))
    start = layout.range(KERNEL).start
    entry = context.fill_purgatory(
        blob,
        jump_to=start,
        arguments=(place_tree(context, tree), firmware.base, firmware.entry, firmware.system_reboot),
        console=firmwares.require_console(firmware, request),
        backup=backup,
        reset=firmware.kind,
        head=bytes(layout.data(KERNEL)[:HEAD_SIZE]),
    )
    return context.finish(
        entry=entry,
        command_line=line,
        image_format=", ".join(filter(None, (wrapping, kernel.description))),
        memory_map=_memory_map(machine, crash),
        losses=lost,
    )


def running_tree(machine: Machine) -> DeviceTree:
    """Return the running kernel's tree: what it was started with lacks what it has added, and is missing
    CPUs and memory that came later. Raises MachineError."""
    if machine.root.names(UNPACKED_TREE):
        return DeviceTree.from_folder(machine.root, UNPACKED_TREE)
    raise MachineError(f"there is no device tree: no /{UNPACKED_TREE}")


def _survey(machine: Machine, kernel: Vmlinux, memory: TreeMemory) -> _Crash:
    """Return the memory of a crash load. Raises NoCrashMemoryError when nothing was reserved, and ImageError
    for a kernel that would not stay there."""
    if not machine.crash_regions:
        raise _not_reserved(machine)
    if not kernel.is_relocatable:
        raise ImageError(
            f"{kernel.path}: not relocatable (offset 0x5c of its code): as a capture kernel it would"
            " overwrite what is to be dumped",
            hint="a capture kernel takes CONFIG_RELOCATABLE",
        )
    region = machine.crash_regions[-1]
    if region.start < SAVED.end:
        raise MachineError(f"the reservation {region} is where a capture kernel has its interrupts: {SAVED}")
    kept = whole_pages(machine, memory.handed_on)
    return _Crash(
        region=region,
        # Firmware may lie within the reservation.
        dumped=memory.ram.minus(RangeSet([region]).minus(whole_pages(machine, memory.firmware))),
        usable=RangeSet([Range(0, region.end), *kept]),
    )


def _not_reserved(machine: Machine) -> NoCrashMemoryError:
    if any((machine.read(path) or b"").strip() == b"1" for path in _FADUMP):
        return NoCrashMemoryError(
            "firmware-assisted dump (fadump) is on: the firmware keeps the crashed kernel's memory, and"
            " starts the kernel that saves it",
            hint="nothing is to be loaded for it; for kdump boot without fadump=on",
        )
    return NoCrashMemoryError(
        "Memory for crashkernel is not reserved: /proc/device-tree/chosen has no linux,crashkernel-base",
        hint="boot with crashkernel=SIZE on the kernel command line, for instance crashkernel=512M",
    )


def whole_pages(machine: Machine, parts: Sequence[Range]) -> RangeSet:
    return RangeSet(each.aligned_outwards(machine.page_size) for each in parts)


def _room(machine: Machine, kernel: Vmlinux, memory: TreeMemory, crash: _Crash | None) -> RangeSet:
    """Return where segments may lie: what code can reach without MMU, but for what is in use.

    A normal load leaves room at address 0, to which the new kernel copies itself, besides the running
    kernel's, which refuses to be overwritten (arch/powerpc/kexec/core_64.c).
    """
    in_use = [*memory.handed_on, memory.hash_table]
    if crash:
        return RangeSet([crash.region]).intersect([memory.first]).minus(in_use)
    low = Range(0, max(memory.kernel.end, kernel.memory_size))
    return memory.ram.intersect([memory.first]).minus([*in_use, low, *machine.crash_regions])


def _place_kernel(context: Context, kernel: Vmlinux, data: memoryview) -> None:
    context.layout.place(
        KERNEL,
        kernel.memory_size,
        alignment=kernel.alignment,
        placement=Placement.LOWEST,
        why="stays there" if context.is_crash else "copies itself to address 0",
    )
    context.layout.fill(KERNEL, data)


def place_backup(context: Context, placement: Placement = Placement.LOWEST) -> Backup:
    why = f"what purgatory saves of {SAVED}, which the capture kernel takes for interrupts"
    at = context.layout.place(BACKUP, SAVED.size, placement=placement, why=why)
    context.layout.fill(BACKUP, b"")
    return Backup(SAVED.start, at, SAVED.size)


def _core_headers(arch: Arch, machine: Machine, crash: _Crash, backup: Backup) -> bytes:
    parts = [MemoryPart(each.start, _LINEAR_START + each.start, each.size) for each in crash.dumped]
    return elfcore.build(
        arch.names.elf,
        cpu_notes=machine.cpu_notes,
        vmcoreinfo=machine.vmcoreinfo,
        memory=[piece for part in parts for piece in saved_apart(part, backup)],
    )


def saved_apart(part: MemoryPart, backup: Backup | None) -> list[MemoryPart]:
    """Return a part of memory with what is saved of it, if that is some of it, by itself."""
    whole = Range.sized(part.physical, part.size)
    if backup is None or part.virtual is None or not whole.overlaps(SAVED):
        return [part]
    pieces = [
        *((each, backup.destination + each.start) for each in RangeSet([whole]).intersect([SAVED])),
        *((each, None) for each in RangeSet([whole]).minus([SAVED])),
    ]
    return [
        MemoryPart(each.start, part.virtual + each.start - part.physical, each.size, saved_at)
        for each, saved_at in pieces
    ]


def drop_own(tree: DeviceTree) -> None:
    """Take away what the running kernel has put into its tree, and say that no firmware boots this one."""
    for path, properties in list(tree.nodes()):
        for name in _OF_THIS_BOOT:
            if name in properties:
                tree.remove(path, name)
    tree.set(memories.CHOSEN, "linux,booted-from-kexec", b"")


def _reservations(context: Context, memory: TreeMemory, crash: _Crash | None) -> list[Range]:
    """Return the memory that the next kernel must leave alone: the crashed kernel's first."""
    layout, found = context.layout, list[Range]()
    if crash:
        found.append(Range(SAVED.end, crash.region.start))
        found += [layout.range(BACKUP), layout.range(ELFCOREHDR)]
    if INITRD in layout.names():
        found.append(Range.sized(layout.range(INITRD).start, layout.data(INITRD).nbytes))
    return [*found, *memory.handed_on]


def place_tree(
    context: Context,
    tree: DeviceTree,
    within: Range = ADDRESS_SPACE,
    placement: Placement = Placement.LOWEST,
) -> int:
    """Place the tree, which tells of its own place, too. Raises PlacementError, DeviceTreeError."""
    spare = _later_cpus(context.machine, tree) if context.request.hotplug else 0
    size = len(tree.to_bytes(spare)) + _RESERVATION_SIZE
    why = "the device tree of the running kernel"
    at = context.layout.place(DTB, size, within=within, placement=placement, why=why)
    tree.reserve([Range.sized(at, size)])
    context.layout.fill(DTB, tree.to_bytes(spare))
    return at


def _later_cpus(machine: Machine, tree: DeviceTree) -> int:
    """Return the bytes that nodes of all CPUs take which may be plugged in: the running kernel adds them
    (arch/powerpc/kexec/core_64.c, update_cpus_node())."""
    cores = [node for path, node in tree.nodes() if path.startswith("/cpus/") and path.count("/") == 2]
    sizes = (_NODE_OVERHEAD + sum(map(_property_size, node.items())) for node in cores)
    possible = (machine.read(_POSSIBLE_CPUS) or b"").decode("ascii", "replace").strip()
    last = possible.rpartition(",")[2].rpartition("-")[2]
    return max(sizes, default=0) * (int(last) + 1 if last.isdecimal() and len(last) < _DIGITS_MAX else 0)


def _property_size(named: tuple[str, bytes]) -> int:
    """Return the bytes that a property takes at most in a blob, with its name."""
    name, value = named
    return _PROPERTY_OVERHEAD + len(name) + len(value)


def _memory_map(machine: Machine, crash: _Crash | None) -> Sequence[TypedRange]:
    if crash is None:
        return machine.iomem.memory_map.entries
    return [TypedRange(each, MemoryKind.RAM) for each in (SAVED, crash.region)]
