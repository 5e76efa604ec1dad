"""Plans for loongarch64 kernels: they boot with a command line and EFI's tables, which are handed on."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pykexec import command_line, elfcore, formats
from pykexec.arch.loongarch64 import ARCH, acpi, firmware, image
from pykexec.arch.loongarch64.image import Kernel
from pykexec.arch.loongarch64.windows import CACHED, REACH, UNCACHED
from pykexec.booting import consoles, crash
from pykexec.booting import formats as types
from pykexec.booting.context import KERNEL, SHORTEN, Context, line_overflow
from pykexec.booting.crash import CrashMemory
from pykexec.booting.part import LoaderPart
from pykexec.booting.ram import free_memory
from pykexec.elfcore import MemoryPart
from pykexec.errors import UsageError
from pykexec.machine import Machine, kcore
from pykexec.memory import KIB, MIB, MemoryKind, Placement, Range, RangeSet, TypedRange, align_up
from pykexec.plan import ADDRESS_SPACE, LoadPlan, Purpose, Request
from pykexec.values import replace

_CMDLINE = "cmdline"
_PREFIX = "kexec "
"""The kernel takes the segment that begins so for the command line (machine_kexec_prepare())."""
_OF_THIS_LOAD = ("kexec", "kexec_file", "initrd")
_OF_A_CAPTURE = ("mem",)
"""What in the running kernel's command line came with its own load; the second in a capture kernel's."""

_ALIGNMENT = 2 * MIB
_IMAGE_ALIGNMENT = 64 * KIB  # vmlinux.lds.S, PECOFF_SEGMENT_ALIGN
_TOP = 2 * MIB
"""What a new kernel may have taken at the end of memory, for an early console for one, before it reads where
its initrd and its core headers are. Seen with Linux 7.2: both were lost."""
_RESET_BY_REGISTER = 1 << 8
"""purgatory/loongarch64/arch.c"""


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return a plan for that request on that machine. Raises PykexecError."""
    file, wrapping = formats.unwrap(request.kernel)
    kernel = image.parse(file)
    types.require(kernel.path, request.format, _type(request, wrapping, kernel), ARCH.formats)
    memory = crash.survey(machine) if request.purpose is Purpose.CRASH else None
    ram = RangeSet([memory.load]) if memory else _free_memory(machine)
    room = _without_top(ram.intersect([REACH]))
    context = Context.begin(ARCH, machine, request, room)
    layout = context.layout
    _place_kernel(context, kernel, room)
    headers = context.place_core_headers(_core_headers(machine, memory)) if memory else None
    initrd = context.place_initrd(
        ADDRESS_SPACE, Placement.HIGHEST, "far above the kernel, which KASLR moves up"
    )
    line = _line(machine, request, initrd, headers, memory)
    _place_line(context, kernel, line)
    blob = context.place_purgatory()
    start, reset = layout.range(KERNEL).start, acpi.reset_register(machine)
    console = consoles.in_memory(machine, request, line)
    entry = context.fill_purgatory(
        blob,
        jump_to=start + kernel.entry,
        arguments=(layout.range(_CMDLINE).start, UNCACHED | reset.address if reset else 0),
        console=replace(console, base=UNCACHED | console.base) if console.base else console,
        reset=_RESET_BY_REGISTER | reset.value if reset else 0,
    )
    return context.finish(
        entry=entry,
        command_line=line,
        image_format=", ".join(filter(None, (wrapping, kernel.description))),
        memory_map=_memory_map(machine, memory),
        warnings=_warnings(machine),
    )


def _type(request: Request, wrapping: str, kernel: Kernel) -> str:
    """Return the kernel's type; EFI zboot is a type of its own."""
    layers = ", ".join(filter(None, (request.container, wrapping))).split(", ")
    return image.ZBOOT_TYPE if "EFI zboot" in layers else kernel.type


def _free_memory(machine: Machine) -> RangeSet:
    """Return RAM without what must stay, such as the first 2 MiB, where the kernel puts its own code for
    the jump (KEXEC_CONTROL_CODE in machine_kexec.c).

    The running kernel's own image may go, with the end of its last 64 KiB, which it shows as reserved.
    """
    free = free_memory(machine)
    code, bss = (machine.iomem.find(f"Kernel {part}") for part in ("code", "bss"))
    if len(code) == len(bss) == 1 and code[0].start < bss[0].end:
        own = Range(code[0].start, align_up(bss[0].end, _IMAGE_ALIGNMENT))
        free = free.union(machine.iomem.system_ram.intersect([own]))
    return free.minus([Range(0, 2 * MIB)])


def _without_top(room: RangeSet) -> RangeSet:
    end = max((each.end for each in room), default=0)
    return room.minus([Range(max(end - _TOP, 0), end)])


def _place_kernel(context: Context, kernel: Kernel, room: RangeSet) -> None:
    """Place it where it is linked to be; for a crash, and where that is not free, anywhere if it relocates
    itself. Raises PlacementError."""
    link = Range.sized(kernel.link_address, kernel.memory_size).aligned_outwards(context.machine.page_size)
    is_free = not context.is_crash and room.intersect([context.request.within]).covers(link)
    if is_free or kernel.is_relocatable is False:
        within, alignment, why = link, _IMAGE_ALIGNMENT, "where it is linked to be"
    else:
        within, alignment = ADDRESS_SPACE, _ALIGNMENT
        why = f"at a {_ALIGNMENT // MIB} MiB boundary; it relocates itself"
    size, lowest = kernel.memory_size, Placement.LOWEST
    context.layout.place(KERNEL, size, alignment=alignment, within=within, placement=lowest, why=why)
    context.layout.fill(KERNEL, kernel.data)


def _core_headers(machine: Machine, memory: CrashMemory) -> bytes:
    return elfcore.build(
        ARCH.names.elf,
        cpu_notes=machine.cpu_notes,
        vmcoreinfo=machine.vmcoreinfo,
        memory=_linear_map(machine, memory),
    )


def _linear_map(machine: Machine, memory: CrashMemory) -> Sequence[MemoryPart]:
    """Return the dumped memory as the kernel, which itself runs there, has it mapped.

    Without /proc/kcore that is the window of all kernels. Raises MachineError.
    """
    file = machine.root.open(kcore.PATH)
    if file is None:
        return [MemoryPart(each.start, CACHED | each.start, each.size) for each in memory.dumped]
    file.close()
    return crash.linear_map(machine, memory)


def _line(
    machine: Machine,
    request: Request,
    initrd: Range | None,
    headers: Range | None,
    memory: CrashMemory | None,
) -> str:
    """Return the command line with what the new kernel is told by it. Raises UsageError."""
    running = machine.command_line
    is_capture = "elfcorehdr" in map(command_line.name_of, command_line.parameters(running))
    names = (*_OF_THIS_LOAD, *_OF_A_CAPTURE) if is_capture else _OF_THIS_LOAD
    words = [command_line.for_request(request, command_line.without(running, names))]
    if initrd is not None:
        words.append(f"initrd={initrd.start},{initrd.size}")
    if headers is not None and memory is not None:
        # With its size: without, the kernel keeps all memory behind it.
        words.append(f"elfcorehdr={_kib(Range(headers.start, align_up(headers.end, KIB)))}")
        words += [f"mem={_kib(each)}" for each in _usable(memory)]
    return _PREFIX + " ".join(filter(None, words))


def _kib(place: Range) -> str:
    return f"{place.size // KIB}K@{place.start // KIB}K"


def _usable(memory: CrashMemory) -> Sequence[Range]:
    return sorted([*memory.reserved, *memory.cma])


def _place_line(context: Context, kernel: Kernel, line: str) -> None:
    """Place the command line, as long as a running kernel may copy it.

    Raises UsageError for one that either kernel would cut.
    """
    limits = {
        kernel.path: kernel.facts.line_limit or 0,
        "the running kernel": image.line_size(context.machine.kernel_release) - 1,
    }
    for whose, limit in limits.items():
        if what := line_overflow(line, limit, whose):
            raise UsageError(what, hint=SHORTEN)
    context.layout.place(_CMDLINE, image.LINE_SIZE, why="the command line, which the running kernel copies")
    context.layout.fill(_CMDLINE, os.fsencode(line).ljust(image.LINE_SIZE, b"\0"))


def _memory_map(machine: Machine, memory: CrashMemory | None) -> Sequence[TypedRange]:
    if memory is None:
        return machine.iomem.memory_map.entries
    return [TypedRange(each, MemoryKind.RAM) for each in _usable(memory)]


def _warnings(machine: Machine) -> list[str]:
    if firmware.is_uefi(machine):
        return []
    return [
        "this machine was started without UEFI: if its device tree lies in the first 2 MiB of memory, as"
        " with QEMU's -kernel and no firmware, the running kernel overwrites it before the jump, and the new"
        " one does not start"
    ]


PART = LoaderPart(plan)
