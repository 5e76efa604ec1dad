"""/sys/firmware/memmap: the firmware's memory map, before the kernel or mem= changed anything."""

from collections.abc import Mapping

from pykexec import log
from pykexec.errors import MachineError
from pykexec.machine.root import Root
from pykexec.machine.sysfs import read_number, read_text
from pykexec.memory import MemoryKind, MemoryMap, Range, TypedRange

_FOLDER = "sys/firmware/memmap"

# e820_type_to_string() in arch/x86/kernel/e820.c, in the spellings of all versions
_KINDS: Mapping[str, MemoryKind] = {
    "System RAM": MemoryKind.RAM,
    "ACPI Tables": MemoryKind.ACPI_TABLES,
    "ACPI Non-volatile Storage": MemoryKind.ACPI_NVS,
    "Unusable memory": MemoryKind.UNUSABLE,
    "Persistent Memory": MemoryKind.PERSISTENT,
    "Persistent Memory (legacy)": MemoryKind.PERSISTENT_LEGACY,
    "Soft Reserved": MemoryKind.SOFT_RESERVED,
    "Reserved": MemoryKind.RESERVED,
    "reserved": MemoryKind.RESERVED,
    "Unknown E820 type": MemoryKind.RESERVED,
}


def read(root: Root) -> MemoryMap | None:
    """Return the firmware's map; None where the kernel does not show it. Raises MachineError."""
    numbers = sorted(filter(str.isdecimal, root.names(_FOLDER)), key=int)
    if not numbers:
        return None
    return MemoryMap(_entry(root, f"{_FOLDER}/{number}") for number in numbers)


def _entry(root: Root, folder: str) -> TypedRange:
    start, end = (read_number(root, f"{folder}/{name}") for name in ("start", "end"))
    name = read_text(root, f"{folder}/type")
    if start is None or end is None or name is None:
        raise MachineError(f"/{folder} has not all of the files start, end and type")
    if start < 0 or end < start - 1:
        raise MachineError(f"/{folder}: the end {end:#x} is below the start {start:#x}")
    if name not in _KINDS:
        log.debug("/%s/type is %r: taken as reserved", folder, name)
    return TypedRange(Range(start, end + 1), _KINDS.get(name, MemoryKind.RESERVED))
