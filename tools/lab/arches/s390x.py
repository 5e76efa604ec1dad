"""s390x: QEMU's machine with channel devices. Only Debian's 6.1 has kexec, and that no kdump."""

from ..packages import BOOKWORM, Build, Userland, kernels, of_suite
from . import Arch, Qemu

ARCH = Arch(
    name="s390x",
    debian="s390x",
    qemu=Qemu("qemu-system-s390x", {"qemu-system-s390x": "qemu-system-misc"}),
    machine=("-M", "s390-ccw-virtio"),
    console="ttysclp0",
    early_console="earlyprintk",
    ram_start=0,
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
    virtio=("ccw", "virtio"),  # virtio_ccw is built in, and no module that a kernel would list
    # A loaded kernel unpacks itself with XZ, byte by byte, over code of the first kernel's. As long as QEMU
    # has translations of that, each byte takes a look at those of its page: minutes instead of seconds.
    translations=8,
    programs={
        "qemu-s390x-static": "qemu-user-static",
        "s390x-linux-gnu-gcc": "gcc-s390x-linux-gnu",
    },
)
