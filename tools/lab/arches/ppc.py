"""PowerPC of 32 bits: QEMU's MPC8544DS, a board with an e500 core. Debian's archive has nothing for it."""

from tools.crossbuild import targets

from ..packages import Build
from . import Arch, Qemu

_NAME = "ppc"
(_TARGET,) = (each for each in targets() if each.name == _NAME)

ARCH = Arch(
    name=_NAME,
    debian="powerpc",
    qemu=Qemu("qemu-system-ppc", {"qemu-system-ppc": "qemu-system-ppc"}),
    machine=("-M", "mpc8544ds", "-cpu", "e500v2", "-m", "512M"),
    console="ttyS0",
    early_console="",
    ram_start=0,
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
    reservation="128M@64M",
    programs={
        "powerpc-linux-gnu-gcc": "gcc-powerpc-linux-gnu",
        "qemu-ppc-static": "qemu-user-static",
        "qemu-system-ppc": "qemu-system-ppc",
    },
)
