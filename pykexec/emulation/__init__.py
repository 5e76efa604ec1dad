"""Boot virtual machines with QEMU: for rehearsals of a crash, and for the laboratory of the tests.

Nothing that loads kernels imports this. A machine is described by values (part.py: what is so on an
architecture; machine.py: one machine; devices.py: its disks and networks); running.py runs it, on a
processor of the host's where that works (kvm.py), and with what the host has to spare (room.py).
"""

from pykexec.emulation.errors import EmulationError
from pykexec.emulation.kvm import Accelerator, accelerator
from pykexec.emulation.machine import KVM, SOFTWARE, VirtualMachine
from pykexec.emulation.part import Emulation, find
from pykexec.emulation.programs import firmware, program
from pykexec.emulation.running import Running

__all__ = [
    "KVM",
    "SOFTWARE",
    "Accelerator",
    "Emulation",
    "EmulationError",
    "Running",
    "VirtualMachine",
    "accelerator",
    "find",
    "firmware",
    "program",
]
