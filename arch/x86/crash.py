"""The parts of an x86 load that only a crash needs: the capture kernel's memory map, saved low memory."""

from collections.abc import Sequence

from pykexec import elfcore
from pykexec.arch import Arch
from pykexec.booting import crash
from pykexec.booting.crash import CrashMemory
from pykexec.elfcore import MemoryPart
from pykexec.machine import Machine
from pykexec.machine.iomem import Iomem
from pykexec.memory import GIB, KIB, MemoryKind, MemoryMap, Range, RangeSet, TypedRange, align_down
from pykexec.names import Elf
from pykexec.values import replace

_LOW_MEMORY = Range(0, 0xA0000)  # the VGA window begins above
_ABOVE_4G = Range(4 * GIB, 1 << 64)
_PAGE = 4 * KIB
_RAM_GRANULE = KIB
"""The capture kernel's RAM is cut to whole KiB, the unit of memmap= and elfcorehdr=."""


def survey(machine: Machine) -> CrashMemory:
    """Return the memory to dump, without what must not be touched.

    Raises NoCrashMemoryError without crashkernel=.
    """
    memory = crash.survey(machine)
    # Reading from the graphics aperture would hang the capture kernel (arch/x86/kernel/aperture_64.c).
    return replace(memory, dumped=memory.dumped.minus(machine.iomem.find("GART")))


def low_memory(memory: CrashMemory) -> RangeSet:
    """Return conventional memory. The capture kernel uses it, so purgatory saves it first. May be empty."""
    return memory.dumped.intersect([_LOW_MEMORY])


def saved_range(low: RangeSet) -> Range:
    """Return what purgatory saves: all pieces of low memory and the gaps between them.

    `low` is not empty.
    """
    return Range(align_down(low.ranges[0].start, _PAGE), low.ranges[-1].end)


_NOT_TOLD = (MemoryKind.RAM, MemoryKind.SOFT_RESERVED)


def capture_memory_map(memory: CrashMemory, iomem: Iomem, in_use: Sequence[Range]) -> MemoryMap:
    """Return the e820 table for the capture kernel.

    Its RAM is the reservation, including CMA's part, and the saved low memory, without the segments it must
    not overwrite (`in_use`). What is not RAM stays as the crashed kernel saw it: ACPI tables, and the
    reserved ranges without which the PCI configuration space (MMCONFIG) is not trusted. Soft-reserved memory
    is left out: like the crashed kernel, it might take that for its own (drivers/dax/kmem.c).
    """
    usable = low_memory(memory).union([*memory.reserved, *memory.cma])
    return memory_map_of(usable.aligned_inwards(_RAM_GRANULE).minus(in_use), iomem)


def memory_map_of(ram: RangeSet, iomem: Iomem) -> MemoryMap:
    """Return the running kernel's memory map, but with that RAM and without soft-reserved memory."""
    others = (entry for entry in iomem.memory_map if entry.kind not in _NOT_TOLD)
    return MemoryMap([*(TypedRange(each, MemoryKind.RAM) for each in ram), *others])


_MEMMAP_SIGNS = {
    MemoryKind.RAM: "@",
    MemoryKind.ACPI_TABLES: "#",
    MemoryKind.ACPI_NVS: "#",
    MemoryKind.PERSISTENT_LEGACY: "!",
}
"""The kinds memmap= can spell (Documentation/admin-guide/kernel-parameters.txt); the rest is reserved."""


def memmap_parameters(memory_map: MemoryMap) -> str:
    """Return the map as kernel parameters, for a kernel that ignores the e820 table.

    Ranges grow to whole KiB.
    """
    words = ["memmap=exactmap"]
    for entry in memory_map:
        if entry.kind in _MEMMAP_SIGNS:
            whole = entry.range.aligned_outwards(KIB)
            sign = _MEMMAP_SIGNS[entry.kind]
            words.append(f"memmap={whole.size // KIB}K{sign}{whole.start // KIB}K")
    return " ".join(words)


def core_headers(
    arch: Arch, machine: Machine, memory: CrashMemory, low_saved_at: int | None, bits: int | None = None
) -> bytes:
    """Return the ELF core headers; `bits` is as for `encoding`.

    Raises MachineError when the virtual layout is not known.
    """
    low = low_memory(memory)
    parts = crash.linear_map(machine, replace(memory, dumped=low))
    if low and low_saved_at is not None:
        distance = low_saved_at - saved_range(low).start
        parts = [replace(part, saved_at=part.physical + distance) for part in parts]
    parts += crash.linear_map(machine, replace(memory, dumped=memory.dumped.minus(low)))
    return elfcore.build(
        encoding(arch, memory, bits),
        cpu_notes=machine.cpu_notes,
        vmcoreinfo=machine.vmcoreinfo,
        memory=[*kernel_text(arch, machine), *parts],
    )


def kernel_text(arch: Arch, machine: Machine) -> list[MemoryPart]:
    """Return the mapping that the kernel runs from, where that is not the linear map: on x86_64 alone.

    With 32 bits it is a part of that (arch/x86/include/asm/page_32_types.h). Raises MachineError.
    """
    return [crash.kernel_text(machine)] if arch.names.elf.bits == 64 else []


def encoding(arch: Arch, memory: CrashMemory, bits: int | None) -> Elf:
    """Return how core headers for that memory are written.

    x86_64's are of 64 bits. i386's kernels read both kinds: they are of as many `bits` as are asked for
    (--elf32-core-headers), else of 64 where there is memory above 4 GiB (PAE).
    """
    elf = arch.names.elf
    if elf.bits == 64:
        return elf
    needed = 64 if memory.dumped.intersect([_ABOVE_4G]) else 32
    return replace(elf, bits=bits or needed)
