"""ppc64: POWER of 64 bits, big-endian. What it shares with the other byte order is in arch/powerpc."""

from pykexec.arch import Arch
from pykexec.memory import KIB

ARCH = Arch(
    name="ppc64",
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
