"""How QEMU makes PCs of 32 bits."""

from pykexec.arch.x86 import emulation
from pykexec.emulation.part import Emulation, Kvm

PART = Emulation(
    command="qemu-system-i386",
    packages=emulation.PACKAGES,
    machine=emulation.MACHINE,
    console=emulation.CONSOLE,
    early_console=emulation.EARLY_CONSOLE,
    parameters=emulation.PARAMETERS,
    ram_start=0,
    kvm=Kvm(("x86_64", "i386"), emulation.MACHINE),
)
