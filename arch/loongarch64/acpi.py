"""The register by which ACPI resets a machine (ACPI 6.5, 5.2.9 and 4.8.3.6)."""

from pykexec.machine import Machine
from pykexec.values import dataclass

_FADT = "sys/firmware/acpi/tables/FACP"
_FLAGS, _REGISTER, _VALUE, _END = 112, 116, 128, 129
_RESET_REG_SUP = 1 << 10
_SYSTEM_MEMORY = 0
"""An address space (5.2.3.2)."""


@dataclass(frozen=True, slots=True)
class ResetRegister:
    """Where to write which byte."""

    address: int
    """Physical."""
    value: int


def reset_register(machine: Machine) -> ResetRegister | None:
    """Return the machine's; None where it has none, or none in memory."""
    table = machine.read(_FADT) or b""
    if len(table) < _END or table[:4] != b"FACP":
        return None
    address = int.from_bytes(table[_REGISTER + 4 : _VALUE], "little")
    is_there = int.from_bytes(table[_FLAGS : _FLAGS + 4], "little") & _RESET_REG_SUP
    if not is_there or table[_REGISTER] != _SYSTEM_MEMORY or not address:
        return None
    return ResetRegister(address, table[_VALUE])
