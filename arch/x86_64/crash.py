"""What only a crash load on x86 needs: the capture kernel's memory map, and low memory saved."""

from collections.abc import Sequence
from dataclasses import replace

from elftools.elf.enums import ENUM_E_MACHINE

from pykexec import crash, elfcore
from pykexec.crash import CrashMemory
from pykexec.machine import Machine
from pykexec.machine.iomem import Iomem
from pykexec.memory import KIB, MemoryKind, MemoryMap, Range, RangeSet, TypedRange

_LOW_MEMORY_END = 0xA0000  # above it the VGA window begins
_RAM_GRANULE = KIB
"""The capture kernel's RAM is cut to whole KiB, as the units of memmap= and elfcorehdr= are."""


def survey(machine: Machine) -> CrashMemory:
    """Memory to dump, less what must not be touched. Raises NoCrashMemoryError when nothing was reserved."""
    memory = crash.survey(machine)
    # Reading from the graphics aperture would hang the capture kernel (arch/x86/kernel/aperture_64.c).
    return replace(memory, dumped=memory.dumped.minus(machine.iomem.find("GART")))


def low_memory(memory: CrashMemory) -> Range:
    """Conventional memory, which the capture kernel uses too: purgatory saves it first. May be empty."""
    return next((each for each in memory.dumped if each.end <= _LOW_MEMORY_END), Range(0, 0))


def capture_memory_map(memory: CrashMemory, iomem: Iomem, in_use: Sequence[Range]) -> MemoryMap:
    """The e820 table for the capture kernel.

    Its RAM is the reservation and the saved low memory, less the segments it must not overwrite (`in_use`).
    Everything that is not RAM stays as the crashed kernel saw it: ACPI tables, and the reserved ranges
    without which the PCI configuration space (MMCONFIG) is not trusted.
    """
    usable = RangeSet([low_memory(memory), *memory.reserved])
    ram = usable.aligned_inwards(_RAM_GRANULE).minus(in_use)
    others = (entry for entry in iomem.memory_map if entry.kind is not MemoryKind.RAM)
    return MemoryMap([*(TypedRange(each, MemoryKind.RAM) for each in ram), *others])


def core_headers(machine: Machine, memory: CrashMemory, low_saved_at: int | None) -> bytes:
    """The ELF core headers. Raises MachineError when the virtual layout cannot be told."""
    low = low_memory(memory)
    parts = [
        replace(part, saved_at=low_saved_at) if Range.sized(part.physical, part.size) == low else part
        for part in crash.linear_map(machine, memory)
    ]
    return elfcore.build(
        ENUM_E_MACHINE["EM_X86_64"],
        cpu_notes=machine.cpu_notes,
        vmcoreinfo=machine.vmcoreinfo,
        memory=[crash.kernel_text(machine), *parts],
    )
