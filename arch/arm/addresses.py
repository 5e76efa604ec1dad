"""Where kernels of arm have their memory: virtual addresses."""

from pykexec.memory import MIB

PAGE_OFFSET = 0xC0000000
"""The usual start of the linear map (arch/arm/Kconfig, VMSPLIT_3G)."""
TEXT_WITHIN = 32 * MIB
"""The kernel begins this near to its start of memory, as kexec-tools takes it, too."""
LINEAR_END = 0xEF800000
"""Where the linear map ends by default (arch/arm/mm/mmu.c): 240 MiB for vmalloc and 8 MiB between them lie
below 0xff800000."""
