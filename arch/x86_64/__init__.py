"""x86_64: Linux kernels by its boot protocol (Documentation/arch/x86/boot.rst), and Multiboot kernels."""

from pykexec.arch import Arch
from pykexec.uapi import KEXEC_UPDATE_ELFCOREHDR

ARCH = Arch(
    name="x86_64",
    formats=(
        "bzImage64",
        "bzImage",
        "multiboot2-x86",
        "multiboot-x86",
        "elf-x86_64",
        "elf-x86",
        "uki",
        "fit",
    ),
    honours=frozenset(
        {
            "entry_32bit",
            "real_mode",
            "modules",
            "hand_over_efi",
            "memmap_parameters",
            "console_vga",
            "console_baud",
            "preserve_context",
            "jump_back",
        }
    ),
    facts=("sys/kernel/boot_params/data", "sys/kernel/boot_params/setup_data/*/type"),
    cma=0,  # distributions build kernels for x86 without CONFIG_CMA
    swiotlb=0,  # arch/x86/kernel/pci-dma.c, pci_swiotlb_detect()
    # The newer KEXEC_CRASH_HOTPLUG_SUPPORT is refused by Linux 6.5 to 6.9.
    hotplug_flag=KEXEC_UPDATE_ELFCOREHDR,
)
