"""Arm of 32 bits: QEMU's virtual machine with a device tree; kernels with and without LPAE."""

from pykexec.arch.arm import emulation

from ..packages import Package
from . import Arch, Qemu

ARCH = Arch(
    name="arm",
    debian="armhf",
    emulation=emulation.PART,
    qemu=Qemu({"qemu-system-arm": "qemu-system-arm"}),
    kernels={
        "6.1": Package("bookworm", "linux-image-armmp"),
        "6.1-lpae": Package("bookworm", "linux-image-armmp-lpae"),
        "7.2": Package("sid", "linux-image-armmp"),
    },
    no_dump={"6.1-lpae": "makedumpfile takes its memory to be mapped 4 MiB higher than it is"},
    programs={
        "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf",
        "qemu-arm-static": "qemu-user-static",
    },
)
