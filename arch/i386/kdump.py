"""What pykdump knows about i386."""

from __future__ import annotations

from pykexec.arch.x86.kdump import SUSE_REMOVES, alignment, boot_cpu
from pykexec.kdump.part import Fedora, KdumpPart
from pykexec.kdump.reservation.support import CrashkernelSupport


def _crashkernel(release: str, _: str) -> CrashkernelSupport:
    # CRASH_ADDR_HIGH_MAX is not above 4 GiB (arch/x86/include/asm/crash_reserve.h).
    return CrashkernelSupport(falls_back_high=False, alignment=alignment(release))


PART = KdumpPart(
    crashkernel=_crashkernel,
    fedora=Fedora(
        append="irqpoll nr_cpus=1 reset_devices numa=off udev.children-max=2 panic=10"
        " transparent_hugepage=never cma=0"
    ),
    suse_removes=SUSE_REMOVES,
    boot_cpu=boot_cpu,
)
