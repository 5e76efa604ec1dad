"""arm64: the Image format and the boot protocol of Documentation/arch/arm64/booting.rst."""

from pykexec.arch import Arch
from pykexec.memory import KIB, MIB

ARCH = Arch(
    name="arm64",
    formats=("vmlinux", "Image", "uImage", "vmlinuz", "uki", "fit"),
    honours=frozenset({"device_tree", "force_dtb"}),
    facts=("sys/firmware/fdt", "proc/device-tree/**", "sys/firmware/acpi/tables/FACP"),
    page_sizes=(4 * KIB, 16 * KIB, 64 * KIB),
    cma=64 * MIB,  # CONFIG_CMA_SIZE_MBYTES in distributions' kernels
    swiotlb=0,  # arch/arm64/mm/init.c, arch_mm_preinit(); since 6.5 a thousandth of memory
)
