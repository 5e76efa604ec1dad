"""i386: Linux kernels by x86's boot protocol, through its 32-bit entry, and Multiboot kernels."""

from pykexec.arch import Arch
from pykexec.uapi import KEXEC_UPDATE_ELFCOREHDR

ARCH = Arch(
    name="i386",
    formats=("bzImage", "multiboot2-x86", "multiboot-x86", "elf-x86", "uki", "fit"),
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
    # A segment's place is a word, also of kernels with PAE.
    address_end=1 << 32,
    cma=0,  # distributions build kernels for x86 without CONFIG_CMA
    swiotlb=0,  # there is none (arch/x86/Kconfig)
    hotplug_flag=KEXEC_UPDATE_ELFCOREHDR,
)
