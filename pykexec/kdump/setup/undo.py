"""Decide what takes back what setup has done. What an administrator has changed since stays, and is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from pykexec import writing
from pykexec.kdump.service import installation
from pykexec.kdump.setup.change import Command, Edit
from pykexec.kdump.setup.receipt import Ran, Record, Unit, Wrote
from pykexec.kdump.setup.steps import InstallUnit, Remove, Run, Step, Write


@dataclass(frozen=True, slots=True)
class Undo:
    """What takes back one record of the receipt."""

    record: Record
    steps: tuple[Step, ...] = ()
    left: str = ""
    """What stays, and why."""


def make(records: Sequence[Record], root: Path = Path("/")) -> list[Undo]:
    """Return what takes back all records, in that order. Raises FileError.

    The last step is the first to be taken back; but menus are made of files, so that comes after these.
    """
    found: list[Undo] = []
    texts: dict[str, str | None] = {}
    for record in reversed(records):
        if isinstance(record, Wrote):
            found.append(_file(record, root, texts))
    seen: set[tuple[tuple[str, ...], ...]] = set()
    others = [each for each in reversed(records) if not isinstance(each, Wrote)]
    commands = [each for each in others if not _refreshes(each)]
    refreshing = [each for each in others if _refreshes(each)]
    first = [_other(each, root, seen) for each in commands]
    return [*first, *found, *(_other(each, root, seen) for each in refreshing)]


def _refreshes(record: Record) -> bool:
    return isinstance(record, Ran) and record.refreshes


def _other(record: Record, root: Path, seen: set[tuple[tuple[str, ...], ...]]) -> Undo:
    if isinstance(record, Unit):
        steps = tuple(installation.removal(root))
        return Undo(record, (InstallUnit(steps, is_installation=False),) if steps else ())
    assert isinstance(record, Ran)
    if record.refreshes and record.undo in seen:
        return Undo(record)
    seen.add(record.undo)
    return Undo(record, tuple(Run(Command(words)) for words in record.undo))


def _file(record: Wrote, root: Path, texts: dict[str, str | None]) -> Undo:
    """Return what brings back a file. `texts` has what steps before this one make of files."""
    if record.path not in texts:
        data = writing.read_file(root / record.path.lstrip("/"), root=root)
        try:
            texts[record.path] = None if data is None else data.decode()
        except UnicodeDecodeError:
            return Undo(record, left=f"{record.path} stays: it is no text any more")
    current = texts[record.path]
    if current is None:
        return Undo(record)
    if record.before is None:
        if current != record.after:
            return Undo(record, left=f"{record.path} stays: it has been changed since")
        texts[record.path] = None
        return Undo(record, (Remove(record.path, current, root),))
    restored, lost = restore(record.before, record.after, current)
    left = f"{record.path} keeps lines that have been changed since: {'; '.join(lost)}" if lost else ""
    if restored == current:
        return Undo(record, left=left)
    texts[record.path] = restored
    return Undo(record, (Write(Edit(record.path, current, restored), root),), left)


def restore(before: str, after: str, current: str) -> tuple[str, list[str]]:
    """Return the current text with the lines of `before` in place of those that `after` has for them.

    Also return the lines of `after` that cannot be found, or could come from different ones.
    """
    if current == after:
        return before, []
    pairs = list(zip_longest(_lines(before), _lines(after)))
    lines = current.split("\n")
    restored: dict[int, str | None] = {}
    lost = []
    for new in dict.fromkeys(new for old, new in pairs if new is not None and new != old):
        olds = [old for old, each in pairs if each == new]
        places = [index for index, line in enumerate(lines) if line == new]
        if len(places) < len(olds) and len(set(olds)) == 1:  # an administrator has removed some
            olds = olds[: len(places)]
        if len(places) == len(olds):
            restored.update(zip(places, olds, strict=True))
        if len(places) != len(olds) or not (places or _is_back(pairs, new, lines)):
            lost.append(new)
    kept = [restored.get(index, line) for index, line in enumerate(lines)]
    return "\n".join(line for line in kept if line is not None), lost


def _is_back(pairs: Sequence[tuple[str | None, str | None]], new: str, lines: Sequence[str]) -> bool:
    """Return whether the lines are there that a new one has replaced."""
    return all(old is None or old in lines for old, each in pairs if each == new)


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")
