"""Start bzImages through their 16-bit entry: their setup code runs first, and asks the BIOS for facts.

Numbers without a source are from Documentation/arch/x86/boot.rst, "Sample Boot Configuration" and "Running
the Kernel".
"""

import os

from pykexec.arch import Arch
from pykexec.arch.x86 import layouts, linux, preparation
from pykexec.arch.x86.kernel import Entry, LinuxKernel
from pykexec.arch.x86.preparation import LOW_MEMORY
from pykexec.booting.context import KERNEL
from pykexec.errors import ImageError, UsageError
from pykexec.machine import Machine
from pykexec.memory import KIB, Placement, Range
from pykexec.plan import LoadPlan, Purpose, Request

_SETUP = "setup"
_SIZE = 64 * KIB
"""The size of a segment: setup code, heap and stack, then the command line."""
_HEAP_END = 0xE000
_SETUP_END_MAX = 0x8000
"""Legacy kernels expect their stack and heap above this."""
_CAN_USE_HEAP = 1 << 7
_ENTRY_SEGMENT = 0x20
"""The entry point is so many paragraphs after the setup code's first byte."""
_WITH_COMMAND_LINE_POINTER = 0x0202


def plan(arch: Arch, machine: Machine, request: Request, kernel: LinuxKernel) -> LoadPlan:
    """Return a plan to start that kernel in real mode. Raises PykexecError."""
    _refuse(machine, request, kernel)
    base = preparation.prepare(arch, machine, request, lowest=LOW_MEMORY.start)
    base.require_below_4g(f"{kernel.path}, entered through its 16-bit entry,")
    layout = base.layout
    blob = preparation.place_purgatory(base, kernel.entry)
    setup = layout.place(
        _SETUP,
        _SIZE,
        within=LOW_MEMORY,
        placement=Placement.LOWEST,
        why="setup code with its heap, stack and command line, below 640 KiB",
    )
    linux.place_kernel(layout, kernel)
    initrd = linux.place_initrd(base, kernel)
    line = linux.checked_command_line(base.command_line, kernel)
    layout.fill(_SETUP, _setup_segment(kernel, setup, layout.range(KERNEL).start, initrd, line))
    segment = setup >> 4
    return preparation.finish(
        base,
        blob,
        preparation.Jump(far_pointer(segment + _ENTRY_SEGMENT, 0), Entry.REAL, rsi=segment, rbx=_HEAP_END),
        line=line,
        image_format=kernel.description,
    )


def far_pointer(segment: int, offset: int) -> int:
    """Return a far pointer as a far return takes it from the stack."""
    return segment << 16 | offset


def _refuse(machine: Machine, request: Request, kernel: LinuxKernel) -> None:
    option = "--real-mode"
    if request.purpose is Purpose.CRASH:
        raise UsageError(
            f"{option}: Can't use bzImage for crash dump purposes with real mode entry",
            hint="the BIOS would give it all of memory; leave it out",
        )
    if request.preserve_context:
        raise UsageError(f"{option}: the BIOS would give the new kernel memory that is not lent to it")
    if machine.efi is not None:
        raise UsageError(f"{option}: this machine was started by EFI: there is no BIOS to ask")
    if kernel.protocol < _WITH_COMMAND_LINE_POINTER:
        raise ImageError(f"{kernel.path}: boot protocol 2.02 is the oldest for {option}")
    if kernel.setup.nbytes > _SETUP_END_MAX:
        raise ImageError(
            f"{kernel.path}: {kernel.setup.nbytes} bytes of setup code, {_SETUP_END_MAX} at most"
        )


def _setup_segment(kernel: LinuxKernel, address: int, start: int, initrd: Range | None, line: str) -> bytes:
    """Return setup code and command line; `address` is the segment's, `start` the kernel's (physical)."""
    header = layouts.SETUP_HEADER.parse(kernel.setup_header)
    header.type_of_loader = layouts.KEXEC_LOADER_ID
    header.loadflags |= _CAN_USE_HEAP
    header.heap_end_ptr = _HEAP_END - 0x200
    header.code32_start = start
    header.cmd_line_ptr = address + _HEAP_END
    if initrd:
        header.ramdisk_image, header.ramdisk_size = initrd.start, initrd.size
    segment = bytearray(_SIZE)
    segment[: kernel.setup.nbytes] = kernel.setup
    # This kernel's header ends where the jump at 0x200 lands; there its code begins.
    end = 0x202 + kernel.setup[0x201]
    built = layouts.SETUP_HEADER.build(header)[: end - layouts.SETUP_HEADER_OFFSET]
    segment[layouts.SETUP_HEADER_OFFSET : layouts.SETUP_HEADER_OFFSET + len(built)] = built
    text = os.fsencode(line) + b"\0"
    segment[_HEAP_END : _HEAP_END + len(text)] = text
    return bytes(segment)
