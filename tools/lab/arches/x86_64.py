"""PCs of 64 bits."""

from pykexec.arch.x86_64 import emulation

from ..packages import Build, File, Package, kernels
from . import Arch, Qemu

ARCH = Arch(
    name="x86_64",
    debian="amd64",
    emulation=emulation.PART,
    qemu=Qemu({"qemu-system-x86_64": "qemu-system-x86"}),
    kernels=kernels("linux-image-cloud-amd64"),
    built={
        "6.12-jump": Build(  # CONFIG_KEXEC_JUMP
            version="6.12",
            suite="trixie",
            make="x86",
            configs=("x86_64-jump.config",),
            image="arch/x86/boot/bzImage",
        ),
        "7.2-dmcrypt": Build(  # CONFIG_CRASH_DM_CRYPT
            version="7.2",
            suite="sid",
            make="x86",
            configs=("x86_64-dmcrypt.config",),
            image="arch/x86/boot/bzImage",
        ),
    },
    uefi=File(Package("bookworm", "ovmf"), "usr/share/ovmf/OVMF.fd"),
)
