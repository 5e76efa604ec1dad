"""Which RAM a normal load may take, where /proc/iomem shows within it what has to stay."""

from pykexec.machine import Machine
from pykexec.memory import RangeSet

_MAY_GO = frozenset({"Kernel image", "Kernel code", "Kernel rodata", "Kernel data", "Kernel bss"})
"""Entries within System RAM that a new kernel may overwrite; all others are reserved for some purpose."""


def free_memory(machine: Machine) -> RangeSet:
    """Return RAM without what must stay: firmware's tables, and what devices go on writing to.

    The crash region must stay, too: once a kernel is loaded there, it is unmapped
    (arch_kexec_protect_crashkres()). The copy of the page tables with which a normal load is put into its
    place then lacks it.
    """
    reserved = (
        entry.range for entry in machine.iomem.entries if entry.depth > 0 and entry.name not in _MAY_GO
    )
    return machine.iomem.memory_map.ram.minus(reserved)
