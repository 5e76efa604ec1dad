"""Tell pykdump about powerpc: crashkernel=, and sections of memory."""

from __future__ import annotations

from pykexec.kdump.reservation.support import CrashkernelSupport
from pykexec.memory import MIB


def crashkernel(_: str, __: str) -> CrashkernelSupport:
    """Return what a kernel supports (arch/powerpc/kexec/core.c, arch_reserve_crashkernel())."""
    return CrashkernelSupport(knows_high=False)


def section_size(_: int) -> int:
    """Return the bytes of memory that get struct pages together (asm/sparsemem.h)."""
    return 16 * MIB
