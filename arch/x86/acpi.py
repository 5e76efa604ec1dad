"""Read ACPI's root pointer (RSDP), for kernels that need it (ACPI specification, 5.2.5.3)."""

import os

from pykexec.machine import Machine

_MEMORY = "/dev/mem"
_SIGNATURE = b"RSD PTR "
_SIZE_1, _SIZE_2, _SIZE_MAX = 20, 36, 4096  # sizes of ACPI 1.0, of 2.0 and later; a limit


def read_rsdp(machine: Machine, address: int) -> bytes | None:
    """Return the RSDP at that physical address; None where it cannot be read, or is none.

    It is in no file below /proc or /sys, only in memory: a snapshot does not have it, and lockdown forbids
    it.
    """
    if not machine.is_live or not address:
        return None
    try:
        memory = os.open(_MEMORY, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        head = os.pread(memory, _SIZE_2, address)
        return checked(os.pread(memory, _size(head), address)) if len(head) >= _SIZE_1 else None
    except OSError:
        return None
    finally:
        os.close(memory)


def checked(data: bytes) -> bytes | None:
    """Return the part of the data that is an RSDP with correct checksums; None when it is none.

    From ACPI 2.0 on there are two checksums; a kernel wants both (acpi_tb_validate_rsdp(),
    acpica/tbxfroot.c).
    """
    if len(data) < _SIZE_1 or data[:8] != _SIGNATURE or sum(data[:_SIZE_1]) & 0xFF:
        return None
    size = _size(data)
    return None if len(data) < size or sum(data[:size]) & 0xFF else data[:size]


def _size(data: bytes) -> int:
    revision = data[15]
    if revision < 2:
        return _SIZE_1
    return min(max(int.from_bytes(data[20:24], "little"), _SIZE_2), _SIZE_MAX)
