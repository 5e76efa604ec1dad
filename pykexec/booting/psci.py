"""How this machine is reset: by PSCI through a hypervisor call or a secure monitor call."""

import enum

from pykexec.devicetree import DeviceTree
from pykexec.machine import Machine

_FADT = "sys/firmware/acpi/tables/FACP"
# ACPI specification, FADT: ARM_BOOT_ARCH
_ARM_BOOT_ARCH = 129
_PSCI_COMPLIANT = 1 << 0
_PSCI_USE_HVC = 1 << 1


class ResetMethod(enum.IntEnum):
    """How purgatory resets the machine, as in the sources of the purgatories that know it."""

    DEFAULT = 0
    PSCI_HVC = 1
    PSCI_SMC = 2


def reset_method(machine: Machine, tree: DeviceTree) -> ResetMethod:
    """Return the method from the device tree's /psci, else from ACPI's FADT; DEFAULT where neither tells."""
    methods = {b"hvc\0": ResetMethod.PSCI_HVC, b"smc\0": ResetMethod.PSCI_SMC}
    told = tree.get("/psci", "method")
    if told in methods:
        return methods[told]
    fadt = machine.read(_FADT)
    if fadt is None or len(fadt) < _ARM_BOOT_ARCH + 2 or not fadt[_ARM_BOOT_ARCH] & _PSCI_COMPLIANT:
        return ResetMethod.DEFAULT
    return ResetMethod.PSCI_HVC if fadt[_ARM_BOOT_ARCH] & _PSCI_USE_HVC else ResetMethod.PSCI_SMC
