"""Secure IPL: firmware has verified the running kernel, which is to verify the next."""

from pykexec.machine import Machine
from pykexec.machine.sysfs import read_text

REMEDY = "leave out -c and what needs it, so that kexec_file_load takes a signed kernel"


def is_on(machine: Machine) -> bool:
    """Whether the machine was started so (arch/s390/kernel/ipl.c). Raises MachineError."""
    return read_text(machine.root, "sys/firmware/ipl/secure") == "1"
