"""What `pykdump status` prints: a screen for people, and a JSON object for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pykexec.errors import printable
from pykexec.kdump.rehearsal.receipt import Compared
from pykexec.kdump.service.dumps import Dump
from pykexec.kdump.service.receipt import Receipt
from pykexec.kdump.service.state import State
from pykexec.memory import MIB
from pykexec.terminal import WIDTH, folded

SCHEMA = 1
"""The version of the JSON form."""

_LINES_MAX = 10
_FIELD_LINES_MAX = 3  # of one field: texts in it may be from outside
_LABEL = 10


def as_text(state: State, columns: int = WIDTH) -> str:
    """Return a text of at most ten lines, folded to that many columns; the newest dumps are in it."""
    head = [line for label, text in _fields(state) for line in _field(label, text, columns)]
    tail = _field("dumps", _dumps(state), columns)
    lines = [*head[: _LINES_MAX - len(tail)], *tail]
    for dump in state.dumps[:_LINES_MAX]:
        more = _field("", f"{dump.folder.name}  {dump.summary}", columns)
        lines += more if len(lines) + len(more) <= _LINES_MAX else []
    return "\n".join(lines) + "\n"


def _field(label: str, text: str, columns: int) -> list[str]:
    return folded(
        printable(text),
        columns,
        first=f"{f'{label}:' if label else '':{_LABEL}}",
        lines_max=_FIELD_LINES_MAX,
    )


def _fields(state: State) -> Iterator[tuple[str, str]]:
    """Yield labels and texts, the most important first."""
    judgement = state.judgement
    yield "armed", str(judgement)
    if judgement.next is not None:
        yield "next", str(judgement.next)
    for newest in state.rehearsals.newer[:1]:
        yield "update", _of_newer(newest)
    if state.problem:
        yield "problem", state.problem
    if state.receipt:
        yield "kernel", f"{state.receipt.kernel} ({state.receipt.system_call}, {state.receipt.time})"
        yield "initrd", state.receipt.initrd
        yield "target", state.receipt.target
    if state.reserved is not None:
        yield "reserved", f"{state.reserved / MIB:.0f} MiB{_measured(state)}"
    if state.size is not None:
        free = "" if state.free is None else f"; {state.free / MIB:,.0f} MiB are free"
        yield "size", f"about {state.size / MIB:,.0f} MiB before compression{free}"


def _of_newer(found: Compared) -> str:
    """Return what a rehearsal has shown of a newer kernel, for people."""
    then = found.rehearsed
    ending = "its capture left a dump" if then.is_passed else f"its capture failed: {then.failure}"
    since = f"; changed since: {', '.join(found.changed)}" if found.changed else ""
    return f"the new kernel {then.first_kernel}: {ending} (rehearsed on {then.date}{since})"


def _measured(state: State) -> str:
    """Return what a rehearsal of what is loaded has measured, for people."""
    last = state.rehearsals.running
    if last is None or not last.shows_dump or last.rehearsed.measured is None:
        return ""
    size = last.rehearsed.measured
    return f"; measured by a rehearsal on {last.rehearsed.date}: {size / MIB:.0f} MiB are needed"


def _dumps(state: State) -> str:
    if state.folder is None:
        known = "cannot be looked at from here" if not state.problem else "is not known"
        return f"where they go {known}"
    if state.unseen:
        return state.unseen
    passed_over = f"; {state.passed_over} that others can change" if state.passed_over else ""
    return f"{len(state.dumps)} in {state.folder}{passed_over}"


def as_json(state: State) -> str:
    """Return one JSON object; sizes are in bytes, times in seconds since 1970."""
    step, last = state.judgement.next, state.rehearsals.running
    content = {
        "schema": SCHEMA,
        "armed": state.is_armed,
        "proven": state.is_proven,
        "rehearsed": state.is_rehearsed,
        "why": state.judgement.why,
        "next": None if step is None else {"command": step.command, "purpose": step.purpose},
        "problem": state.problem or None,
        "loaded": None if state.receipt is None else _loaded(state.receipt),
        "reserved": state.reserved,
        "folder": None if state.folder is None else str(state.folder),
        "free": state.free,
        "expected_size": state.size,
        "dumps": [_dump(each) for each in state.dumps] if state.dumps_are_known else None,
        "passed_over": state.passed_over,
        "unseen": state.unseen or None,
        "test": state.trial.name.lower(),
        "rehearsal": None if last is None else _rehearsal(last),
        "newer_kernels": [_rehearsal(each) for each in state.rehearsals.newer],
    }
    return json.dumps(content, indent=2) + "\n"


def _loaded(receipt: Receipt) -> dict[str, str]:
    return {
        "kernel": receipt.kernel,
        "initrd": receipt.initrd,
        "command_line": receipt.command_line,
        "target": receipt.target,
        "system_call": receipt.system_call,
        "time": receipt.time,
        "version": receipt.version,
    }


def _rehearsal(found: Compared) -> dict[str, object]:
    then = found.rehearsed
    return {
        "kernel": then.first_kernel,
        "time": then.time,
        "passed": then.is_passed,
        "stage": None if then.is_passed else then.verdict,
        "cause": then.cause or None,
        "changed": list(found.changed),
        "reservation": then.reservation,
        "smallest": then.smallest,
        "high_water": then.high_water,
        "seconds": then.seconds,
        "version": then.version,
    }


def _dump(dump: Dump) -> dict[str, object]:
    return {
        "folder": str(dump.folder),
        "size": dump.size,
        "complete": dump.is_whole,
        "log": dump.has_log,
        "time": dump.time,
    }
