"""Write memory maps as the x86 boot protocol does."""

import struct
from collections.abc import Iterable

from pykexec.errors import MachineError
from pykexec.memory import MemoryKind, TypedRange

# enum e820_type, arch/x86/include/asm/e820/types.h
TYPES = {
    MemoryKind.RAM: 1,
    MemoryKind.RESERVED: 2,
    MemoryKind.ACPI_TABLES: 3,
    MemoryKind.ACPI_NVS: 4,
    MemoryKind.UNUSABLE: 5,
    MemoryKind.PERSISTENT: 7,
    MemoryKind.PERSISTENT_LEGACY: 12,
    MemoryKind.SOFT_RESERVED: 0xEFFFFFFF,
}

# struct boot_e820_entry; packed by hand because a machine may have many thousand entries.
_ENTRY = struct.Struct("<QQI")


def pack(entries: Iterable[TypedRange]) -> bytes:
    """Return an array of struct boot_e820_entry. Raises MachineError for a range of all addresses."""
    try:
        return b"".join(_ENTRY.pack(e.range.start, e.range.size, TYPES[e.kind]) for e in entries)
    except struct.error:
        raise MachineError("the memory map is one range of all addresses, which no machine has") from None
