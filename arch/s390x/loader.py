"""Plans for s390x kernels: they run at fixed addresses, and are told the rest in a parameter area."""

from __future__ import annotations

import os

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

_INITRD_LOWEST = 8 * MIB
"""kexec-tools' choice: behind any kernel, which moves an initrd that is where it unpacks itself to."""
_LOWCORE_END = 0x2000
"""purgatory/s390x/arch.c: of the region, the crashed kernel's lowcore gets the first bytes."""
_SHORT_PSW_END = 2 * GIB
"""What the PSW reaches that a normal load begins with (relocate_kernel.S)."""


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    file, wrapping = formats.unwrap(request.kernel)
    kernel = image.parse(file)
    types.require(kernel.path, request.format, image.TYPE, ARCH.formats)
    _require_no_updates(request)
    region = _region(machine) if request.purpose is Purpose.CRASH else None
    base = region.start if region else 0
    room = [Range(base + _LOWCORE_END, region.end)] if region else free_memory(machine)
    free = RangeSet(room).minus(memoryblocks.offline(machine))
    context = Context.begin(ARCH, machine, request, free)
    _place_kernel(context, kernel, base)
    lowest = align_up(max(_INITRD_LOWEST, kernel.data.nbytes), MIB)
    initrd = context.place_initrd(
        Range(base + lowest, ADDRESS_SPACE.end), Placement.LOWEST, "behind the kernel, where it looks for it"
    )
    line = command_line.for_request(request, machine.command_line)
    if what := line_overflow(line, kernel.line_size - 1, kernel.path):
        raise UsageError(what, hint=SHORTEN)
    told = Parameters(
        os.fsencode(line),
        initrd=(initrd.start - base, initrd.size) if initrd else (0, 0),
        old_memory=(region.start, region.size) if region else (0, 0),
    )
    context.layout.fill(KERNEL, bytes(image.with_parameters(kernel, told)))
    below = Range(base + _LOWCORE_END, base + image.START) if region else Range(0, _SHORT_PSW_END)
    blob = context.place_purgatory(within=below)
    entry = context.fill_purgatory(
        blob,
        jump_to=image.KDUMP_ENTRY if region else image.START,
        arguments=(region.start, region.size) if region else (),
        console=consoles.in_memory(machine, request, line, Console(ConsoleKind.FIRMWARE)),
    )
    return context.finish(
        entry=entry,
        command_line=line,
        image_format=", ".join(filter(None, (wrapping, "s390x image"))),
        memory_map=[TypedRange(Range(0, region.size), MemoryKind.RAM)]
        if region
        else machine.iomem.memory_map.entries,
        warnings=_warnings(machine),
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


def _warnings(machine: Machine) -> list[str]:
    if not secureipl.is_on(machine):
        return []
    return [
        "this machine was started by secure IPL: the running kernel may refuse kexec_load, which cannot pass"
        f" a signature on; {secureipl.REMEDY}"
    ]


PART = LoaderPart(plan)
