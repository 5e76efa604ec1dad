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
)
