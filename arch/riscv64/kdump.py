"""What pykdump knows about riscv64."""

from __future__ import annotations

from pykexec.kdump.part import KdumpPart
from pykexec.kdump.reservation.support import DEFAULT_LOW, CrashkernelSupport, is_since
from pykexec.memory import MIB

_HIGH_SINCE = (6, 7)  # commit 39365395046f; before: one region, below 4 GiB if it fits there
_CMA_SINCE = (7, 3)


def _crashkernel(release: str, _: str) -> CrashkernelSupport:
    """Return what a riscv64 kernel supports (arch/riscv/mm/init.c; since 6.7 kernel/crash_reserve.c)."""
    knows_high = is_since(_HIGH_SINCE, release)
    return CrashkernelSupport(
        knows_high=knows_high,
        honours_cma=is_since(_CMA_SINCE, release),
        falls_back_high=True,
        alignment=2 * MIB,  # CRASH_ALIGN (asm/crash_reserve.h): PMD_SIZE
        default_low=DEFAULT_LOW if knows_high else 0,
    )


PART = KdumpPart(
    crashkernel=_crashkernel,
    has_low_memory=True,
    section_size=lambda _: 128 * MIB,
)
