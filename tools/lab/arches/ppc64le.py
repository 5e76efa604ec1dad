"""POWER of 64 bits, little-endian: a partition below a hypervisor (pseries), with QEMU of backports.

In QEMU 7.2 a processor's decrementer stops at times, as when a machine was saved, and what sleeps there does
not wake up.

Userland is sid's: bookworm's makedumpfile reads no dump of Linux 6.12, whose kernel for this is a backport.
"""

from pykexec.arch.ppc64le import emulation

from ..packages import Package, Userland, kernels, of_suite
from . import Arch, Qemu

ARCH = Arch(
    name="ppc64le",
    debian="ppc64el",
    emulation=emulation.PART,
    qemu=Qemu(
        {
            "qemu-system-ppc64": "qemu-system-ppc",
            "modules": "qemu-system-common",
            "firmware": "qemu-system-data",
        },
        suite="bookworm-backports",
    ),
    # With pages of 64 KiB, small files take more than the half of memory that a tmpfs may have.
    parameters="rootfstype=ramfs",
    kernels={
        **kernels("linux-image-powerpc64le", "6.1"),
        "6.12": Package("bookworm-backports", "linux-image-powerpc64le"),
    },
    userland=Userland(
        python="3.14",
        small=of_suite(
            "sid",
            *("busybox-static", "libbz2-1.0", "libc6", "libdw1t64", "libelf1t64", "libgcc-s1", "liblzma5"),
            *("liblzo2-2", "libsnappy1v5", "libstdc++6", "libzstd1", "makedumpfile", "zlib1g"),
            "kexec-tools",  # vmcore-dmesg
        ),
        full=of_suite(
            "sid",
            *("libexpat1", "libffi8", "libpython3.14-minimal", "libpython3.14-stdlib", "libssl3t64"),
            "python3.14-minimal",
        ),
    ),
    can_be_saved=False,
    # With pages of 64 KiB, what a capture kernel unpacks takes more memory.
    reservation="384M",
    programs={
        "powerpc64-linux-gnu-gcc": "gcc-powerpc64-linux-gnu",
        "powerpc64le-linux-gnu-gcc": "gcc-powerpc64le-linux-gnu",
        "qemu-ppc64-static": "qemu-user-static",
        "qemu-ppc64le-static": "qemu-user-static",
        "qemu-system-ppc64": "qemu-system-ppc",
    },
)
