"""Plans for s390x kernels: they run at fixed addresses, and are told the rest in a parameter area."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pykexec import command_line, formats
from pykexec.arch.s390x import ARCH, image, memoryblocks, secureipl
from pykexec.arch.s390x.image import Kernel, Parameters
from pykexec.booting import consoles
from pykexec.booting import formats as types
from pykexec.booting.context import KERNEL, SHORTEN, Context, line_overflow
from pykexec.booting.part import LoaderPart
from pykexec.booting.ram import free_memory
from pykexec.errors import MachineError, NoCrashMemoryError, UsageError
from pykexec.machine import Machine
from pykexec.memory import GIB, MIB, MemoryKind, Placement, Range, RangeSet, TypedRange, align_up
from pykexec.parameters import name_of, parameters
from pykexec.plan import ADDRESS_SPACE, LoadPlan, Purpose, Request
from pykexec.purgatory import Console, ConsoleKind
from pykexec.values import dataclass

_INITRD_LOWEST = 8 * MIB
"""kexec-tools' choice: behind any kernel, which moves an initrd that is where it unpacks itself to."""
_LOWCORE_END = 0x2000
"""purgatory/s390x/arch.c: of the region, the crashed kernel's lowcore gets the first bytes."""
_SHORT_PSW_END = 2 * GIB
"""What the PSW reaches that a normal load begins with (relocate_kernel.S)."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a kernel is loaded to, which runs at 0 in either case; addresses are physical."""

    base: int
    """What its addresses are counted from until then."""
    free: RangeSet
    for_purgatory: Range
    entry: int
    """Where purgatory enters it, as it runs."""
    region: tuple[int, int]
    """The memory that is exchanged with the crashed kernel's: address and size; zeros in a boot."""
    memory: Sequence[TypedRange]
    """What it has."""


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    file, wrapping = formats.unwrap(request.kernel)
    kernel = image.parse(file)
    types.require(kernel.path, request.format, image.TYPE, ARCH.formats)
    place = _for_crash(machine, request) if request.purpose is Purpose.CRASH else _for_boot(machine)
    context = Context.begin(ARCH, machine, request, place.free)
    _place_kernel(context, kernel, place.base)
    initrd = _place_initrd(context, kernel, place.base)
    blob = context.place_purgatory(within=place.for_purgatory)
    line = _line(machine, request, kernel)
    told = Parameters(
        os.fsencode(line),
        initrd=(initrd.start - place.base, initrd.size) if initrd else (0, 0),
        old_memory=place.region,
    )
    context.layout.fill(KERNEL, image.with_parameters(kernel, told))
    entry = context.fill_purgatory(
        blob,
        jump_to=place.entry,
        arguments=place.region,
        console=consoles.in_memory(machine, request, line, Console(ConsoleKind.FIRMWARE)),
    )
    return context.finish(
        entry=entry,
        command_line=line,
        image_format=", ".join(filter(None, (wrapping, "s390x image"))),
        memory_map=place.memory,
        warnings=_warnings(machine),
    )


def _for_boot(machine: Machine) -> _Place:
    return _Place(
        base=0,
        free=free_memory(machine).minus(memoryblocks.offline(machine)),
        for_purgatory=Range(0, _SHORT_PSW_END),
        entry=image.START,
        region=(0, 0),
        memory=machine.iomem.memory_map.entries,
    )


def _for_crash(machine: Machine, request: Request) -> _Place:
    _require_no_updates(request)
    region = _region(machine)
    return _Place(
        base=region.start,
        free=RangeSet([Range(region.start + _LOWCORE_END, region.end)]),
        for_purgatory=Range.sized(region.start, image.START),
        entry=image.KDUMP_ENTRY,
        region=(region.start, region.size),
        memory=[TypedRange(Range(0, region.size), MemoryKind.RAM)],
    )


def _require_no_updates(request: Request) -> None:
    if request.hotplug and request.purpose is Purpose.CRASH:
        raise UsageError(
            "--hotplug: s390x's capture kernels find memory and CPUs themselves, as they are in the crash",
            hint="leave it out",
        )


def _region(machine: Machine) -> Range:
    """Return the memory that is reserved for the capture kernel. Raises NoCrashMemoryError, MachineError."""
    regions = machine.iomem.crash_regions
    if not regions:
        raise _nothing_reserved(machine)
    (region, *others) = regions
    if others or region.start < region.size or region.size < image.START:
        shown = ", ".join(map(str, regions))
        raise MachineError(
            f"/proc/iomem has a reservation that no s390x kernel makes: {shown}",
            hint="it is one range that begins no lower than its size: it is exchanged with memory from 0 on",
        )
    return region


def _nothing_reserved(machine: Machine) -> NoCrashMemoryError:
    what = 'Memory for crashkernel is not reserved: /proc/iomem has no "Crash kernel" entry'
    if "crashkernel" not in map(name_of, parameters(machine.command_line)):
        hint = "boot with crashkernel=SIZE on the kernel command line, for instance crashkernel=256M"
    else:
        hint = (
            f"the running kernel {machine.kernel_release} ignores crashkernel=, as one without"
            " CONFIG_CRASH_DUMP does (Debian's are built so); or dmesg says why"
        )
    return NoCrashMemoryError(what, hint=hint)


def _place_kernel(context: Context, kernel: Kernel, base: int) -> None:
    size = kernel.data.nbytes - image.START
    at = Range.sized(base + image.START, size).aligned_outwards(context.machine.page_size)
    why = "where it runs" if not base else "to be exchanged with what is where it runs"
    context.layout.place(KERNEL, size, within=at, why=why)


def _place_initrd(context: Context, kernel: Kernel, base: int) -> Range | None:
    start = base + align_up(max(_INITRD_LOWEST, kernel.data.nbytes), MIB)
    return context.place_initrd(Range(start, ADDRESS_SPACE.end), Placement.LOWEST, "behind the kernel")


def _line(machine: Machine, request: Request, kernel: Kernel) -> str:
    """Return the command line. Raises UsageError for one that is too long."""
    line = command_line.for_request(request, machine.command_line)
    if what := line_overflow(line, kernel.line_size - 1, kernel.path):
        raise UsageError(what, hint=SHORTEN)
    return line


def _warnings(machine: Machine) -> list[str]:
    if not secureipl.is_on(machine):
        return []
    return [
        "this machine was started by secure IPL: the running kernel may refuse kexec_load, which cannot pass"
        f" a signature on; {secureipl.REMEDY}"
    ]


PART = LoaderPart(plan)
