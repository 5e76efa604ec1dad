"""Arm of 64 bits: QEMU's virtual machine, with a device tree unless it has UEFI."""

from pykexec.arch.arm64 import emulation

from ..packages import File, Package, kernels
from . import Arch, Qemu

_NO_DUMP = "52-bit virtual addresses with pages of 4 KiB"
"""Came with Linux 6.9; makedumpfile 1.7.8 does not know them, either."""

ARCH = Arch(
    name="arm64",
    debian="arm64",
    emulation=emulation.PART,
    qemu=Qemu({"qemu-system-aarch64": "qemu-system-arm"}),
    kernels=kernels("linux-image-cloud-arm64"),
    uefi=File(Package("bookworm", "qemu-efi-aarch64"), "usr/share/qemu-efi-aarch64/QEMU_EFI.fd"),
    no_dump={"6.12": _NO_DUMP, "7.2": _NO_DUMP},
    programs={
        "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
        "qemu-aarch64-static": "qemu-user-static",
    },
)
