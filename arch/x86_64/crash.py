"""What only a crash load needs: the memory to dump, the capture kernel's memory map, saved low memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from elftools.elf.enums import ENUM_E_MACHINE

from pykexec import elfcore
from pykexec.errors import MachineError, NoCrashMemoryError
from pykexec.machine import Iomem, Machine
from pykexec.memory import KIB, MemoryKind, MemoryMap, Range, RangeSet, TypedRange

_LOW_MEMORY_END = 0xA0000  # above it the VGA window begins
_RAM_GRANULE = KIB
"""The capture kernel's RAM is cut to whole KiB, as the units of memmap= and elfcorehdr= are."""


@dataclass(frozen=True, slots=True)
class CrashMemory:
    """The crashed kernel's memory as /proc/iomem tells it; all physical."""

    reserved: tuple[Range, ...]
    """What crashkernel= set aside, ascending: all of it is the capture kernel's RAM."""
    load: Range
    """The one reservation that takes segments (crashk_res): the highest (kernel/kexec_core.c)."""
    dumped: RangeSet
    """All System RAM that belongs to the crashed kernel."""
    low: Range
    """Conventional memory, which the capture kernel uses too: purgatory saves it first."""

    @property
    def free(self) -> RangeSet:
        """Where segments may go."""
        return RangeSet([self.load])


def survey(iomem: Iomem) -> CrashMemory:
    """Find out what there is. Raises NoCrashMemoryError when nothing was reserved."""
    reserved = iomem.crash_regions
    if not reserved:
        raise NoCrashMemoryError(
            'Memory for crashkernel is not reserved: /proc/iomem has no "Crash kernel" entry',
            hint="boot with crashkernel=SIZE on the kernel command line, for instance crashkernel=256M",
        )
    dumped = iomem.system_ram.minus(reserved).minus(iomem.find("GART"))
    low = next((each for each in dumped if each.end <= _LOW_MEMORY_END), Range(0, 0))
    return CrashMemory(reserved=reserved, load=reserved[-1], dumped=dumped, low=low)


def capture_memory_map(memory: CrashMemory, iomem: Iomem, in_use: Sequence[Range]) -> MemoryMap:
    """The e820 table for the capture kernel.

    Its RAM is the reservation and the saved low memory, less the segments it must not overwrite (`in_use`).
    Everything that is not RAM stays as the crashed kernel saw it: ACPI tables, and the reserved ranges
    without which the PCI configuration space (MMCONFIG) is not trusted.
    """
    ram = RangeSet([memory.low, *memory.reserved]).aligned_inwards(_RAM_GRANULE).minus(in_use)
    others = (entry for entry in iomem.memory_map if entry.kind is not MemoryKind.RAM)
    return MemoryMap([*(TypedRange(each, MemoryKind.RAM) for each in ram), *others])


def core_headers(machine: Machine, memory: CrashMemory, low_saved_at: int | None) -> bytes:
    """The ELF core headers. Raises MachineError when the virtual layout cannot be told."""
    return elfcore.build(
        ENUM_E_MACHINE["EM_X86_64"],
        cpu_notes=machine.cpu_notes,
        vmcoreinfo=machine.vmcoreinfo,
        memory=[_kernel_text(machine), *_linear_map(machine, memory, low_saved_at)],
    )


def _kernel_text(machine: Machine) -> elfcore.MemoryPart:
    code = machine.iomem.find("Kernel code")
    if len(code) != 1:
        raise MachineError(f'/proc/iomem has {len(code)} entries "Kernel code", a running kernel has one')
    text = machine.kcore.kernel_text(code[0].start)
    if text is None:
        raise MachineError(
            f"/proc/kcore has no mapping of the kernel's text at {code[0].start:#x} (physical)",
            hint="without it a dump could not be read; is /proc/kcore that of the running kernel?",
        )
    physical = text.physical if text.physical is not None else code[0].start
    return elfcore.MemoryPart(physical=physical, virtual=text.virtual, size=text.size)


def _linear_map(machine: Machine, memory: CrashMemory, low_saved_at: int | None) -> list[elfcore.MemoryPart]:
    parts = []
    for each in memory.dumped:
        virtual = machine.kcore.virtual_of(each.start)
        if virtual is None:
            raise MachineError(
                f"/proc/kcore has no linear mapping of System RAM at {each.start:#x} (physical)"
            )
        saved_at = low_saved_at if each == memory.low else None
        parts.append(elfcore.MemoryPart(each.start, virtual, each.size, saved_at))
    return parts
