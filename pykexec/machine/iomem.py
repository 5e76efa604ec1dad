"""/proc/iomem: the use of physical memory, as the running kernel sees it."""

from collections.abc import Mapping
from functools import cached_property

from pykexec.errors import MachineError
from pykexec.memory import MemoryKind, MemoryMap, Range, RangeSet, TypedRange
from pykexec.values import dataclass, field

_SPAN_MAX = len("ffffffffffffffff-ffffffffffffffff")

_LINES_MAX = 1 << 16
"""Large machines have some thousand lines."""

_KINDS: Mapping[str, MemoryKind] = {
    "system ram": MemoryKind.RAM,
    "reserved": MemoryKind.RESERVED,
    "unknown e820 type": MemoryKind.RESERVED,
    "unusable memory": MemoryKind.UNUSABLE,
    "acpi tables": MemoryKind.ACPI_TABLES,
    "acpi non-volatile storage": MemoryKind.ACPI_NVS,
    "persistent memory": MemoryKind.PERSISTENT,
    "persistent memory (legacy)": MemoryKind.PERSISTENT_LEGACY,
    "soft reserved": MemoryKind.SOFT_RESERVED,
}

MEMORY_NAMES = ("crash kernel", "system ram", *(name for name in _KINDS if name != "system ram"))
"""The names of memory, in lower case, as they begin: "System RAM (kmem)" is of them, too."""


@dataclass(frozen=True, slots=True)
class IomemEntry:
    """One line: a range of physical addresses, its name, and its depth of nesting (0: top level)."""

    range: Range
    name: str
    depth: int


@dataclass(frozen=True)
class Iomem:
    """The contents of /proc/iomem, read once: it changes while memory is plugged."""

    entries: tuple[IomemEntry, ...] = field(repr=False)

    def find(self, name: str) -> tuple[Range, ...]:
        """Return all ranges of exactly that name, at any depth."""
        return tuple(entry.range for entry in self.entries if entry.name == name)

    @cached_property
    def crash_regions(self) -> tuple[Range, ...]:
        """The ranges that crashkernel= reserved, ascending.

        Mainline names every region "Crash kernel"; other trees distinguish "Crash kernel (low)".
        """
        named = {
            entry.range
            for entry in self.entries
            if entry.name == "Crash kernel" or entry.name.startswith("Crash kernel (")
        }
        return tuple(sorted(named))

    @cached_property
    def system_ram(self) -> RangeSet:
        """All RAM that a dump has, at any depth.

        It includes what drivers added: "System RAM (kmem)" or "(virtio_mem)".
        """
        return RangeSet(entry.range for entry in self.entries if "System RAM" in entry.name)

    @cached_property
    def memory_map(self) -> MemoryMap:
        """The lines that name a kind of memory, as firmware would list them."""
        return MemoryMap(
            TypedRange(entry.range, _KINDS[name])
            for entry in self.entries
            if (name := entry.name.lower()) in _KINDS
        )


def hides_addresses(data: bytes) -> bool:
    """Return whether all addresses in a /proc/iomem are zero, as readers without CAP_SYS_ADMIN see them."""
    spans = [line.partition(b" : ")[0] for line in data.splitlines()]
    return bool(spans) and not any(span.strip(b" 0-") for span in spans)


def memory_lines(data: bytes) -> bytes:
    """Return the lines of a /proc/iomem that tell of memory.

    Those of devices come and go with drivers, those of the kernel's own parts are others after each boot.
    """
    names = tuple(name.encode() for name in MEMORY_NAMES)
    lines = data.splitlines(keepends=True)
    return b"".join(line for line in lines if line.partition(b" : ")[2].lower().startswith(names))


def parse_ranges(path: str, text: str) -> list[Range]:
    """Read lines START-END, hexadecimal and inclusive.

    Raises MachineError, which names a line of another form.
    """
    ranges = []
    for line in text.split("\n"):
        start, _, end = line.partition("-")
        try:
            if len(line) > _SPAN_MAX:
                raise ValueError(line)
            ranges += [Range(int(start, 16), int(end, 16) + 1)] if line else []
        except ValueError:
            raise MachineError(f"{path} has a line that is not START-END: {line[:60]!r}") from None
    return ranges


def parse(text: str) -> Iomem:
    """Read the text of /proc/iomem. Raises MachineError, which names a line that is not of its form."""
    if text.count("\n") > _LINES_MAX:
        raise MachineError(f"/proc/iomem has more than {_LINES_MAX} lines")
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        span, separator, name = line.partition(" : ")
        stripped = span.lstrip(" ")
        start, dash, end = stripped.partition("-")
        try:
            entry_range = Range(int(start, 16), int(end, 16) + 1)
        except ValueError:
            separator = ""
        if not separator or not dash or len(stripped) > _SPAN_MAX:
            raise MachineError(f"/proc/iomem line {number} is not START-END : NAME: {line[:60]!r}")
        entries.append(IomemEntry(entry_range, name.strip(), (len(span) - len(stripped)) // 2))
    if not entries:
        raise MachineError("/proc/iomem is empty")
    if all(entry.range.end == 1 for entry in entries):
        raise MachineError(
            "/proc/iomem shows only zeros: the kernel hides addresses from readers without CAP_SYS_ADMIN",
            hint="run as root",
        )
    return Iomem(tuple(entries))
