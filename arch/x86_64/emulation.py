"""Tell QEMU about x86_64: PCs."""

from pykexec.arch.x86 import emulation

PART = emulation.PC
