"""RISC-V of 64 bits: QEMU's virtual machine with OpenSBI.

Debian has it since trixie, kexec-tools for it in sid only; and that takes sid's C library.
"""

from pykexec.arch.riscv64 import emulation

from ..packages import File, Package, Userland, kernels, of_suite
from . import Arch, Qemu

ARCH = Arch(
    name="riscv64",
    debian="riscv64",
    emulation=emulation.PART,
    qemu=Qemu({"qemu-system-riscv64": "qemu-system-misc"}),
    # OpenSBI 1.1, QEMU 7.2's, may send a hart that Linux starts as another one to where Linux boots; both
    # then hang: once in 200 boots. 1.2 has mended that (e8e9ed37, the state START_PENDING).
    bios=File(Package("trixie", "opensbi"), "usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin"),
    kernels=kernels("linux-image-riscv64", "6.12", "7.2"),
    userland=Userland(
        python="3.13",
        small=of_suite(
            "sid",
            *("busybox-static", "libbz2-1.0", "libc6", "libdw1t64", "libelf1t64", "libgcc-s1", "liblzma5"),
            *("liblzo2-2", "libsnappy1v5", "libstdc++6", "libzstd1", "makedumpfile", "zlib1g"),
            "kexec-tools",  # vmcore-dmesg
        ),
        full=of_suite(
            "trixie",
            *("libexpat1", "libffi8", "libpython3.13-minimal", "libpython3.13-stdlib", "libssl3t64"),
            "python3.13-minimal",
        ),
    ),
    # Debian's kernel sets 128 MiB aside for devices, of the 256 that are reserved.
    capture="cma=0",
    # QEMU 7.2 does not save the harts' timers (Sstc): one of them sleeps for good then.
    can_be_saved=False,
    no_dump={"7.2": "Linux 7.1 renamed what it needs of struct page, and it leaves out what it must not"},
    programs={
        "qemu-riscv64-static": "qemu-user-static",
        "riscv64-linux-gnu-gcc": "gcc-riscv64-linux-gnu",
    },
)
