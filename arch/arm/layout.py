"""Tell how the running kernel maps its memory, which no kernel of arm shows in /proc/kcore."""

from __future__ import annotations

from collections.abc import Sequence

from pykexec.arch.arm.addresses import LINEAR_END, PAGE_OFFSET, TEXT_WITHIN
from pykexec.booting.crash import CrashMemory
from pykexec.elfcore import MemoryPart
from pykexec.errors import MachineError
from pykexec.machine import Machine, kallsyms
from pykexec.memory import GIB, MIB, Range, align_down

_ADDRESSES = Range(0, 4 * GIB)
"""What an ELF file of 32 bits can describe; arm's kernels take no other (vmcore_elf64_check_arch())."""


def core_memory(
    machine: Machine, memory: CrashMemory, *, page_offset: int | None = None
) -> Sequence[MemoryPart]:
    """Return the dumped memory below 4 GiB as the crashed kernel had it mapped. Raises MachineError."""
    virtual = _page_offset(machine) if page_offset is None else page_offset
    if not 0 < virtual < LINEAR_END:
        raise MachineError(f"--page-offset: no kernel has its memory at {virtual:#x}")
    physical = min((each.start for each in machine.iomem.system_ram), default=0)
    mapped = Range(physical, physical + LINEAR_END - virtual)
    dumped = memory.dumped.intersect([_ADDRESSES])
    parts = [
        MemoryPart(each.start, each.start - physical + virtual, each.size)
        for each in dumped.intersect([mapped])
    ]
    return [*parts, *(MemoryPart(each.start, None, each.size) for each in dumped.minus([mapped]))]


def _page_offset(machine: Machine) -> int:
    text = kallsyms.text_start(machine.root)
    return PAGE_OFFSET if text is None else align_down(text, TEXT_WITHIN)


def warnings(machine: Machine) -> list[str]:
    """Return what a dump of this machine will lack."""
    above = machine.iomem.system_ram.minus([_ADDRESSES]).size
    if not above:
        return []
    return [
        f"the dump will lack the {above // MIB} MiB of memory above 4 GiB: arm's kernels read core headers"
        " of 32 bits only"
    ]
