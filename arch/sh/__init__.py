"""sh: zImages and vmlinux, which are told by the page before their first instruction (asm/setup.h)."""

from pykexec.arch import Arch
from pykexec.memory import MIB

ARCH = Arch(
    name="sh",
    formats=("uImage-sh", "zImage-sh", "elf-sh", "uki", "fit"),
    facts=("proc/cpuinfo",),
    page_sizes=(4096, 8192, 16384, 65536),
    address_end=1 << 32,
    cma=0,  # arch/sh/Kconfig selects no CMA
    swiotlb=0,  # there is none
    running=2 * MIB,  # seen with a small kernel, Linux 6.1
)
