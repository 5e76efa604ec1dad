"""Plans for sh kernels: they run where they are linked to be, and are told by the page before their first
instruction."""

from __future__ import annotations

from collections.abc import Sequence

from pykexec import command_line, elfcore, formats
from pykexec.arch.sh import ARCH, image, privileged, zeropage
from pykexec.arch.sh.image import Built, Kernel
from pykexec.arch.sh.privileged import Window
from pykexec.booting import consoles, crash
from pykexec.booting import formats as types
from pykexec.booting.consoles import Drivers
from pykexec.booting.context import KERNEL, SHORTEN, Context, line_overflow
from pykexec.booting.crash import CrashMemory
from pykexec.booting.part import LoaderPart
from pykexec.booting.ram import free_memory
from pykexec.elfcore import MemoryPart
from pykexec.errors import ImageError, MachineError, PlacementError, UsageError
from pykexec.machine import Machine
from pykexec.machine.serial import Registers
from pykexec.memory import KIB, MemoryKind, Placement, Range, RangeSet, TypedRange
from pykexec.plan import ADDRESS_SPACE, LoadPlan, Purpose, Request
from pykexec.purgatory import ConsoleKind
from pykexec.values import replace

_ZERO_PAGE = "zero page"
_CPUS = ("sh4", "sh4a", "sh4al-dsp")
"""What uname says where purgatory's code runs."""
_OF_A_CAPTURE = ("mem",)
"""What a capture kernel was given for its own load."""
_DRIVERS = Drivers({Registers.SCIF: ConsoleKind.SCIF}, "a SCIF")


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    if machine.uname_machine not in _CPUS:
        raise MachineError(f"no loader for machine type {machine.uname_machine}: purgatory needs an SH-4")
    file, wrapping = formats.unwrap(request.kernel)
    kernel = image.parse(file)
    types.require(kernel.path, request.format, _type(request, wrapping, kernel), ARCH.formats)
    window = privileged.window(machine)
    _require_same_addresses(kernel, window)
    memory = crash.survey(machine) if request.purpose is Purpose.CRASH else None
    room = RangeSet([memory.load]) if memory else free_memory(machine)
    context = Context.begin(ARCH, machine, request, room.intersect([window.memory]))
    _place_kernel(context, kernel, window, memory)
    headers = context.place_core_headers(_core_headers(machine, memory, window)) if memory else None
    initrd = context.place_initrd(ADDRESS_SPACE, Placement.HIGHEST, "far above the kernel")
    line = _line(machine, request, headers, memory)
    if what := line_overflow(line, image.LINE_LIMIT, kernel.path):
        raise UsageError(what, hint=SHORTEN)
    built = kernel.built
    start = _memory_start(machine, memory) if built.memory_start is None else built.memory_start
    if initrd is not None and initrd.start < start:
        raise ImageError(f"{kernel.path}: a kernel for memory from {start:#x} on (CONFIG_MEMORY_START)")
    _fill_kernel(context, kernel, line, initrd, start)
    blob = context.place_purgatory()
    entry = context.fill_purgatory(
        blob,
        jump_to=kernel.entry,
        arguments=(),
        console=consoles.in_memory(machine, request, line, drivers=_DRIVERS),
        seen_at=window.seen_at,
    )
    return context.finish(
        entry=entry,
        command_line=line,
        image_format=", ".join(filter(None, (wrapping, kernel.description))),
        memory_map=_memory_map(machine, memory),
        warnings=_warnings(built, memory),
    )


def _type(request: Request, wrapping: str, kernel: Kernel) -> str:
    """Return the kernel's type; a uImage is a type of its own."""
    layers = ", ".join(filter(None, (request.container, wrapping))).split(", ")
    return image.UIMAGE_TYPE if "uImage" in layers else kernel.type


def _require_same_addresses(kernel: Kernel, window: Window) -> None:
    """Raise ImageError for a kernel that has memory elsewhere in P1 than the running one."""
    if kernel.bits != window.bits:
        raise ImageError(
            f"{kernel.path}: a kernel with physical addresses of {kernel.bits} bits (CONFIG_PMB), and the"
            f" running one with {window.bits}",
            hint="load a kernel that is built as the running one",
        )


def _memory_start(machine: Machine, memory: CrashMemory | None) -> int:
    """Return where a kernel for this purpose should take memory to begin."""
    if memory is not None:
        return memory.load.start
    return min((each.start for each in machine.iomem.system_ram), default=0)


def _place_kernel(context: Context, kernel: Kernel, window: Window, memory: CrashMemory | None) -> None:
    """Place it where it is linked to be, and before a zImage the page by which it is told.

    Raises ImageError where that is not to be had.
    """
    layout = context.layout
    first = window.physical(kernel.memory.start)
    place = Range.sized(first, kernel.memory.size)
    try:
        layout.place(KERNEL, place.size, within=_pages(place, context), why="where it is linked to be")
        if not kernel.has_zero_page:
            _place_zero_page(context, first)
    except PlacementError as error:
        raise _linked_elsewhere(kernel, place, memory) from error
    layout.shrink(KERNEL, window.physical(kernel.address) - first)


def _pages(place: Range, context: Context) -> Range:
    return place.aligned_outwards(context.machine.page_size)


def _place_zero_page(context: Context, end: int) -> None:
    """Place as much as the page before `end` may have: the kernel in a zImage does not tell its pages' size.

    Raises PlacementError.
    """
    failure = None
    for size in zeropage.SIZES:
        before = Range(max(end - size, 0), end)
        try:
            context.layout.place(
                _ZERO_PAGE, size, within=before, why="the kernel's parameters, in the page before it"
            )
        except PlacementError as error:
            failure = failure or error
        else:
            return
    assert failure is not None
    raise failure


def _linked_elsewhere(kernel: Kernel, place: Range, memory: CrashMemory | None) -> ImageError:
    """Return the error for a kernel that cannot be where it is linked to be."""
    if memory is None:
        return ImageError(
            f"{kernel.path}: linked to be at {place}, where this machine has no free memory",
            hint="load a kernel that is built for it (CONFIG_MEMORY_START, CONFIG_PHYSICAL_START)",
        )
    region = memory.load
    what = f"{kernel.path}: linked to be at {place}, and a crash kernel's memory is {region}"
    if region.start < place.start < region.end:
        return ImageError(what, hint=f"reserve more: crashkernel=SIZE@{region.start:#x}")
    return ImageError(
        what,
        hint=f"build one with CONFIG_PHYSICAL_START and CONFIG_MEMORY_START {region.start:#x}, and"
        f" CONFIG_MEMORY_SIZE {region.size:#x}",
    )


def _fill_kernel(context: Context, kernel: Kernel, line: str, initrd: Range | None, start: int) -> None:
    """Fill in the kernel and what it is told; it counts memory from `start` on."""
    data = kernel.data
    if kernel.has_zero_page:
        data = memoryview(bytearray(data))
        zeropage.fill(data, line, initrd, start)
    else:
        page = zeropage.new(line, initrd, start, kernel.bits)
        pages = context.layout.range(_ZERO_PAGE).size // len(page)
        context.layout.fill(_ZERO_PAGE, page * pages)
    context.layout.fill(KERNEL, data)


def _core_headers(machine: Machine, memory: CrashMemory, window: Window) -> bytes:
    if lost := memory.dumped.minus([window.memory]).ranges:
        raise MachineError(f"the kernel has no addresses for its memory at {lost[0]}")
    return elfcore.build(
        ARCH.names.elf,
        cpu_notes=machine.cpu_notes,
        vmcoreinfo=machine.vmcoreinfo,
        memory=[MemoryPart(each.start, window.virtual(each.start), each.size) for each in memory.dumped],
    )


def _line(machine: Machine, request: Request, headers: Range | None, memory: CrashMemory | None) -> str:
    """Return the command line, as in the C tool the running kernel's where no other is asked for.

    Raises UsageError.
    """
    running = machine.command_line
    if "elfcorehdr" in map(command_line.name_of, command_line.parameters(running)):
        running = command_line.without(running, _OF_A_CAPTURE)
    asked = request if request.append is not None else replace(request, reuse_command_line=True)
    words = [command_line.for_request(asked, running)]
    if headers is not None and memory is not None:
        # What lies behind the headers is no more the kernel's.
        words.append(f"elfcorehdr={headers.start // KIB}K mem={(headers.start - memory.load.start) // KIB}K")
    return " ".join(filter(None, words))


def _memory_map(machine: Machine, memory: CrashMemory | None) -> Sequence[TypedRange]:
    if memory is None:
        return machine.iomem.memory_map.entries
    return [TypedRange(each, MemoryKind.RAM) for each in memory.reserved]


def _warnings(built: Built, memory: CrashMemory | None) -> list[str]:
    """Return what is known against a kernel that is so built."""
    found = []
    if built.ignores_line:
        found.append("the kernel takes no command line but its own (CONFIG_CMDLINE_OVERWRITE)")
    start = built.memory_start
    if memory is not None and start not in (None, memory.load.start):
        found.append(
            f"the kernel takes memory to begin at {start:#x} (CONFIG_MEMORY_START), and its own at"
            f" {memory.load.start:#x}: it will use the crashed kernel's, and there will be no dump"
        )
    return found


PART = LoaderPart(plan)
