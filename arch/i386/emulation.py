"""Tell QEMU about i386: PCs, which 64-bit hosts can be, too."""

from dataclasses import replace

from pykexec.arch.x86 import emulation
from pykexec.emulation.part import Kvm

PART = replace(
    emulation.PC,
    command="qemu-system-i386",
    kvm=Kvm(("x86_64", "i386"), emulation.PC.machine),
)
