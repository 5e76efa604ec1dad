"""How QEMU makes ppc64le machines."""

from pykexec.arch.powerpc import emulation

PART = emulation.PARTITION
