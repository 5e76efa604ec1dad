"""What pykdump knows about x86_64."""

from __future__ import annotations

from pykexec.arch.x86.kdump import SUSE_REMOVES, alignment, boot_cpu
from pykexec.booting.devicememory import swiotlb_size
from pykexec.kdump.part import Fedora, KdumpPart
from pykexec.kdump.reservation.support import CMA_SINCE, CrashkernelSupport, is_since
from pykexec.memory import MIB

_FALLS_BACK_SINCE = (5, 2)
# arch/x86/include/asm/crash_reserve.h: max(swiotlb + 8 MiB, 256 MiB)
_LOW_LEAST = 256 * MIB
_LOW_BESIDES_SWIOTLB = 8 * MIB


def _crashkernel(release: str, command_line: str) -> CrashkernelSupport:
    """Return what an x86_64 kernel supports (arch/x86/kernel/setup.c; since 6.7 kernel/crash_reserve.c)."""
    return CrashkernelSupport(
        knows_high=True,
        honours_cma=is_since(CMA_SINCE, release),
        falls_back_high=is_since(_FALLS_BACK_SINCE, release),
        alignment=alignment(release),
        default_low=max(swiotlb_size(command_line) + _LOW_BESIDES_SWIOTLB, _LOW_LEAST),
    )


PART = KdumpPart(
    crashkernel=_crashkernel,
    has_low_memory=True,
    fedora=Fedora(
        append="irqpoll nr_cpus=1 reset_devices cgroup_disable=memory mce=off numa=off udev.children-max=2"
        " panic=10 acpi_no_memhotplug transparent_hugepage=never nokaslr hest_disable cma=0"
        " pcie_ports=compat",
        crashkernel="2G-64G:256M,64G-:512M",
        more_for_encryption=64 * MIB,
    ),
    suse_removes=SUSE_REMOVES,
    boot_cpu=boot_cpu,
    # mm/mem_encrypt.c, arch/x86/mm/mem_encrypt.c: print_mem_encrypt_feature_info()
    encryption=r"Memory Encryption Features active:? ?AMD (?:SME|SEV)",
    section_size=lambda _: 128 * MIB,
)
