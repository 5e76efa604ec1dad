"""arm: zImages and the boot protocol of Documentation/arch/arm/booting.rst."""

from pykexec.arch import Arch

ARCH = Arch(
    name="arm",
    formats=("zImage", "uImage", "vmlinux", "uki", "fit"),
    honours=frozenset({"device_tree", "atags", "image_size", "page_offset"}),
    facts=("sys/firmware/fdt", "proc/device-tree/**", "proc/atags", "proc/kallsyms", "boot/config-*"),
    # A segment's place is a word, also of kernels with LPAE.
    address_end=1 << 32,
)
