"""The doctor's checks as a list, and what one of them is about."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pykexec.errors import UsageError
from pykexec.kdump.doctor.finding import Check, Stage
from pykexec.terminal import WIDTH, folded

SCHEMA = 1
"""The version of the JSON form."""


def find(checks: Sequence[Check], id: str) -> Check:
    """Return the check with that id, in capital letters or not. Raises UsageError."""
    found = next((check for check in checks if check.id == id.upper()), None)
    if found is None:
        raise UsageError(f"no check has the id {id[:40]!r}", hint="pykdump doctor --list names all")
    return found


def as_list(checks: Sequence[Check]) -> str:
    """Return a line for each check, by stage: its id, and what is true when nothing is wrong."""
    return "\n".join(_list(checks)) + "\n"


def _list(checks: Sequence[Check]) -> Iterator[str]:
    for stage in Stage:
        yield f"{stage.value}:"
        yield from (f"  {check.id:<4} {check.title}" for check in checks if check.stage is stage)


def as_explanation(check: Check, columns: int = WIDTH) -> str:
    """Return what a check is about, folded to that many columns."""
    lines = folded(f"{check.title} ({check.stage.value})", columns, first=f"{check.id}: ")
    for label, text in (("looks at", check.looks_at), ("matters", check.matters), ("to mend", check.mend)):
        lines += folded(text, columns, first=f"  {label + ':':<10}")
    return "\n".join(lines) + "\n"


def as_json(checks: Sequence[Check]) -> str:
    """Return the checks as one JSON object; ids are stable."""
    return json.dumps({"schema": SCHEMA, "checks": [_object(check) for check in checks]}, indent=2) + "\n"


def _object(check: Check) -> dict[str, str]:
    return {
        "id": check.id,
        "stage": check.stage.name.lower(),
        "title": check.title,
        "looks_at": check.looks_at,
        "matters": check.matters,
        "mend": check.mend,
    }
