"""The basis of every load on x86: free memory, the new kernel's memory map, and purgatory."""

import enum
from collections.abc import Sequence

from pykexec import command_line, purgatory
from pykexec.arch import Arch
from pykexec.arch.x86 import crash
from pykexec.arch.x86.kernel import Entry
from pykexec.booting.context import ELFCOREHDR, Context
from pykexec.errors import PlacementError, UsageError
from pykexec.machine import Machine
from pykexec.machine.serial import SerialPort
from pykexec.memory import GIB, KIB, MIB, MemoryMap, Range, RangeSet
from pykexec.plan import Layout, LoadPlan, Purpose, Request, Segment
from pykexec.purgatory import ConsoleKind
from pykexec.values import dataclass

ABOVE_LOW_MEMORY = Range(MIB, 1 << 64)
BELOW_4G = Range(MIB, 4 * GIB)
"""The memory that code without paging reaches, without low memory."""
LOW_MEMORY = Range(4 * KIB, 640 * KIB)
"""The memory that code in real mode reaches, without the BIOS's interrupt vectors and variables."""
_REACH = {Entry.LONG: Range(0, 1 << 64), Entry.PROTECTED: BELOW_4G, Entry.REAL: LOW_MEMORY}

_BACKUP = "backup"
_UART_CLOCK = 115200  # baud at divisor 1, on a PC
_FIRST_PORT = SerialPort("ttyS0", io_port=0x3F8, iomem_base=0, reg_shift=0)
"""Where every PC has it (arch/x86/include/asm/serial.h)."""


class Leave(enum.IntEnum):
    """The ways in which purgatory leaves, as in purgatory/*/entry.S."""

    LONG = 0
    PROTECTED = 1
    BACK = 2
    """To a kernel that has called its purgatory (kexec jump)."""
    REAL = 3


_LEAVE = {Entry.LONG: Leave.LONG, Entry.PROTECTED: Leave.PROTECTED, Entry.REAL: Leave.REAL}


@dataclass(frozen=True, slots=True)
class Jump:
    """Purgatory's last jump: its target, the processor mode, and the registers."""

    address: int
    entry: Entry
    rsi: int = 0
    rbx: int = 0
    rax: int = 0

    @property
    def arguments(self) -> tuple[int, ...]:
        """The arguments in the order of purgatory/*/entry.S."""
        return self.rsi, self.rbx, self.rax, _LEAVE[self.entry]


@dataclass(frozen=True, slots=True)
class Preparation:
    """A machine that is ready for a load; for a crash load the core headers are in place."""

    context: Context
    usable: RangeSet
    """The memory that the layout began with."""
    memory_map: MemoryMap
    """The memory map for the new kernel."""
    backup: purgatory.Backup | None = None
    elfcorehdr: int | None = None
    lent: RangeSet = RangeSet()
    """The memory lent to a kernel that can jump back; all of it must be in segments."""

    @property
    def machine(self) -> Machine:
        return self.context.machine

    @property
    def request(self) -> Request:
        return self.context.request

    @property
    def layout(self) -> Layout:
        return self.context.layout

    @property
    def command_line(self) -> str:
        """The command line that the request asks for."""
        return command_line.for_request(self.request, self.machine.command_line)

    @property
    def crash_parameters(self) -> str:
        """The further parameters of a kernel that gets another kernel's core headers; "" without these."""
        if self.elfcorehdr is None:
            return ""
        maps = [crash.memmap_parameters(self.memory_map)] if self.request.memmap_parameters else []
        return " ".join([f"elfcorehdr={self.elfcorehdr // KIB}K", *maps])

    def require_below_4g(self, what: str) -> None:
        """Raise PlacementError where no usable memory can be reached without paging."""
        if self.usable.intersect([BELOW_4G]):
            return
        raise PlacementError(
            f"{what} runs without paging at first, in memory below 4 GiB, but all that is free lies above",
            hint="reserve memory for it below 4 GiB: crashkernel=SIZE, without ,high"
            if self.request.purpose is Purpose.CRASH
            else "is --mem-min too high?",
        )


def prepare(arch: Arch, machine: Machine, request: Request, *, lowest: int = MIB) -> Preparation:
    """Find the memory that may be used, from `lowest` (physical) on. Raises PykexecError."""
    if request.purpose is Purpose.CRASH:
        return _prepare_crash(arch, machine, request)
    if request.preserve_context:
        return _prepare_jump(arch, machine, request, lowest)
    usable = free_memory(machine).intersect([Range(lowest, 1 << 64)]).intersect([request.within])
    context = Context.begin(arch, machine, request, usable)
    return Preparation(context, usable, machine.boot_memory_map)


def free_memory(machine: Machine) -> RangeSet:
    """Return the memory for a kernel that is booted now (physical).

    The firmware's map may promise memory that the running kernel has since taken for itself
    (efi_mem_reserve(): TPM event log, ESRT) or must not touch (mem=).
    """
    return machine.boot_memory_map.ram.intersect(machine.iomem.memory_map.ram)


def _prepare_jump(arch: Arch, machine: Machine, request: Request, lowest: int) -> Preparation:
    from pykexec.arch.x86 import jump

    memory = jump.divide_memory(machine, request.within)
    lent = RangeSet(memory.reserved)
    usable = lent.intersect([Range(lowest, 1 << 64)])
    context = Context.begin(arch, machine, request, usable)
    elfcorehdr, in_use = None, []
    if headers := jump.core_headers(arch, machine, memory):
        why = "describes what the running kernel keeps"
        elfcorehdr = context.place_core_headers(headers, why).start
        in_use.append(context.layout.range(ELFCOREHDR))
    memory_map = crash.memory_map_of(lent.minus(in_use), machine.iomem)
    return Preparation(context, usable, memory_map, None, elfcorehdr, lent)


def _prepare_crash(arch: Arch, machine: Machine, request: Request) -> Preparation:
    memory = crash.survey(machine)
    low = crash.low_memory(memory)
    usable = RangeSet([memory.load]).intersect([request.within])
    context = Context.begin(arch, machine, request, usable)
    backup, in_use = None, []
    if low:
        saved = crash.saved_range(low)
        why = f"purgatory saves low memory {saved} here"
        place = context.layout.place(_BACKUP, saved.size, why=why)
        context.layout.fill(_BACKUP, b"")
        in_use.append(context.layout.range(_BACKUP))
        backup = purgatory.Backup(saved.start, place, saved.size)
    saved_at = backup.destination if backup else None
    headers = crash.core_headers(arch, machine, memory, saved_at, request.core_header_bits)
    elfcorehdr = context.place_core_headers(headers).start
    in_use.append(context.layout.range(ELFCOREHDR))
    memory_map = crash.capture_memory_map(memory, machine.iomem, in_use)
    return Preparation(context, usable, memory_map, backup, elfcorehdr)


def place_purgatory(base: Preparation, entry: Entry) -> purgatory.Blob:
    """Reserve purgatory's room where it can enter a kernel that way.

    Raises PlacementError, PurgatoryError.
    """
    return base.context.place_purgatory(_REACH[entry])


def finish(
    base: Preparation,
    blob: purgatory.Blob,
    jump: Jump,
    *,
    line: str,
    image_format: str,
    jump_back_digits: int = 0,
    warnings: Sequence[str] = (),
    losses: Sequence[str] = (),
) -> LoadPlan:
    """Fill purgatory, which must come last, and return the plan. Raises PykexecError.

    At `jump_back_digits` (physical) purgatory writes the address for jumping back to the running kernel.
    """
    entry = base.context.fill_purgatory(
        blob,
        jump_to=jump.address,
        arguments=jump.arguments,
        console=console(base.machine, base.request, line),
        backup=base.backup,
        called=bool(jump_back_digits),
        jump_back_digits=jump_back_digits,
    )
    return base.context.finish(
        entry=entry,
        command_line=line,
        image_format=image_format,
        memory_map=base.memory_map.entries,
        segments=_segments(base),
        warnings=warnings,
        losses=losses,
    )


def _segments(base: Preparation) -> tuple[Segment, ...]:
    segments = base.layout.segments()
    if not base.lent:
        return segments
    from pykexec.arch.x86 import jump

    return tuple(sorted([*segments, *jump.rest(base.lent, segments)], key=lambda each: each.address))


def console(machine: Machine, request: Request, line: str) -> purgatory.Console:
    """Return purgatory's console, for a kernel with that command line. Raises UsageError."""
    wanted = request.console
    port = machine.console_for(line, wanted.port)
    if port is None or not port.io_port:
        if wanted.port is not None:
            raise UsageError(f"--serial={wanted.port} has no I/O port, and purgatory uses no other")
        port = _FIRST_PORT if wanted.serial else None
    if port is None:
        return purgatory.Console(vga=wanted.vga)
    divisor = _UART_CLOCK // wanted.baud if wanted.baud else 0
    return purgatory.Console(
        ConsoleKind.UART_8250_PORT, port.io_port, port.reg_shift, divisor, vga=wanted.vga
    )
