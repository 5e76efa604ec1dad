"""What came of a rehearsal, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec.errors import printable
from pykexec.kdump.console import diagnosis
from pykexec.kdump.rehearsal.verdict import Found, Result
from pykexec.memory import MIB
from pykexec.terminal import folded

SCHEMA = 1
"""The version of the JSON form."""


@dataclass(frozen=True, slots=True)
class Report:
    """A rehearsal, and what was found out beside it."""

    result: Result
    reservation: int
    """What the first kernel was to reserve, in bytes."""
    smallest: int | None = None
    """The smallest reservation that a dump came of; None where that was not looked for."""
    console: Path | None = None
    """Where the console's log is kept."""


def as_text(report: Report, columns: int | None = None) -> str:
    """Return the report for people, folded to that many columns."""
    return "\n".join(_lines(report, columns)) + "\n"


def _lines(report: Report, columns: int | None) -> Iterator[str]:
    result = report.result
    if result.is_good:
        yield from folded(printable(f"rehearsed: {result.ending.cause}"), columns)
        if result.ending.remedy:
            yield from folded(result.ending.remedy, columns, first="  ")
    else:
        ending = replace(result.ending, cause=printable(result.ending.cause))
        yield from f"failed: {diagnosis.as_text(ending, columns)}".splitlines()
    for each in result.passed:
        yield f"  {each.seconds:6.1f} s  {each.milestone.value}"
    if result.dump is not None and result.dump.size:
        size = f"{result.dump.size / MIB:.1f} MiB"
        is_whole = result.dump.was_read and not result.dump.problems
        good = ", whole, with the log of the crash, and registers" if is_whole else ""
        yield from folded(f"{size}{good}", columns, first="dump      ")
    yield from folded(f"{report.reservation // MIB} MiB", columns, first="reserved  ")
    if report.smallest is not None:
        least = f"{report.smallest // MIB} MiB is the least that a dump comes of on this emulated machine"
        yield from folded(least, columns, first="smallest  ")
    if report.console is not None:
        yield from folded(printable(str(report.console)), columns, first="console   ")
    yield "This cannot show:"
    for text in result.unproven:
        yield from folded(printable(text), columns, first="  - ")


def as_json(report: Report) -> str:
    """Return the report as one JSON object: sizes in bytes, times in seconds."""
    result = report.result
    found = {
        "schema": SCHEMA,
        "rehearsed": result.is_good,
        "ending": diagnosis.as_object(result.ending),
        "passed": [
            {"milestone": each.milestone.name.lower(), "seconds": round(each.seconds, 1)}
            for each in result.passed
        ],
        "dump": result.dump and _dump(result.dump),
        "unproven": list(result.unproven),
        "seconds": round(result.seconds, 1),
        "reservation": report.reservation,
        "smallest": report.smallest,
        "console": None if report.console is None else str(report.console),
    }
    return json.dumps(found, indent=2) + "\n"


def _dump(dump: Found) -> dict[str, object]:
    return {"size": dump.size, "problems": list(dump.problems), "was_read": dump.was_read}
