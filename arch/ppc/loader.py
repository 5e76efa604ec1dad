"""Plans for ppc: vmlinux or uImage, and a flattened device tree."""

from __future__ import annotations

from collections.abc import Sequence

from pykexec import command_line, elfcore
from pykexec.arch.powerpc import loader as powerpc
from pykexec.arch.powerpc import memory as memories
from pykexec.arch.powerpc.image import LINE_LIMIT
from pykexec.arch.powerpc.memory import TreeMemory
from pykexec.arch.ppc import ARCH, core, devices, image
from pykexec.arch.ppc.core import Core
from pykexec.arch.ppc.image import Kernel
from pykexec.booting import consoles, crash
from pykexec.booting import formats as types
from pykexec.booting import tree as trees
from pykexec.booting.context import ELFCOREHDR, INITRD, KERNEL, SHORTEN, Context, line_overflow
from pykexec.booting.crash import CrashMemory
from pykexec.booting.part import LoaderPart
from pykexec.errors import ImageError, MachineError, NoCrashMemoryError, UsageError
from pykexec.machine import Machine
from pykexec.memory import GIB, KIB, MIB, MemoryKind, Placement, Range, RangeSet, TypedRange, align_up
from pykexec.plan import LoadPlan, Purpose, Request
from pykexec.purgatory import NO_CONSOLE, Backup, Console
from pykexec.values import dataclass

_SAVED = powerpc.SAVED
_LOWMEM = 768 * MIB
"""What kernels map at once, from where memory begins (CONFIG_LOWMEM_SIZE in arch/powerpc/Kconfig)."""
_TREE_WINDOW = 24 * MIB
"""What all of them have mapped from their own first byte on when they read their tree, as the C tool has
it."""
_E500_UNIT = 64 * MIB
"""Kernels for e500 map themselves, and run, from a multiple of this (CONFIG_PHYSICAL_ALIGN)."""
_BOOKE_END = 2 * GIB
"""What kernels for BookE map of memory when they leave (arch/powerpc/include/asm/kexec.h)."""


@dataclass(frozen=True, slots=True)
class _Crash:
    """The memory of a crash load; ranges are physical."""

    memory: CrashMemory
    usable: RangeSet
    """What the capture kernel is told of."""

    @property
    def region(self) -> Range:
        return self.memory.load

    @property
    def crashed(self) -> Range:
        """The crashed kernel's memory up to what was reserved, without what a capture kernel may need."""
        return Range(_SAVED.end, max(_SAVED.end, self.region.start))


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    if request.hotplug:
        raise MachineError("--hotplug: kernels for ppc do not keep core headers up to date")
    kernel, wrapping = image.parse(request.kernel)
    types.require(kernel.path, request.format, kernel.type, ARCH.formats)
    own = powerpc.running_tree(machine)
    tree = own if request.device_tree is None else trees.read_tree(machine, request.device_tree)
    kind, memory = core.find(machine, own), memories.read(own)
    lost = trees.not_handed_on(machine, tree) if request.purpose is Purpose.BOOT else []
    found = _survey(machine, kind, memory) if request.purpose is Purpose.CRASH else None
    context = Context.begin(ARCH, machine, request, _room(machine, kind, memory, found))
    start = _place_kernel(context, kernel, kind, found)
    line = command_line.for_request(request, machine.command_line)
    backup = None
    if found:
        # BookE's cores take no interrupts at address 0.
        backup = None if kind.is_booke else powerpc.place_backup(context, Placement.HIGHEST)
        headers = context.place_core_headers(_core_headers(machine, found.memory, backup))
        line = f"{line} elfcorehdr={headers.start // KIB}K maxcpus=1".lstrip()
    if what := line_overflow(line, LINE_LIMIT, ARCH.name):
        raise UsageError(what, hint=SHORTEN)
    blob = context.place_purgatory()
    initrd = context.place_initrd(
        Range(start, start + _LOWMEM), Placement.HIGHEST, "anywhere in what the kernel maps at once"
    )
    trees.renew(tree, command_line=line, initrd=initrd, seed=request.seed)
    powerpc.drop_own(tree)
    if found:
        memories.confine(tree, found.usable)
    tree.reserve(_reservations(context, memory, found))
    reset = devices.find_reset(own) if kind is Core.E500 else devices.Reset()
    entry = context.fill_purgatory(
        blob,
        jump_to=start + kernel.entry,
        arguments=(
            powerpc.place_tree(context, tree, Range(start, start + _TREE_WINDOW), Placement.HIGHEST),
            reset.register,
        ),
        console=_console(machine, request, line, kind),
        backup=backup,
        reset=reset.kind,
    )
    return context.finish(
        entry=entry,
        command_line=line,
        image_format=", ".join(filter(None, (wrapping, kernel.description))),
        memory_map=_memory_map(machine, found),
        losses=lost,
    )


def _survey(machine: Machine, kind: Core, memory: TreeMemory) -> _Crash:
    """Return the memory of a crash load. Raises NoCrashMemoryError where nothing was reserved, or where no
    kernel could start in it."""
    if not machine.crash_regions:
        raise NoCrashMemoryError(
            "Memory for crashkernel is not reserved: /proc/device-tree/chosen has no linux,crashkernel-base",
            hint="boot with crashkernel=SIZE@64M on the kernel command line, for instance"
            " crashkernel=128M@64M",
        )
    region = machine.crash_regions[-1]
    if kind is Core.E500 and region.start % _E500_UNIT:
        raise NoCrashMemoryError(
            f"the memory for a crash kernel begins at {region.start // MIB} MiB; on {kind.value} a kernel"
            " starts at multiples of 64 MiB only",
            hint=f"boot with crashkernel={-(-region.size // MIB)}M@64M",
        )
    usable = RangeSet([Range(region.start if kind.is_booke else 0, region.end), *_kept(machine, memory)])
    return _Crash(CrashMemory((region,), _ram(machine, memory).minus([region])), usable)


def _kept(machine: Machine, memory: TreeMemory) -> RangeSet:
    return powerpc.whole_pages(machine, memory.handed_on)


def _ram(machine: Machine, memory: TreeMemory) -> RangeSet:
    """Return what both the tree and the running kernel have as RAM. Raises MachineError for none."""
    ram = memory.ram.intersect(machine.iomem.system_ram)
    if not ram:
        raise MachineError("no memory of the device tree is System RAM in /proc/iomem")
    return ram


def _room(machine: Machine, kind: Core, memory: TreeMemory, found: _Crash | None) -> RangeSet:
    """Return where segments may lie: in what the next kernel maps at once, and the running one for
    purgatory."""
    ram = _ram(machine, memory)
    start = found.region.start if found and kind.is_booke else min(each.start for each in ram)
    end = min(start + _LOWMEM, _BOOKE_END) if kind.is_booke else start + _LOWMEM
    free = ram.intersect([found.region]) if found else ram.minus(machine.crash_regions)
    return free.intersect([Range(start, max(start, end))]).minus(
        [*_kept(machine, memory), memory.hash_table]
    )


def _place_kernel(context: Context, kernel: Kernel, kind: Core, found: _Crash | None) -> int:
    """Place the kernel where it runs; return its address. Raises PlacementError, and ImageError for one that
    would leave the memory that is reserved for it."""
    own = Range.sized(kernel.address, align_up(kernel.memory_size, context.machine.page_size))
    # Kernels for BookE mostly run where they were loaded, whether they tell that or not.
    moves = kernel.runs_anywhere or (kind.is_booke and (found is None or not found.region.covers(own)))
    if found and not moves and not found.region.covers(own):
        raise ImageError(
            f"{kernel.path}: linked for {own}, outside of the memory for a crash kernel, {found.region}",
            hint="a capture kernel takes CONFIG_CRASH_DUMP, which links it for 32 MiB",
        )
    unit = _E500_UNIT if kind is Core.E500 else kernel.alignment
    start = context.layout.place(
        KERNEL,
        kernel.memory_size,
        alignment=max(kernel.alignment, unit) if moves else kernel.alignment,
        within=Range(0, ARCH.address_end) if moves else own,
        placement=Placement.LOWEST,
        why="runs there" if moves else "linked for that address",
    )
    context.layout.fill(KERNEL, kernel.data)
    return start


def _core_headers(machine: Machine, memory: CrashMemory, backup: Backup | None) -> bytes:
    parts = crash.linear_map(machine, memory)
    return elfcore.build(
        ARCH.names.elf,
        cpu_notes=machine.cpu_notes,
        vmcoreinfo=machine.vmcoreinfo,
        memory=[piece for part in parts for piece in powerpc.saved_apart(part, backup)],
    )


def _reservations(context: Context, memory: TreeMemory, found: _Crash | None) -> list[Range]:
    """Return the memory that the next kernel must leave alone."""
    layout, parts = context.layout, list[Range]()
    if found:
        parts += RangeSet([found.crashed]).intersect(found.usable)
        parts += [layout.range(name) for name in (powerpc.BACKUP, ELFCOREHDR) if name in layout.names()]
    if INITRD in layout.names():
        parts.append(Range.sized(layout.range(INITRD).start, layout.data(INITRD).nbytes))
    return [*parts, *memory.handed_on]


def _console(machine: Machine, request: Request, line: str, kind: Core) -> Console:
    """Return purgatory's console. Only on e500 it reaches one: classic cores would cache its registers, and
    others map devices in ways of their own. Raises UsageError where the request asks for another one."""
    if kind is Core.E500:
        found = consoles.in_memory(machine, request, line)
        return found if found.base < ARCH.address_end else NO_CONSOLE
    if request.console.port or request.console.serial:
        raise UsageError(
            "--serial, --console-serial: purgatory has no console on this machine", hint="leave it out"
        )
    return NO_CONSOLE


def _memory_map(machine: Machine, found: _Crash | None) -> Sequence[TypedRange]:
    if found is None:
        return machine.iomem.memory_map.entries
    return [TypedRange(each, MemoryKind.RAM) for each in found.usable.minus([found.crashed])]


PART = LoaderPart(plan)
