"""loongarch64: EFI images, and the boot protocol of Documentation/arch/loongarch/booting.rst."""

from pykexec.arch import Arch
from pykexec.memory import MIB

ARCH = Arch(
    name="loongarch64",
    formats=("elf-loongarch", "pez-loongarch", "pei-loongarch", "uki", "fit"),
    facts=("sys/firmware/acpi/tables/FACP",),
    page_sizes=(4096, 16384, 65536),
    cma=128 * MIB,  # CONFIG_CMA_SIZE_MBYTES in Debian's kernel
    swiotlb=64 * MIB,  # arch/loongarch/kernel/setup.c, arch_mem_init()
)
