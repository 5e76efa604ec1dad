"""Boot virtual machines with QEMU: for rehearsals of a crash, and for the laboratory of the tests.

Nothing that loads kernels imports this. A machine is described by values (part.py: what is so on an
architecture, machine.py: one machine); running.py runs it.
"""

from pykexec.emulation.errors import EmulationError
from pykexec.emulation.machine import KVM, SOFTWARE, VirtualMachine
from pykexec.emulation.part import Emulation, find
from pykexec.emulation.running import Running

__all__ = ["KVM", "SOFTWARE", "Emulation", "EmulationError", "Running", "VirtualMachine", "find"]
