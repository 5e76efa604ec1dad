"""x86_64: Linux kernels by its boot protocol (Documentation/arch/x86/boot.rst), and Multiboot kernels."""

from pykexec.files import FileData
from pykexec.machine import Machine
from pykexec.plan import LoadPlan, Request
from pykexec.values import dataclass


@dataclass(frozen=True, slots=True)
class X86_64:  # noqa: N801 (the architecture's name)
    name: str = "x86_64"
    machines: tuple[str, ...] = ("x86_64",)
    formats: tuple[str, ...] = (
        "bzImage64",
        "bzImage",
        "multiboot2-x86",
        "multiboot-x86",
        "elf-x86_64",
        "elf-x86",
        "uki",
        "fit",
    )
    facts: tuple[str, ...] = ("sys/kernel/boot_params/data", "sys/kernel/boot_params/setup_data/*/type")

    hands_device_tree_on: bool = False

    def has_file_format(self, kernel: FileData) -> bool:
        """arch/x86/kernel/kexec-bzimage64.c"""
        from pykexec.arch.x86_64 import bzimage
        from pykexec.arch.x86_64.kernel import Entry

        return bzimage.matches(kernel.data) and bzimage.parse(kernel).entry is Entry.LONG

    def plan(self, machine: Machine, request: Request) -> LoadPlan:
        from pykexec.arch.x86_64 import loader

        return loader.plan(machine, request)


ARCH = X86_64()
