"""Ranges of physical memory, sets of them, typed maps of them, and the search for free room in them.

A `Range` is half-open, ``[start, end)``, in bytes. Inclusive ends exist only in the text of /proc/iomem and
in the files of /sys/firmware/memmap; the parsers convert them.
"""

import bisect
import enum
from collections.abc import Iterable, Iterator
from itertools import pairwise
from operator import attrgetter

from pykexec.values import dataclass, field

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


def align_up(value: int, alignment: int) -> int:
    """Return the smallest multiple of `alignment` (any positive number) that is not below `value`."""
    return -(-value // alignment) * alignment


def align_down(value: int, alignment: int) -> int:
    """Return the largest multiple of `alignment` (any positive number) that is not above `value`."""
    return value // alignment * alignment


_UNITS = ((1 << 50, "PiB"), (1 << 40, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))


def size_text(size: int) -> str:
    """Return a number of bytes for people: "4 KiB", "63.3 MiB"; what is no whole unit is rounded down."""
    for unit, name in _UNITS:
        if size >= unit:
            whole, tenths = divmod(size * 10 // unit, 10)
            return f"{whole} {name}" if size % unit == 0 else f"{whole}.{tenths} {name}"
    return f"{size} B"


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """The addresses from `start` up to, but not including, `end`. It may be empty, never negative."""

    start: int
    """The first address."""
    end: int
    """The first address after it."""

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"not a range: {self.start:#x}..{self.end:#x}")

    @classmethod
    def sized(cls, start: int, size: int) -> "Range":
        """Return the range of `size` bytes that begins at `start`."""
        return cls(start, start + size)

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.end - self.start

    def __bool__(self) -> bool:
        return self.end > self.start

    def __contains__(self, address: int) -> bool:
        return self.start <= address < self.end

    def covers(self, other: "Range") -> bool:
        """Return whether every address of `other` is in this range (an empty range is in every range)."""
        return not other or (self.start <= other.start and other.end <= self.end)

    def overlaps(self, other: "Range") -> bool:
        """Return whether the two have an address in common."""
        return bool(self and other) and self.start < other.end and other.start < self.end

    def intersect(self, other: "Range") -> "Range":
        """Return the addresses in both; an empty range where there are none."""
        start = max(self.start, other.start)
        return Range(start, max(start, min(self.end, other.end)))

    def aligned_inwards(self, alignment: int) -> "Range":
        """Return the largest part of this range whose two ends are multiples of `alignment`."""
        if self.start % alignment == self.end % alignment == 0:
            return self
        start = align_up(self.start, alignment)
        return Range(start, max(start, align_down(self.end, alignment)))

    def aligned_outwards(self, alignment: int) -> "Range":
        """Return the smallest range around this one whose two ends are multiples of `alignment`."""
        return Range(align_down(self.start, alignment), align_up(self.end, alignment))

    def __str__(self) -> str:
        """Return the range as /proc/iomem writes it: hexadecimal, the end inclusive."""
        return f"{self.start:08x}-{self.end - 1:08x}" if self else f"{self.start:08x}-(empty)"


@dataclass(frozen=True, slots=True)
class RangeSet:
    """A set of addresses, kept as sorted ranges that neither overlap nor touch.

    It can be built from any ranges: adjacent and overlapping ones are merged, empty ones dropped. Operations
    return new sets, in time linear in the number of ranges.
    """

    ranges: tuple[Range, ...] = field(default=())

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        object.__setattr__(self, "ranges", tuple(_merged(ranges)))

    def __iter__(self) -> Iterator[Range]:
        return iter(self.ranges)

    def __len__(self) -> int:
        return len(self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    @property
    def size(self) -> int:
        """The number of bytes in the set."""
        return sum(each.size for each in self.ranges)

    def covers(self, part: Range) -> bool:
        """Return whether every address of `part` is in the set."""
        if not part:
            return True
        index = bisect.bisect_right(self.ranges, part.start, key=attrgetter("start")) - 1
        return index >= 0 and self.ranges[index].covers(part)

    def union(self, other: Iterable[Range]) -> "RangeSet":
        """Return the addresses in either."""
        return RangeSet((*self.ranges, *other))

    def intersect(self, other: Iterable[Range]) -> "RangeSet":
        """Return the addresses in both."""
        theirs = other if isinstance(other, RangeSet) else RangeSet(other)
        return _in_order(_intersections(self.ranges, theirs.ranges))

    def minus(self, other: Iterable[Range]) -> "RangeSet":
        """Return the addresses that are only in this set."""
        theirs = other if isinstance(other, RangeSet) else RangeSet(other)
        return _in_order(_differences(self.ranges, theirs.ranges))

    def aligned_inwards(self, alignment: int) -> "RangeSet":
        """Return every range cut to whole multiples of `alignment`; ranges that are too small vanish."""
        return RangeSet(each.aligned_inwards(alignment) for each in self.ranges)


def _in_order(ranges: Iterable[Range]) -> RangeSet:
    """Return a set of ranges that are already sorted and apart, as parts of sets are."""
    result = RangeSet()
    object.__setattr__(result, "ranges", tuple(ranges))
    return result


def _merged(ranges: Iterable[Range]) -> Iterator[Range]:
    current: Range | None = None
    for each in sorted(filter(None, ranges), key=attrgetter("start")):
        if current is None:
            current = each
        elif each.start <= current.end:
            current = Range(current.start, max(current.end, each.end))
        else:
            yield current
            current = each
    if current is not None:
        yield current


def _intersections(ours: tuple[Range, ...], theirs: tuple[Range, ...]) -> Iterator[Range]:
    i = j = 0
    while i < len(ours) and j < len(theirs):
        start, end = max(ours[i].start, theirs[j].start), min(ours[i].end, theirs[j].end)
        if start < end:
            yield ours[i] if end - start == ours[i].size else Range(start, end)
        if ours[i].end < theirs[j].end:
            i += 1
        else:
            j += 1


def _differences(ours: tuple[Range, ...], theirs: tuple[Range, ...]) -> Iterator[Range]:
    j = 0
    for each in ours:
        start = each.start
        while j < len(theirs) and theirs[j].end <= start:
            j += 1
        k = j
        while k < len(theirs) and theirs[k].start < each.end:
            if start < theirs[k].start:
                yield Range(start, theirs[k].start)
            start = min(each.end, theirs[k].end)
            k += 1
        if start < each.end:
            yield each if start == each.start else Range(start, each.end)
        j = max(j, k - 1)


class Placement(enum.Enum):
    """Which of the places that fit to take."""

    LOWEST = "lowest"
    HIGHEST = "highest"


def find_hole(
    free: RangeSet, size: int, alignment: int, *, within: Range, placement: Placement
) -> int | None:
    """Return an aligned address at which `size` bytes lie wholly in `free` and in `within`, or None.

    `size` must be positive. `alignment` is any positive number (a page, 2 MiB, ...).
    """
    if size <= 0 or alignment <= 0:
        raise ValueError(f"no hole has size {size:#x} and alignment {alignment:#x}")
    ranges = free.ranges if placement is Placement.LOWEST else reversed(free.ranges)
    for each in ranges:
        candidate = each.intersect(within)
        if placement is Placement.LOWEST:
            start = align_up(candidate.start, alignment)
        else:
            start = align_down(candidate.end - size, alignment)
        if candidate.start <= start and start + size <= candidate.end:
            return start
    return None


class MemoryKind(enum.Enum):
    """The use of a range of physical memory, by the names of firmware and the kernel."""

    RAM = "System RAM"
    RESERVED = "Reserved"
    ACPI_TABLES = "ACPI Tables"
    ACPI_NVS = "ACPI Non-volatile Storage"
    UNUSABLE = "Unusable memory"
    PERSISTENT = "Persistent Memory"
    PERSISTENT_LEGACY = "Persistent Memory (legacy)"
    SOFT_RESERVED = "Soft Reserved"


@dataclass(frozen=True, slots=True, order=True)
class TypedRange:
    """A range of physical memory and its kind."""

    range: Range
    kind: MemoryKind = field(compare=False)

    def __str__(self) -> str:
        return f"{self.range} : {self.kind.value}"


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """Typed ranges in ascending order that do not overlap; neighbours of one kind are merged.

    Where given ranges overlap, RAM gives way to every other kind: memory which any source calls reserved
    must not be handed out as RAM. Among the other kinds the one that was given first keeps the addresses.
    """

    entries: tuple[TypedRange, ...] = ()

    def __init__(self, entries: Iterable[TypedRange] = ()) -> None:
        object.__setattr__(self, "entries", tuple(_without_overlaps(entries)))

    def __iter__(self) -> Iterator[TypedRange]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def of(self, *kinds: MemoryKind) -> RangeSet:
        """Return all addresses of these kinds."""
        return RangeSet(entry.range for entry in self.entries if entry.kind in kinds)

    @property
    def ram(self) -> RangeSet:
        """The memory that an operating system may use as it likes."""
        return self.of(MemoryKind.RAM)


def _without_overlaps(entries: Iterable[TypedRange]) -> list[TypedRange]:
    given = [entry for entry in entries if entry.range]
    ordered = sorted(given, key=attrgetter("range.start"))
    apart = all(one.range.end <= other.range.start for one, other in pairwise(ordered))
    return _joined(ordered) if apart else _sorted_out(given)


def _joined(ordered: list[TypedRange]) -> list[TypedRange]:
    """Merge neighbours of one kind that touch."""
    result: list[TypedRange] = []
    for entry in ordered:
        last = result[-1] if result else None
        if last and last.kind is entry.kind and last.range.end == entry.range.start:
            result[-1] = TypedRange(Range(last.range.start, entry.range.end), entry.kind)
        else:
            result.append(entry)
    return result


def _sorted_out(entries: list[TypedRange]) -> list[TypedRange]:
    """Give every address to one kind, and merge the ranges of each kind."""
    by_kind: dict[MemoryKind, list[Range]] = {}
    for entry in entries:
        by_kind.setdefault(entry.kind, []).append(entry.range)
    taken = RangeSet()
    result: list[TypedRange] = []
    # RAM gives way to everything else; among the others the order in the source decides.
    for kind in sorted(by_kind, key=lambda kind: kind is MemoryKind.RAM):
        own = RangeSet(by_kind[kind]).minus(taken)
        result.extend(TypedRange(each, kind) for each in own)
        if kind is not MemoryKind.RAM:  # RAM is the last, and has the most ranges
            taken = taken.union(own)
    return sorted(result, key=attrgetter("range.start"))
