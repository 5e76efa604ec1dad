"""PowerPC of 32 bits: QEMU's MPC8544DS, a board with an e500 core. Debian's archive has nothing for it."""

from pykexec.arch.ppc import emulation
from tools.crossbuild import targets

from ..packages import Build
from . import Arch, Qemu

_NAME = "ppc"
(_TARGET,) = (each for each in targets() if each.name == _NAME)

ARCH = Arch(
    name=_NAME,
    debian="powerpc",
    emulation=emulation.PART,
    qemu=Qemu({"qemu-system-ppc": "qemu-system-ppc"}),
    kernels={},
    built={
        "6.1": Build(
            version="6.1",
            suite=_TARGET.suite,
            make="powerpc",
            configs=("ppc-e500.config",),
            image="vmlinux",
            prefix=_TARGET.prefix,
        )
    },
    left_out="",
    memory="512M",
    reservation="128M@64M",
    programs={
        "powerpc-linux-gnu-gcc": "gcc-powerpc-linux-gnu",
        "qemu-ppc-static": "qemu-user-static",
        "qemu-system-ppc": "qemu-system-ppc",
    },
)
