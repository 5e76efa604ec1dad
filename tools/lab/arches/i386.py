"""PCs of 32 bits; Debian has kernels for them up to bookworm."""

from dataclasses import replace

from pykexec.arch.i386 import emulation

from ..packages import BOOKWORM, Package
from . import Arch, Qemu

_NO_DUMP = "makedumpfile 1.7.2 takes addresses as they are without KASLR"
_WITHOUT_XEN = tuple(each for each in BOOKWORM.full if not each.name.startswith("libxen"))
"""The C kexec of i386 is linked to nothing of it."""

ARCH = Arch(
    name="i386",
    debian="i386",
    emulation=emulation.PART,
    qemu=Qemu({"qemu-system-i386": "qemu-system-x86"}),
    kernels={
        "6.1": Package("bookworm", "linux-image-686-pae"),
        "6.1-686": Package("bookworm", "linux-image-686"),
    },
    # It lies below 512 MiB (CRASH_ADDR_LOW_MAX, asm/kexec.h), where KASLR puts the kernel anywhere: 256 MiB
    # are not always left.
    reservation="192M",
    userland=replace(BOOKWORM, full=_WITHOUT_XEN),
    no_dump={"6.1": _NO_DUMP, "6.1-686": _NO_DUMP},
)
