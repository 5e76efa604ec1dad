"""ACPI's root pointer (RSDP), for kernels that are to be given it (ACPI specification, 5.2.5.3)."""

import os

from pykexec.machine import Machine

_MEMORY = "/dev/mem"
_SIGNATURE = b"RSD PTR "
_SIZE_1, _SIZE_MAX = 20, 4096


def read_rsdp(machine: Machine, address: int) -> bytes | None:
    """The structure at that physical address; None where it cannot be read, or is none.

    No file below /proc or /sys has it, only memory itself: a snapshot does not, and lockdown forbids it.
    """
    if not machine.is_live or not address:
        return None
    try:
        memory = os.open(_MEMORY, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        head = os.pread(memory, 36, address)
        rsdp = checked(head)
        return rsdp and checked(os.pread(memory, _size(head), address))
    except OSError:
        return None
    finally:
        os.close(memory)


def checked(data: bytes) -> bytes | None:
    """As much of the data as is an RSDP with a right checksum."""
    if len(data) < _SIZE_1 or data[:8] != _SIGNATURE or sum(data[:_SIZE_1]) & 0xFF:
        return None
    return data[: _size(data)]


def _size(data: bytes) -> int:
    revision = data[15]
    if revision < 2 or len(data) < 36:
        return _SIZE_1
    return min(max(int.from_bytes(data[20:24], "little"), _SIZE_1), _SIZE_MAX)
