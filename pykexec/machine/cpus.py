"""The places where the crashed kernel leaves its notes: each CPU's registers, and VMCOREINFO."""

from pykexec.errors import MachineError
from pykexec.machine.root import Root
from pykexec.machine.sysfs import number, read_number, read_text
from pykexec.values import dataclass

_CPUS = "sys/devices/system/cpu"
_NOTE_SIZE_BEFORE_3_10 = 1024  # there was no crash_notes_size yet


@dataclass(frozen=True, slots=True)
class NoteArea:
    """A piece of memory with ELF notes: its physical address and its size in bytes."""

    address: int
    size: int


@dataclass(frozen=True, slots=True)
class CpuNotes(NoteArea):
    """The note area of one CPU."""

    cpu: int


def read_cpu_notes(root: Root) -> tuple[CpuNotes, ...]:
    """Return the note areas of all CPUs that have one, ordered by CPU number; numbers may have gaps."""
    numbers = sorted(
        int(name[3:]) for name in root.names(_CPUS) if name[:3] == "cpu" and name[3:].isdecimal()
    )
    notes = []
    for cpu in numbers:
        folder = f"{_CPUS}/cpu{cpu}"
        address = read_number(root, f"{folder}/crash_notes", 16)
        if address is not None:
            size = read_number(root, f"{folder}/crash_notes_size", 10)
            if address < 0 or (size or 0) < 0:
                raise MachineError(f"/{folder} has crash_notes at {address:#x}, of {size} bytes")
            notes.append(CpuNotes(address, size or _NOTE_SIZE_BEFORE_3_10, cpu))
    return tuple(notes)


def read_vmcoreinfo(root: Root) -> NoteArea | None:
    """Read /sys/kernel/vmcoreinfo: physical address and size, both hexadecimal."""
    text = read_text(root, "sys/kernel/vmcoreinfo")
    if text is None:
        return None
    try:
        address, size = (number(word, 16) for word in text.split())
        if address < 0 or size < 0:
            raise ValueError(text)
    except ValueError:
        raise MachineError(f"/sys/kernel/vmcoreinfo is not ADDRESS SIZE: {text[:40]!r}") from None
    return NoteArea(address, size)
