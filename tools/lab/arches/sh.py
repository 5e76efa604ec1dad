"""SuperH: QEMU's RTS7751R2D, which has 64 MiB of memory. Debian's archive has nothing for it."""

from pykexec.arch.sh import emulation
from tools.crossbuild import targets

from ..packages import Build
from . import Arch, Qemu

_NAME = "sh"
(_TARGET,) = (each for each in targets() if each.name == _NAME)


def _kernel(config: str, image: str) -> Build:
    """A kernel runs where it is linked to be: the first one, and the one for crashes, are two."""
    return Build(
        version="6.1",
        suite="bookworm",
        make=_NAME,
        configs=("sh.config", config),
        image=image,
        prefix=_TARGET.prefix,
        compiler=_TARGET.compiler,
        unpacked=tuple(_TARGET.unpacked),
        cross_suite=_TARGET.suite,
    )


ARCH = Arch(
    name=_NAME,
    debian="sh4",
    emulation=emulation.PART,
    qemu=Qemu({"qemu-system-sh4": "qemu-system-misc"}),
    kernels={},
    built={
        "6.1": _kernel("sh-first.config", "arch/sh/boot/zImage"),
        "6.1-capture": _kernel("sh-capture.config", "vmlinux"),
    },
    left_out="",
    reservation="16M@0x0e000000",
    programs={"qemu-sh4-static": "qemu-user-static", "qemu-system-sh4": "qemu-system-misc"},
)
