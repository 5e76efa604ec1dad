"""What pykdump knows about sh."""

from __future__ import annotations

from pykexec.kdump.part import KdumpPart
from pykexec.kdump.reservation.support import CrashkernelSupport
from pykexec.memory import KIB


def _crashkernel(_: str, __: str) -> CrashkernelSupport:
    """Return what an sh kernel supports (arch/sh/kernel/machine_kexec.c, reserve_crashkernel())."""
    return CrashkernelSupport(
        knows_high=False,
        honours_cma=False,
        falls_back_high=False,
        alignment=4 * KIB,
        default_low=0,
    )


PART = KdumpPart(
    crashkernel=_crashkernel,
)
