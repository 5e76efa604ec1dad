"""What pykdump knows about loongarch64."""

from __future__ import annotations

from pykexec.kdump.part import KdumpPart
from pykexec.kdump.reservation.support import DEFAULT_LOW, CrashkernelSupport, is_since
from pykexec.memory import MIB

_HIGH_SINCE = (6, 8)  # since then with kernel/crash_reserve.c


def _crashkernel(release: str, _: str) -> CrashkernelSupport:
    if not is_since(_HIGH_SINCE, release):
        return CrashkernelSupport(knows_high=False)
    return CrashkernelSupport(
        knows_high=True,
        falls_back_high=True,
        alignment=2 * MIB,  # CRASH_ALIGN (asm/crash_reserve.h)
        default_low=DEFAULT_LOW,
    )


PART = KdumpPart(
    crashkernel=_crashkernel,
    has_low_memory=True,
    section_size=lambda _: 512 * MIB,
)
