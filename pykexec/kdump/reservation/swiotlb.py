"""The memory through which devices that do not reach all of it read and write (kernel/dma/swiotlb.c)."""

import re

from pykexec.memory import KIB, MIB
from pykexec.parameters import name_of, parameters

# include/linux/swiotlb.h: IO_TLB_DEFAULT_SIZE, and IO_TLB_SHIFT, the unit of swiotlb=
_DEFAULT = 64 * MIB
_SLAB = 2 * KIB


def size(command_line: str) -> int:
    """Return its bytes; swiotlb= counts slabs (setup_io_tlb_npages())."""
    sizes = re.findall(r"(?:^|\s)swiotlb=(\d{1,12})", command_line)
    return int(sizes[-1]) * _SLAB if sizes and int(sizes[-1]) else _DEFAULT


def set_aside(command_line: str) -> int:
    """Return the bytes that a kernel takes which always sets it up: none with noforce (swiotlb_init())."""
    words = [each for each in parameters(command_line) if name_of(each) == "swiotlb"]
    is_off = any("noforce" in each.partition("=")[2].split(",") for each in words)
    return 0 if is_off else size(command_line)
