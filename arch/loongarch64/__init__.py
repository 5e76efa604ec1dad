"""loongarch64: EFI images, and the boot protocol of Documentation/arch/loongarch/booting.rst."""

from pykexec.arch import Arch

ARCH = Arch(
    name="loongarch64",
    formats=("elf-loongarch", "pez-loongarch", "pei-loongarch", "uki", "fit"),
    facts=("sys/firmware/acpi/tables/FACP",),
    page_sizes=(4096, 16384, 65536),
)
