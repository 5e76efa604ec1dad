"""Arm of 32 bits: QEMU's virtual machine with a device tree; kernels with and without LPAE."""

from ..packages import Package
from . import Arch, Qemu

ARCH = Arch(
    name="arm",
    debian="armhf",
    qemu=Qemu("qemu-system-arm", {"qemu-system-arm": "qemu-system-arm"}),
    # Nothing is above 4 GiB: kernels without LPAE would not see it.
    machine=("-M", "virt,highmem=off", "-cpu", "cortex-a15"),
    console="ttyAMA0",
    early_console="earlycon",
    ram_start=0x40000000,
    kernels={
        "6.1": Package("bookworm", "linux-image-armmp"),
        "6.1-lpae": Package("bookworm", "linux-image-armmp-lpae"),
        "7.2": Package("sid", "linux-image-armmp"),
    },
    parallel=True,  # QEMU 7.2, two CPUs: just before the kernel starts the first process
    no_dump={"6.1-lpae": "makedumpfile takes its memory to be mapped 4 MiB higher than it is"},
    programs={
        "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf",
        "qemu-arm-static": "qemu-user-static",
    },
)
