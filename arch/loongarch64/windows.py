"""The windows in which kernels have all physical memory: the highest bits of addresses (asm/addrspace.h)."""

from pykexec.memory import Range

UNCACHED, CACHED, _WRITE_COMBINING = 0x8 << 60, 0x9 << 60, 0xA << 60
_PHYSICAL = (1 << 48) - 1
REACH = Range(0, _PHYSICAL + 1)
"""What of memory is in them."""


def physical(virtual: int) -> int:
    """Return where that is in memory; physical addresses stay as they are."""
    return virtual & _PHYSICAL


def covers(virtual: int) -> bool:
    """Return whether that address is in one of them."""
    return virtual & ~_PHYSICAL in (UNCACHED, CACHED, _WRITE_COMBINING)
