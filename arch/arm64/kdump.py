"""What pykdump knows about arm64."""

from __future__ import annotations

import re

from pykexec.kdump.part import NEVER_LOGGED, Fedora, KdumpPart
from pykexec.kdump.reservation.support import DEFAULT_LOW, CrashkernelSupport, is_since
from pykexec.machine import Machine
from pykexec.machine.sysfs import read_text
from pykexec.memory import KIB, MIB

_HIGH_SINCE = (5, 19)
_LOW_DEFAULT_SINCE = (6, 2)
_CMA_SINCE = (7, 3)
# Seen with RHEL 9, openEuler and Ampere's kernels of 5.10 and 5.14. RPM packages have the architecture in
# the release. Fedora's have it, too, but take almost nothing from later kernels.
_BACKPORT = re.compile(r"(?!.*\.fc\d).*\.aarch64\b")


def _crashkernel(release: str, _: str) -> CrashkernelSupport:
    """Return what an arm64 kernel supports (arch/arm64/mm/init.c; since 6.7 kernel/crash_reserve.c)."""
    is_new = is_since(_LOW_DEFAULT_SINCE, release)
    knows_high = is_since(_HIGH_SINCE, release)
    is_backport = not knows_high and bool(_BACKPORT.match(release))
    return CrashkernelSupport(
        knows_high=knows_high or is_backport,
        is_backport=is_backport,
        honours_cma=is_since(_CMA_SINCE, release),
        falls_back_high=is_new,
        alignment=2 * MIB,  # CRASH_ALIGN (asm/crash_reserve.h)
        default_low=DEFAULT_LOW if is_new else 0,
    )


def is_graviton(machine: Machine) -> bool:
    """Return whether this is a processor of AWS, by the vendor that the firmware names."""
    vendors = (read_text(machine.root, f"sys/class/dmi/id/{name}_vendor") or "" for name in ("sys", "bios"))
    return any("Amazon" in vendor for vendor in vendors)


def _fedora_removes(machine: Machine) -> tuple[str, ...]:
    # irqpoll breaks hot-unplug of PCI devices on Graviton.
    return ("irqpoll",) if is_graviton(machine) else ()


def _section_size(page_size: int) -> int:
    return 512 * MIB if page_size == 64 * KIB else 128 * MIB


PART = KdumpPart(
    crashkernel=_crashkernel,
    has_low_memory=True,
    fedora=Fedora(
        append="irqpoll nr_cpus=1 reset_devices cgroup_disable=memory udev.children-max=2 panic=10"
        " swiotlb=noforce cma=0",
        crashkernel="2G-4G:256M,4G-64G:320M,64G-:576M",
        more_for_large_pages=100 * MIB,
    ),
    fedora_removes=_fedora_removes,
    encryption=NEVER_LOGGED,
    section_size=_section_size,
)
