"""arm: zImages and the boot protocol of Documentation/arch/arm/booting.rst."""

from pykexec.arch import Arch
from pykexec.memory import MIB

ARCH = Arch(
    name="arm",
    formats=("zImage", "uImage", "vmlinux", "uki", "fit"),
    honours=frozenset({"device_tree", "atags", "image_size", "page_offset"}),
    facts=("sys/firmware/fdt", "proc/device-tree/**", "proc/atags", "proc/kallsyms", "boot/config-*"),
    # A segment's place is a word, also of kernels with LPAE.
    address_end=1 << 32,
    cma=16 * MIB,  # CONFIG_CMA_SIZE_MBYTES of Debian's kernels
    swiotlb=0,  # arch/arm/mm/init.c, arch_mm_preinit(): for kernels with LPAE and memory above 4 GiB
)
