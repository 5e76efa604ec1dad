"""s390x: QEMU's machine with channel devices. Only Debian's 6.1 has kexec, and that no kdump."""

from ..packages import BOOKWORM, Userland, kernels, of_suite
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
    programs={
        "qemu-s390x-static": "qemu-user-static",
        "s390x-linux-gnu-gcc": "gcc-s390x-linux-gnu",
    },
)
