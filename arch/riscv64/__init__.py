"""riscv64: the Image format and the boot protocol of Documentation/arch/riscv/boot.rst."""

from pykexec.arch import Arch

ARCH = Arch(
    name="riscv64",
    formats=("elf-riscv", "image-riscv", "vmlinuz-riscv", "uki", "fit"),
    honours=frozenset({"device_tree", "force_dtb"}),
    facts=("sys/firmware/fdt", "proc/device-tree/**"),
)
