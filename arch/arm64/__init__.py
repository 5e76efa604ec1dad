"""arm64: the Image format and the boot protocol of Documentation/arch/arm64/booting.rst."""

from pykexec.files import FileData
from pykexec.machine import Machine
from pykexec.plan import LoadPlan, Request
from pykexec.values import dataclass


@dataclass(frozen=True, slots=True)
class Arm64:
    name: str = "arm64"
    machines: tuple[str, ...] = ("aarch64",)
    formats: tuple[str, ...] = ("vmlinux", "Image", "uImage", "vmlinuz", "uki", "fit")
    facts: tuple[str, ...] = (
        "sys/firmware/fdt",
        "proc/device-tree/**",
        "sys/firmware/acpi/tables/FACP",
    )

    hands_device_tree_on: bool = True

    def has_file_format(self, kernel: FileData) -> bool:
        """arch/arm64/kernel/kexec_image.c"""
        from pykexec.arch.arm64 import image

        return image.matches(kernel.data) and image.parse(kernel) is not None

    def plan(self, machine: Machine, request: Request) -> LoadPlan:
        from pykexec.arch.arm64 import loader

        return loader.plan(machine, request)


ARCH = Arm64()
