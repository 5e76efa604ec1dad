"""Results, and how they are shown."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

_TIMES, _AT_MOST = "\N{MULTIPLICATION SIGN}", "\N{LESS-THAN OR EQUAL TO}"


@dataclass(frozen=True, slots=True)
class Reference:
    """What a result is divided by before it is held against its target."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Row:
    """One result."""

    case: str
    """The name that --only knows."""
    what: str
    unit: str
    """"s", "B", or what is counted."""
    pykexec: float
    limit: float
    """The target: the most that `ratio` may be."""
    kexec: float | None = None
    """The C tool's; None where it has nothing like it."""
    reference: Reference | None = None
    """None: the limit is in the row's own unit."""
    other: str = "C kexec"
    """The program that pykexec is compared with, as the table's heading."""

    @classmethod
    def against_kexec(
        cls, case: str, what: str, unit: str, pykexec: float, kexec: float, limit: float
    ) -> "Row":
        """A row whose target is a part of what the C tool takes."""
        return cls(case, what, unit, pykexec, limit, kexec, Reference("C", kexec))

    @classmethod
    def against(
        cls, case: str, what: str, unit: str, pykexec: float, other: Reference, limit: float
    ) -> "Row":
        """A row whose target is a part of what another program takes."""
        return cls(case, what, unit, pykexec, limit, other.value, other, other.name)

    @property
    def ratio(self) -> float:
        return self.pykexec / (self.reference.value if self.reference else 1)

    @property
    def met(self) -> bool:
        """Whether the target is met; what is shown rounded is compared as it is."""
        return self.ratio <= self.limit


def as_text(rows: Sequence[Row]) -> str:
    """For a terminal."""
    lines = [_headings(rows), *(tuple(cell.replace("`", "") for cell in _cells(row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(_aligned(cells, widths) + "\n" for cells in lines)


def as_markdown(rows: Sequence[Row]) -> str:
    """For the README."""
    lines = [_headings(rows), ("---", "---:", "---:", "---:", "---:"), *map(_cells, rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def as_json(rows: Iterable[Row]) -> str:
    """Everything, unrounded: seconds, bytes, counts."""
    found = [
        {
            "case": row.case,
            "what": row.what,
            "unit": row.unit,
            "pykexec": row.pykexec,
            "kexec": row.kexec,
            "reference": row.reference and asdict(row.reference),
            "ratio": row.ratio,
            "limit": row.limit,
            "met": row.met,
        }
        for row in rows
    ]
    return json.dumps(found, indent=1) + "\n"


def quantity(value: float, unit: str) -> str:
    """Three digits and a unit a person reads."""
    if unit == "B":
        return f"{_digits(value / 1e6)} MB"
    if unit == "s":
        return f"{_digits(value)} s" if value >= 1 else f"{_digits(value * 1e3)} ms"
    return _digits(value)


def _headings(rows: Sequence[Row]) -> tuple[str, ...]:
    return "case", "pykexec", rows[0].other if rows else "", "ratio", "target"


def _cells(row: Row) -> tuple[str, ...]:
    if row.reference:
        ratio, limit = f"{row.ratio:.2f} {_TIMES} {row.reference.name}", f"{row.limit:.2f}"
    else:
        ratio, limit = "", quantity(row.limit, row.unit)
    kexec = "" if row.kexec is None else quantity(row.kexec, row.unit)
    target = f"{_AT_MOST} {limit}" if row.met else f"missed: {_AT_MOST} {limit}"
    return row.what, quantity(row.pykexec, row.unit), kexec, ratio, target


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = cells
    return "  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]).rstrip()


def _digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
