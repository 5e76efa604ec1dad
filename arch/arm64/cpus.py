"""How the CPUs are started and stopped."""

from pykexec.machine import Machine
from pykexec.machine.sysfs import read_text

_CPUS = "proc/device-tree/cpus"

SPIN_TABLE = "spin-table"
"""The way with which no CPU can be stopped (Documentation/arch/arm64/booting.rst)."""


def enable_methods(machine: Machine) -> frozenset[str]:
    """Return the ways that the device tree tells of; empty where there is none, as with ACPI."""
    root = machine.root
    texts = (read_text(root, f"{_CPUS}/{cpu}/enable-method") for cpu in root.names(_CPUS))
    return frozenset(text.strip("\0") for text in texts if text)
