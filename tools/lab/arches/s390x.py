"""s390x: QEMU's machine with channel devices. Only Debian's 6.1 has kexec, and that no kdump."""

from pykexec.arch.s390x import emulation

from ..packages import BOOKWORM, Build, Userland, kernels, of_suite
from . import Arch, Qemu

ARCH = Arch(
    name="s390x",
    debian="s390x",
    emulation=emulation.PART,
    qemu=Qemu({"qemu-system-s390x": "qemu-system-misc"}),
    kernels=kernels("linux-image-s390x", "6.1"),
    built={
        "6.1-kdump": Build(  # CONFIG_CRASH_DUMP and CONFIG_KEXEC_FILE
            version="6.1",
            suite="bookworm",
            make="s390",
            configs=("s390x-kdump.config",),
            image="arch/s390/boot/bzImage",
            prefix="s390x-linux-gnu-",
        )
    },
    userland=Userland(
        python=BOOKWORM.python,
        small=BOOKWORM.small,
        full=of_suite(  # here the C kexec is linked to no library of Xen's
            "bookworm",
            *("libexpat1", "libffi8", "libpython3.11-minimal", "libpython3.11-stdlib", "libssl3"),
            "python3.11-minimal",
        ),
    ),
    programs={
        "qemu-s390x-static": "qemu-user-static",
        "s390x-linux-gnu-gcc": "gcc-s390x-linux-gnu",
    },
)
