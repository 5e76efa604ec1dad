"""The kind of a machine's core: whether its MMU can be off, and what stands in its way then."""

from __future__ import annotations

import enum

from pykexec.devicetree import DeviceTree
from pykexec.errors import MachineError
from pykexec.machine import Machine

_CPUINFO = "proc/cpuinfo"
_E500 = ("e500", "e5500", "e6500", "(generic E500")
_44X = ("44", "46", "47", "APM821", "(generic 44x", "(generic 47x")
"""How the names of all begin (arch/powerpc/kernel/cpu_specs_85xx.h, cpu_specs_e500mc.h, cpu_specs_44x.h,
cpu_specs_47x.h; before 6.1 cputable.c); those of classic cores do not (cpu_specs_book3s_32.h)."""


class Core(enum.Enum):
    """The cores that differ for a loader."""

    CLASSIC = "classic"
    """Book3S: it runs without MMU between two kernels, and takes interrupts at address 0."""
    E500 = "e500"
    """BookE of Freescale's: its MMU is always on, and interrupts go where a register says."""
    BOOKE = "44x"
    """The other BookE: the same, with an MMU of another kind."""

    @property
    def is_booke(self) -> bool:
        return self is not Core.CLASSIC


def find(machine: Machine, tree: DeviceTree) -> Core:
    """Return the machine's kind of core. Raises MachineError where nothing tells of it."""
    name = _name(machine)
    if name.startswith(_E500):
        return Core.E500
    if name.startswith(_44X):
        return Core.BOOKE
    if name:
        return Core.CLASSIC
    # For trees alone: "Standard for Embedded Power Architecture Platform Requirements", 3.7.2.
    if any(node.get("mmu-type") == b"power-embedded\0" for _, node in tree.nodes()):
        return Core.E500
    raise MachineError(
        f"the kind of the CPU is not known: /{_CPUINFO} does not name it",
        hint="take the snapshot with this version: its own have that file",
    )


def _name(machine: Machine) -> str:
    text = (machine.read(_CPUINFO) or b"").decode("ascii", "replace")
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "cpu":
            return value.strip()
    return ""
