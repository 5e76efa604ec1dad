"""What every load on x86_64 stands on, whatever is loaded: free memory, the map to tell, and purgatory."""

import enum
from collections.abc import Sequence

from pykexec import command_line, purgatory
from pykexec import crash as generic_crash
from pykexec.arch.x86_64 import crash
from pykexec.arch.x86_64.kernel import Entry
from pykexec.errors import PlacementError, UsageError
from pykexec.machine import Machine
from pykexec.machine.serial import FIRST_PORT
from pykexec.memory import GIB, KIB, MIB, MemoryMap, Range, RangeSet
from pykexec.plan import KEXEC_ON_CRASH, Layout, LoadPlan, Purpose, Request, Segment
from pykexec.uapi import KEXEC_PRESERVE_CONTEXT, KEXEC_UPDATE_ELFCOREHDR
from pykexec.values import dataclass

ABOVE_LOW_MEMORY = Range(MIB, 1 << 64)
BELOW_4G = Range(MIB, 4 * GIB)
"""What code without paging reaches, less low memory."""
LOW_MEMORY = Range(4 * KIB, 640 * KIB)
"""What code in real mode reaches, less the BIOS's interrupt vectors and variables."""
_REACH = {Entry.LONG: Range(0, 1 << 64), Entry.PROTECTED: BELOW_4G, Entry.REAL: LOW_MEMORY}

FLAG_ARCH = 62 << 16
"""EM_X86_64 in the high half of kexec_load's flags (include/uapi/linux/kexec.h)."""
_PURGATORY, _BACKUP, _ELFCOREHDR = "purgatory", "backup", "elfcorehdr"


class Leave(enum.IntEnum):
    """How purgatory leaves, as purgatory/x86_64/entry.S takes it."""

    LONG = 0
    PROTECTED = 1
    BACK = 2
    """To a kernel that has called its purgatory (kexec jump)."""
    REAL = 3


_LEAVE = {Entry.LONG: Leave.LONG, Entry.PROTECTED: Leave.PROTECTED, Entry.REAL: Leave.REAL}


@dataclass(frozen=True, slots=True)
class Start:
    """How purgatory leaves: where it jumps to, in which mode, and what is then in registers."""

    address: int
    entry: Entry
    rsi: int = 0
    rbx: int = 0
    rax: int = 0

    @property
    def arguments(self) -> tuple[int, ...]:
        """As purgatory/x86_64/entry.S takes them."""
        return self.rsi, self.rbx, self.rax, _LEAVE[self.entry]


@dataclass(frozen=True, slots=True)
class Ground:
    """A machine made ready for a load; for a crash load with the core headers in their place."""

    machine: Machine
    request: Request
    layout: Layout
    usable: RangeSet
    """What the layout began with."""
    memory_map: MemoryMap
    """To tell the new kernel."""
    backup: purgatory.Backup | None = None
    elfcorehdr: int | None = None
    lent: RangeSet = RangeSet()
    """What a kernel that can come back gets of memory, all of which has to be in segments."""

    @property
    def command_line(self) -> str:
        """What the request asks for."""
        return command_line.for_request(self.request, self.machine.command_line)

    @property
    def crash_parameters(self) -> str:
        """What the command line has to say besides, of a kernel that is told of another one's memory."""
        if self.elfcorehdr is None:
            return ""
        maps = [crash.memmap_parameters(self.memory_map)] if self.request.memmap_parameters else []
        return " ".join([f"elfcorehdr={self.elfcorehdr // KIB}K", *maps])

    def require_below_4g(self, what: str) -> None:
        """Raise PlacementError where there is no memory that code without paging reaches."""
        if self.usable.intersect([BELOW_4G]):
            return
        raise PlacementError(
            f"{what} runs without paging at first, in memory below 4 GiB, but all that is free lies above",
            hint="reserve memory for it below 4 GiB: crashkernel=SIZE, without ,high"
            if self.request.purpose is Purpose.CRASH
            else "is --mem-min too high?",
        )


def prepare(machine: Machine, request: Request, *, lowest: int = MIB) -> Ground:
    """Find the memory that may be used, from `lowest` (physical) on. Raises PykexecError."""
    if request.purpose is Purpose.CRASH:
        return _prepare_crash(machine, request)
    if request.preserve_context:
        return _prepare_jump(machine, request, lowest)
    usable = free_memory(machine).intersect([Range(lowest, 1 << 64)]).intersect([request.within])
    layout = Layout(usable, page_size=machine.page_size)
    return Ground(machine, request, layout, usable, machine.boot_memory_map)


def free_memory(machine: Machine) -> RangeSet:
    """What a kernel may be given that is booted now (physical).

    The firmware's map may promise memory which the running kernel has since taken for itself
    (efi_mem_reserve(): TPM event log, ESRT) or was told not to touch (mem=).
    """
    return machine.boot_memory_map.ram.intersect(machine.iomem.memory_map.ram)


def _prepare_jump(machine: Machine, request: Request, lowest: int) -> Ground:
    from pykexec.arch.x86_64 import jump

    memory = jump.survey(machine, request.within)
    lent = RangeSet(memory.reserved)
    usable = lent.intersect([Range(lowest, 1 << 64)])
    layout = Layout(usable, page_size=machine.page_size)
    elfcorehdr, in_use = None, []
    if headers := jump.core_headers(machine, memory):
        elfcorehdr = layout.place(_ELFCOREHDR, len(headers), why="describes what the running kernel keeps")
        layout.fill(_ELFCOREHDR, headers)
        in_use.append(layout.range(_ELFCOREHDR))
    memory_map = crash.memory_map_of(lent.minus(in_use), machine.iomem)
    return Ground(machine, request, layout, usable, memory_map, None, elfcorehdr, lent)


def _prepare_crash(machine: Machine, request: Request) -> Ground:
    memory = crash.survey(machine)
    low = crash.low_memory(memory)
    usable = RangeSet([memory.load]).intersect([request.within])
    layout = Layout(usable, page_size=machine.page_size)
    in_use = []
    backup = None
    if low:
        saved = crash.saved_range(low)
        place = layout.place(_BACKUP, saved.size, why=f"purgatory saves low memory {saved} here")
        layout.fill(_BACKUP, b"")
        in_use.append(layout.range(_BACKUP))
        backup = purgatory.Backup(saved.start, place, saved.size)
    headers = crash.core_headers(machine, memory, backup.destination if backup else None)
    room = generic_crash.core_headers_room(machine, headers, hotplug=request.hotplug)
    elfcorehdr = layout.place(_ELFCOREHDR, room, why="describes the crashed kernel's memory")
    layout.fill(_ELFCOREHDR, headers)
    in_use.append(layout.range(_ELFCOREHDR))
    memory_map = crash.capture_memory_map(memory, machine.iomem, in_use)
    return Ground(machine, request, layout, usable, memory_map, backup, elfcorehdr)


def place_purgatory(ground: Ground, entry: Entry) -> purgatory.Blob:
    """Give purgatory its room, from where it can enter a kernel that way."""
    blob = purgatory.load_blob("x86_64")
    ground.layout.place(
        _PURGATORY,
        blob.memsz,
        alignment=blob.alignment,
        within=_REACH[entry],
        why="runs first: verifies the rest, then jumps to it",
    )
    return blob


def finish(
    ground: Ground,
    blob: purgatory.Blob,
    start: Start,
    *,
    line: str,
    image_format: str,
    jump_back_digits: int = 0,
    warnings: Sequence[str] = (),
    losses: Sequence[str] = (),
) -> LoadPlan:
    """The plan, once all else is in its place. Raises PykexecError.

    At `jump_back_digits` (physical) purgatory writes where the running kernel can be gone back to.
    """
    machine, request, layout = ground.machine, ground.request, ground.layout
    image = purgatory.build(
        blob,
        jump_to=start.address,
        arguments=start.arguments,
        digests=() if request.skip_checks else purgatory.digest_regions(_regions(ground)),
        console=console(machine, request, line),
        backup=ground.backup,
        called=bool(jump_back_digits),
        jump_back_digits=jump_back_digits,
    )
    layout.fill(_PURGATORY, image)
    entry = layout.range(_PURGATORY).start + blob.entry_offset
    missing = generic_crash.warnings(machine) if request.purpose is Purpose.CRASH else []
    return LoadPlan(
        arch="x86_64",
        purpose=request.purpose,
        image=request.kernel.path,
        image_format=", ".join(filter(None, (request.container, image_format))),
        initrd=request.initrd.path if request.initrd else None,
        command_line=line,
        entry=entry if request.entry is None else request.entry,
        flags=_flags(request),
        segments=_segments(ground),
        memory_map=ground.memory_map.entries,
        warnings=(*missing, *warnings),
        losses=tuple(losses),
    )


def _segments(ground: Ground) -> tuple[Segment, ...]:
    segments = ground.layout.segments()
    if not ground.lent:
        return segments
    from pykexec.arch.x86_64 import jump

    return tuple(sorted([*segments, *jump.rest(ground.lent, segments)], key=lambda each: each.address))


def console(machine: Machine, request: Request, line: str) -> purgatory.Console:
    """Where purgatory writes, for a kernel with that command line."""
    wanted = request.console
    port = machine.console_for(line, wanted.port)
    if port is None or not port.io_port:
        if wanted.port is not None:
            raise UsageError(f"--serial={wanted.port} has no I/O port, and purgatory uses no other")
        port = FIRST_PORT if wanted.serial else None
    return purgatory.io_port_console(port, wanted.baud, vga=wanted.vga)


def _regions(ground: Ground) -> list[purgatory.Region]:
    """All that purgatory verifies: what was loaded, but for what the running kernel rewrites."""
    layout = ground.layout
    changing = {_PURGATORY, _ELFCOREHDR} if ground.request.hotplug else {_PURGATORY}
    return [
        purgatory.Region(name, layout.range(name).start, layout.data(name))
        for name in layout.names()
        if name not in changing and layout.data(name).nbytes
    ]


def _flags(request: Request) -> int:
    if request.preserve_context:
        return FLAG_ARCH | KEXEC_PRESERVE_CONTEXT
    if request.purpose is not Purpose.CRASH:
        return FLAG_ARCH
    # The newer KEXEC_CRASH_HOTPLUG_SUPPORT is refused by Linux 6.5 to 6.9.
    update = KEXEC_UPDATE_ELFCOREHDR if request.hotplug else 0
    return FLAG_ARCH | KEXEC_ON_CRASH | update
