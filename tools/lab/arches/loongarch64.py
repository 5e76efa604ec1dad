"""LoongArch of 64 bits: QEMU's virtual machine, newer than the system's, and always with UEFI.

Without UEFI the device tree lies where the running kernel puts its own code for the jump to another kernel.
Debian has the architecture in sid only, and without makedumpfile.
"""

from ..packages import File, Package, Userland, kernels, of_suite
from . import Arch, Qemu

ARCH = Arch(
    name="loongarch64",
    debian="loong64",
    qemu=Qemu(
        "qemu-system-loongarch64",
        {
            "qemu-system-loongarch64": "qemu-system-misc",
            "modules": "qemu-system-common",
            "firmware": "qemu-system-data",
        },
        suite="bookworm-backports",
    ),
    machine=("-M", "virt", "-cpu", "la464"),
    console="ttyS0",
    early_console="earlycon=uart,mmio,0x1fe001e0",
    # Of what is above 2 GiB; the first 256 MiB are at 0, and stand before it in a file.
    ram_start=0x70000000,
    kernels=kernels("linux-image-loong64", "7.2"),
    boots_unpacked=True,
    userland=Userland(
        python="3.14",  # which unpacks zstd
        small=of_suite("sid", "busybox-static", "libc6", "kexec-tools"),  # vmcore-dmesg
        full=of_suite(
            "sid",
            *("libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libpython3.14-minimal"),
            *("libpython3.14-stdlib", "libssl3t64", "libzstd1", "python3.14-minimal", "zlib1g"),
        ),
    ),
    bios=File(Package("sid", "qemu-efi-loongarch64"), "usr/share/qemu-efi-loongarch64/QEMU_EFI.fd"),
    # Debian's kernel sets 192 MiB aside for devices, of the 256 that are reserved.
    capture="cma=0 swiotlb=noforce",
    told_by_line=("kexec", "initrd"),
    parallel=True,
    can_be_saved=False,
    no_dump={"7.2": "Debian has no makedumpfile for this architecture"},
    programs={
        "qemu-loongarch64-static": "qemu-user-static",
        "qemu-system-loongarch64": "qemu-system-misc",
    },
)
