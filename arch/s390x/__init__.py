"""s390x: images with a parameter area, and capture kernels that exchange places with the crashed one."""

from pykexec.arch import Arch

ARCH = Arch(
    name="s390x",
    formats=("image",),
    facts=(
        "sys/devices/system/memory/block_size_bytes",
        "sys/devices/system/memory/memory*/state",
        "sys/firmware/ipl/secure",
    ),
    cma=0,  # Debian's kernel has no CONFIG_DMA_CMA
    swiotlb=0,  # arch/s390/mm/init.c, pv_init(): only in protected guests
)
