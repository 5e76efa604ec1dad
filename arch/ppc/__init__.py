"""ppc: PowerPC of 32 bits, classic cores and BookE's. What it shares with POWER is in arch/powerpc."""

from pykexec.arch import Arch
from pykexec.memory import KIB

ARCH = Arch(
    name="ppc",
    formats=("elf-ppc", "uImage-ppc"),
    honours=frozenset({"device_tree"}),
    facts=("proc/cpuinfo", "proc/device-tree/**"),
    page_sizes=(4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB),
    # A segment's place is a word, also of kernels with more memory.
    address_end=1 << 32,
)
