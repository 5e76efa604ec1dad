"""A plan as text, for people; addresses are physical and written as in /proc/iomem."""

from __future__ import annotations

from pykexec.errors import printable
from pykexec.memory import RangeSet, size_text
from pykexec.plan import KEXEC_ON_CRASH, FileLoadPlan, LoadPlan
from pykexec.purpose import Purpose
from pykexec.terminal import WIDTH, folded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pykexec.memory import Range
    from pykexec.report.surroundings import Surroundings

_KEYS = 14
"""The columns for the names of what is told in one line."""
_REASON_MIN = 24
"""The columns that a reason takes at least; where there are fewer, it gets lines of its own."""


def as_text(
    plan: LoadPlan | FileLoadPlan, surroundings: Surroundings | None = None, columns: int = WIDTH
) -> str:
    """Return the plan as lines of that width; `surroundings` tell what of a reservation is used."""
    if isinstance(plan, FileLoadPlan):
        lines = _file_lines(plan, columns)
    else:
        lines = _lines(plan, surroundings.reserved if surroundings else (), columns)
    return "\n".join(lines) + "\n"


def _file_lines(plan: FileLoadPlan, columns: int) -> Iterator[str]:
    heading = f"{plan.purpose.value} load for {plan.arch} with kexec_file_load: the kernel places everything"
    yield from _folded(heading, columns)
    facts = {
        "kernel": _file(plan.kernel.path, plan.kernel.size),
        "initrd": _file(plan.initrd.path, plan.initrd.size) if plan.initrd else "none",
        "command line": plan.command_line,
        "flags": f"{plan.flags:#x}",
    }
    yield from _facts(facts, plan.taken, columns)
    yield from _warnings(plan, columns)


def _file(path: str, size: int) -> str:
    return f"{path} ({size_text(size)})"


def _lines(plan: LoadPlan, reserved: Sequence[Range], columns: int) -> Iterator[str]:
    yield from _folded(f"{plan.purpose.value} load for {plan.arch}", columns)
    facts = {
        "kernel": f"{plan.image} ({plan.image_format})",
        "initrd": plan.initrd or "none",
        "command line": plan.command_line,
        "entry": f"{plan.entry:#x}",
        "flags": f"{plan.flags:#x}{' (KEXEC_ON_CRASH)' if plan.flags & KEXEC_ON_CRASH else ''}",
    }
    if plan.tried_first:
        first = f"{plan.tried_first}; if the running kernel refuses that, kexec_load as follows"
        facts = {"system call": first, **facts}
    if plan.purpose is Purpose.CRASH and reserved:
        facts["reservation"] = "; ".join(_usage(each, plan) for each in reserved)
    yield from _facts(facts, plan.taken, columns)
    yield ""
    yield "segments (physical addresses)"
    yield from _segments(plan, columns)
    yield ""
    yield "memory map for the loaded kernel"
    yield from _memory_map(plan, columns)
    for what in plan.losses:
        yield from _folded(f"with kexec_load: {what} will not be handed on", columns)
    yield from _warnings(plan, columns)


def _usage(place: Range, plan: LoadPlan) -> str:
    """Return what of a reservation its segments take."""
    used = RangeSet(each.range for each in plan.segments).intersect([place]).size
    return f"{place}, {size_text(place.size)}: {size_text(used)} used, {size_text(place.size - used)} free"


def _facts(facts: dict[str, str], taken: Sequence[str], columns: int) -> Iterator[str]:
    for key, value in (*facts.items(), *(("taken", each) for each in taken)):
        first, *others = _folded(value, columns - _KEYS, "")
        yield f"{key:<{_KEYS}}{first}".rstrip(" ")
        yield from (" " * _KEYS + each for each in others)


def _segments(plan: LoadPlan, columns: int) -> Iterator[str]:
    rows = [
        (each.name, str(each.range), size_text(each.memsz), size_text(each.data.nbytes), each.why)
        for each in plan.segments
    ]
    yield from _table(("name", "addresses", "in memory", "loaded", "why there"), rows, "<<>>", columns)


def _memory_map(plan: LoadPlan, columns: int) -> Iterator[str]:
    rows = [(str(each.range), size_text(each.range.size), each.kind.value) for each in plan.memory_map]
    yield from _table(("addresses", "size", "kind"), rows, "<>", columns)


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], alignments: str, columns: int
) -> Iterator[str]:
    """Yield a table whose last column is folded.

    The other columns have an alignment each, as in format(), and are as wide as what is in them.
    """
    cells = [[printable(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)][:-1]
    indent = sum(widths) + 2 * len(heads)
    room = columns - indent
    for row in cells:
        fixed = zip(row[:-1], alignments, widths, strict=True)
        start = "".join(f"  {cell:{side}{width}}" for cell, side, width in fixed) + "  "
        if room >= min(_REASON_MIN, max(len(row[-1]) for row in cells)):
            first, *others = folded(row[-1], room)
            yield (start + first).rstrip(" ")
            yield from (" " * indent + each for each in others)
        else:
            yield start.rstrip(" ")
            if row is not cells[0]:
                yield from (" " * 6 + each for each in folded(row[-1], columns - 6))


def _warnings(plan: LoadPlan | FileLoadPlan, columns: int) -> Iterator[str]:
    for warning in plan.warnings:
        yield from _folded(f"warning: {warning}", columns)


def _folded(text: str, columns: int, indent: str = "    ") -> list[str]:
    return folded(printable(text), columns, indent=indent)
