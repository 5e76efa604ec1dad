"""The memory of the machine that a plan is for: what segments lie in, and what lies beside them."""

from __future__ import annotations

from pykexec.memory import MemoryKind, MemoryMap, Range, TypedRange
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.machine import Machine


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Physical memory as the running kernel sees it, from /proc/iomem."""

    memory: MemoryMap = MemoryMap()
    """RAM, and what firmware keeps of it; what is not in it is no memory (a hole)."""
    reserved: tuple[Range, ...] = ()
    """The ranges that crashkernel= reserved, ascending. Only the last one takes segments."""
    kernel: Range | None = None
    """The running kernel's code and data; None where /proc/iomem does not tell."""

    @classmethod
    def of(cls, machine: Machine) -> Surroundings:
        """Return those of a machine. Raises MachineError."""
        iomem = machine.iomem
        ram = iomem.system_ram
        # What the kernel keeps of RAM for itself (arm64: "reserved" below "System RAM") is RAM all the same.
        kept = (
            TypedRange(each, kind)
            for kind in MemoryKind
            if kind is not MemoryKind.RAM
            for each in iomem.memory_map.of(kind).minus(ram)
        )
        memory = MemoryMap([*(TypedRange(each, MemoryKind.RAM) for each in ram), *kept])
        own = [each for name in _KERNEL for each in iomem.find(name)]
        kernel = Range(min(own).start, max(each.end for each in own)) if own else None
        return cls(memory, machine.crash_regions, kernel)


_KERNEL = ("Kernel code", "Kernel rodata", "Kernel data", "Kernel bss")
"""What /proc/iomem calls the running kernel's parts (kernel/resource.c, and each architecture's setup)."""
