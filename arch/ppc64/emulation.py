"""How QEMU makes ppc64 machines."""

from pykexec.arch.powerpc import emulation

PART = emulation.PARTITION
