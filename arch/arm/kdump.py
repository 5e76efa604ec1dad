"""What pykdump knows about arm."""

from __future__ import annotations

from pykexec.kdump.part import KdumpPart
from pykexec.kdump.reservation.support import CrashkernelSupport
from pykexec.memory import MIB


def _crashkernel(_: str, __: str) -> CrashkernelSupport:
    """Return what an arm kernel supports (arch/arm/kernel/setup.c, reserve_crashkernel())."""
    return CrashkernelSupport(
        knows_high=False,
        honours_cma=False,
        falls_back_high=False,
        alignment=MIB,  # of an offset; without one it takes a multiple of 128 MiB
        default_low=0,
    )


PART = KdumpPart(
    crashkernel=_crashkernel,
    cma=16 * MIB,  # CONFIG_CMA_SIZE_MBYTES of Debian's kernels
    swiotlb=0,  # arch/arm/mm/init.c, arch_mm_preinit(): for kernels with LPAE and memory above 4 GiB
)
