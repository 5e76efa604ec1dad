"""riscv64: the Image format and the boot protocol of Documentation/arch/riscv/boot.rst."""

from pykexec.arch import Arch
from pykexec.memory import MIB

ARCH = Arch(
    name="riscv64",
    formats=("elf-riscv", "image-riscv", "vmlinuz-riscv", "uki", "fit"),
    honours=frozenset({"device_tree", "force_dtb"}),
    facts=("sys/firmware/fdt", "proc/device-tree/**"),
    cma=128 * MIB,  # CONFIG_CMA_SIZE_MBYTES in Debian's kernels
    swiotlb=0,  # arch/riscv/mm/init.c, arch_mm_preinit(); since 6.5 a thousandth of memory
)
