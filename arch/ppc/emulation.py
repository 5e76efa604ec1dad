"""How QEMU makes PowerPC machines of 32 bits: MPC8544DS, a board with an e500 core."""

from pykexec.arch.powerpc import emulation
from pykexec.emulation.part import Emulation

PART = Emulation(
    command="qemu-system-ppc",
    packages=emulation.PACKAGES,
    machine=("-M", "mpc8544ds", "-cpu", "e500v2"),
    console="ttyS0",
    ram_start=0,
)
