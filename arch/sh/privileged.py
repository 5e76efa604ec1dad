"""Where kernels have memory: in P1, cached, and not translated page by page (SH-4 software manual, 3.2)."""

from __future__ import annotations

import re

from pykexec.errors import MachineError
from pykexec.machine import Machine
from pykexec.memory import GIB, MIB, Range
from pykexec.values import dataclass

P1 = 0x80000000
_AREA = 512 * MIB
"""P1's size, and P2's behind it, which is the same memory without the cache."""
_PHYSICAL = _AREA - 1
_TOLD = re.compile(rb"^address sizes\s*: (\d+) bits physical$", re.M)  # arch/sh/kernel/cpu/proc.c


@dataclass(frozen=True, slots=True)
class Window:
    """Where the running kernel sees memory, and a kernel of its kind does."""

    bits: int
    """Of a physical address: 29, or 32 (CONFIG_PMB)."""
    memory: Range
    """The physical memory in it."""

    @property
    def seen_at(self) -> int:
        """Where physical address 0 is, or would be."""
        return P1 - self.memory.start

    def physical(self, virtual: int) -> int:
        """Return where a kernel's address is in memory."""
        return virtual & _PHYSICAL if self.bits == 29 else virtual - self.seen_at

    def virtual(self, physical: int) -> int:
        """Return where a kernel sees that memory."""
        return physical + self.seen_at


def window(machine: Machine) -> Window:
    """Return the running kernel's. Raises MachineError where memory is not as it says."""
    told = _TOLD.search(machine.read("proc/cpuinfo") or b"")
    ram = machine.iomem.system_ram
    if told is not None and told[1] == b"32":
        start = min((each.start for each in ram), default=0)  # asm/page.h: __MEMORY_START
        return Window(32, Range(start, min(start + 2 * _AREA, 4 * GIB)))
    found = Window(29, Range(0, _AREA))
    if beyond := ram.minus([found.memory]).ranges:
        raise MachineError(
            f"/proc/iomem has System RAM at {beyond[0]}, but /proc/cpuinfo no address sizes of 32 bits:"
            " where the kernel has that memory is not known"
        )
    return found
