"""Parts that the powerpc architectures share: ppc64le, ppc64 and ppc. No architecture by itself."""

from pykexec.arch import Arch
from pykexec.memory import KIB


def arch64(name: str) -> Arch:
    """Return the architecture of 64 bits that has this name: both differ in their byte order alone."""
    return Arch(
        name=name,
        formats=("elf-ppc64",),
        honours=frozenset({"device_tree"}),
        facts=(
            "proc/device-tree/**",
            "sys/devices/system/cpu/possible",
            "sys/kernel/fadump/enabled",
            "sys/kernel/fadump_enabled",
        ),
        page_sizes=(4 * KIB, 64 * KIB),
        cma=0,  # CONFIG_DMA_CMA is not set in Debian's kernels
        swiotlb=0,  # arch/powerpc/mm/mem.c, arch_mm_preinit(): for secure guests
        hotplug_rewrites=("elfcorehdr", "dtb"),  # arch_crash_handle_hotplug_event()
    )
