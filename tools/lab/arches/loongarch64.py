"""LoongArch of 64 bits: a QEMU that is newer than the system's.

Debian has the architecture in sid only, and without makedumpfile.
"""

from pykexec.arch.loongarch64 import emulation

from ..packages import File, Package, Userland, kernels, of_suite
from . import Arch, Qemu

ARCH = Arch(
    name="loongarch64",
    debian="loong64",
    emulation=emulation.PART,
    qemu=Qemu(
        {
            "qemu-system-loongarch64": "qemu-system-misc",
            "modules": "qemu-system-common",
            "firmware": "qemu-system-data",
        },
        suite="bookworm-backports",
    ),
    kernels=kernels("linux-image-loong64", "7.2"),
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
    can_be_saved=False,
    no_dump={"7.2": "Debian has no makedumpfile for this architecture"},
    programs={
        "qemu-loongarch64-static": "qemu-user-static",
        "qemu-system-loongarch64": "qemu-system-misc",
    },
)
