"""What a picture of a plan shows: columns of memory, each of blocks from low addresses to high ones.

`map` and `svg` draw the same picture. Sizes are drawn on a scale on which a page can still be seen beside a
terabyte.
"""

from __future__ import annotations

import enum
from itertools import groupby

from pykexec.errors import printable
from pykexec.memory import MemoryKind, Range, RangeSet, size_text
from pykexec.purpose import Purpose
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pykexec.plan import LoadPlan
    from pykexec.report.surroundings import Surroundings

PIECES_MAX = 24
"""The blocks of a whole machine's memory; where there are more, small neighbours are drawn as one."""


class Role(enum.Enum):
    """What a block is."""

    SEGMENT = "segment"
    FREE = "free"
    """Of a reservation, or of the RAM around segments: no segment takes it."""
    RESERVATION = "reservation"
    KERNEL = "kernel"
    """The running kernel."""
    RAM = "ram"
    FIRMWARE = "firmware"
    """Memory that firmware keeps, or that is no RAM for another reason."""
    HOLE = "hole"
    """No memory."""
    UNTOLD = "untold"
    """What the loaded kernel is not told of."""


@dataclass(frozen=True, slots=True)
class Block:
    """A range of physical addresses that is one thing."""

    range: Range
    role: Role
    name: str
    why: str = ""
    """The reason for the place of a segment."""
    loaded: int = 0
    """The bytes of a segment that come from the plan; the rest of it is zero."""
    entry: int | None = None
    """The address in it to which the running kernel jumps."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no memory, or none for the kernel that the column is of."""
        return self.role in (Role.HOLE, Role.UNTOLD)


@dataclass(frozen=True, slots=True)
class Column:
    """Memory as somebody sees it: blocks in ascending order, each begins where the one before ends."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def range(self) -> Range:
        """The addresses from its first block to its last one."""
        return Range(self.blocks[0].range.start, self.blocks[-1].range.end)


@dataclass(frozen=True, slots=True)
class Picture:
    """A plan as columns."""

    title: str
    summary: str
    facts: tuple[str, ...]
    """What is loaded."""
    now: Column
    """The running kernel's memory."""
    loaded: tuple[Column, ...]
    """Places in that memory, ascending, with all segments in them."""
    told: Column | None
    """The memory that the loaded kernel is told of; None where the plan does not say."""

    @property
    def sides(self) -> list[Column]:
        """The whole machine's memory as each kernel sees it."""
        return [self.now] if self.told is None else [self.now, self.told]


def of(plan: LoadPlan, surroundings: Surroundings) -> Picture:
    """Return the picture of a plan that has segments, which do not overlap."""
    crash = plan.purpose is Purpose.CRASH
    loaded = tuple(_place(each, plan, surroundings) for each in _places(plan, surroundings))
    used = sum(each.memsz for each in plan.segments)
    free = sum(each.range.size for each in loaded) - used
    told = None
    if plan.memory_map:
        told = Column(f"{'capture' if crash else 'new'} kernel's memory", summarised(_told(plan)))
    return Picture(
        f"{plan.purpose.value} load for {plan.arch}",
        _summary(plan, surroundings, used, free),
        (f"kernel {plan.image} ({plan.image_format})", f"initrd {plan.initrd or 'none'}"),
        Column("memory now", summarised(_now(surroundings, loaded))),
        loaded,
        told,
    )


def _summary(plan: LoadPlan, surroundings: Surroundings, used: int, free: int) -> str:
    if plan.purpose is not Purpose.CRASH or not surroundings.reserved:
        return f"{size_text(used)} of {size_text(used + free)} used"
    return f"{size_text(used)} of the reserved {size_text(used + free)} used, {size_text(free)} free"


def _places(plan: LoadPlan, surroundings: Surroundings) -> RangeSet:
    """Return the memory to show with the segments in it: reservations, or the RAM that takes segments."""
    places = RangeSet(surroundings.reserved if plan.purpose is Purpose.CRASH else ())
    rest = [each.range for each in plan.segments if not places.covers(each.range)]
    ram = (each for each in surroundings.memory.ram if any(each.overlaps(other) for other in rest))
    return places.union([*ram, *rest])


def _place(place: Range, plan: LoadPlan, surroundings: Surroundings) -> Column:
    crash = plan.purpose is Purpose.CRASH and RangeSet(surroundings.reserved).covers(place)
    segments = [
        Block(
            *(each.range, Role.SEGMENT, each.name, each.why, each.data.nbytes),
            entry=plan.entry if plan.entry in each.range else None,
        )
        for each in plan.segments
        if place.covers(each.range)
    ]
    return Column(
        "crashkernel" if crash else "System RAM",
        tuple(_without_gaps(segments, place, Role.FREE, "free" if crash else "not used")),
    )


def _now(surroundings: Surroundings, loaded: Sequence[Column]) -> list[Block]:
    """Return the running kernel's memory from address 0 to the last that is something."""
    layers: list[tuple[Iterable[Range], Role, str]] = [
        (surroundings.reserved, Role.RESERVATION, "crashkernel")
    ]
    if surroundings.kernel is not None:
        layers.append(([surroundings.kernel], Role.KERNEL, "running kernel"))
    layers += (
        (surroundings.memory.of(kind), _role(kind), _NAMES.get(kind, kind.value)) for kind in MemoryKind
    )
    layers.append(([each.range for each in loaded], Role.RAM, MemoryKind.RAM.value))
    blocks = sorted(_painted(layers), key=lambda block: block.range)
    return list(_without_gaps(blocks, Range(0, blocks[-1].range.end), Role.HOLE, "hole"))


def _painted(layers: Iterable[tuple[Iterable[Range], Role, str]]) -> Iterator[Block]:
    """Yield blocks that do not overlap: what comes first lies above what comes later."""
    taken = RangeSet()
    for ranges, role, name in layers:
        own = RangeSet(ranges)
        yield from (Block(each, role, name) for each in own.minus(taken))
        taken = taken.union(own)


def _told(plan: LoadPlan) -> list[Block]:
    blocks = [
        Block(entry.range, _role(entry.kind), _NAMES.get(entry.kind, entry.kind.value))
        for entry in plan.memory_map
    ]
    return list(_without_gaps(blocks, Range(0, blocks[-1].range.end), Role.UNTOLD, ""))


def _role(kind: MemoryKind) -> Role:
    return Role.RAM if kind is MemoryKind.RAM else Role.FIRMWARE


_NAMES = {MemoryKind.ACPI_NVS: "ACPI NVS", MemoryKind.PERSISTENT_LEGACY: "Persistent (legacy)"}
"""Shorter names, for blocks of 20 columns."""


def _without_gaps(blocks: Iterable[Block], whole: Range, role: Role, name: str) -> Iterator[Block]:
    """Yield the blocks, and one for each gap between them in `whole`."""
    end = whole.start
    for block in blocks:
        if end < block.range.start:
            yield Block(Range(end, block.range.start), role, name)
        yield block
        end = block.range.end
    if end < whole.end:
        yield Block(Range(end, whole.end), role, name)


_ALWAYS_SHOWN = (Role.RESERVATION, Role.KERNEL)


def summarised(blocks: Sequence[Block], most: int = PIECES_MAX) -> tuple[Block, ...]:
    """Return at most `most` blocks and those that are always shown, with the runs between them.

    The smallest neighbours become one block, as many as it takes.
    """
    limits = sorted({block.range.size for block in blocks})
    low, high = 0, len(limits)
    while low < high:  # the smallest limit will do; more are merged with each greater one
        middle = (low + high) // 2
        limit = limits[middle - 1] if middle else 0
        if len(_merged(blocks, limit)) <= most:
            high = middle
        else:
            low = middle + 1
    return _merged(blocks, limits[low - 1] if low else 0)


def _merged(blocks: Sequence[Block], limit: int) -> tuple[Block, ...]:
    """Return the blocks with neighbours merged that are no larger than the limit."""
    result: list[Block] = []
    for is_small, run in groupby(blocks, key=lambda block: _is_small(block, limit)):
        same = list(run)
        if not is_small or len(same) == 1:
            result += same
            continue
        whole = Range(same[0].range.start, same[-1].range.end)
        result.append(Block(whole, Role.FIRMWARE, f"{len(same)} small pieces"))
    return tuple(result)


def _is_small(block: Block, limit: int) -> bool:
    return block.range.size <= limit and block.role not in _ALWAYS_SHOWN


def boundaries(columns: Iterable[Column]) -> list[int]:
    """Return the addresses, ascending, at which something begins or ends in one of the columns."""
    blocks = [block.range for column in columns for block in column.blocks]
    return sorted({address for each in blocks for address in (each.start, each.end)})


ELLIPSIS = "…"


def cut(text: str, characters: int, end: str = ELLIPSIS) -> str:
    """Return a text in printable characters, no more than so many; `end` marks one that is cut."""
    text = printable(text)
    if len(text) <= characters:
        return text
    return f"{text[: characters - 1]}{end}" if characters > 0 else ""


def magnitude(size: int) -> int:
    """Return how large a block is drawn: 0 up to a page of 4 KiB, and one more for each power of two."""
    return max((size - 1).bit_length() - 12, 0)
