"""The receipt of what setup has done, from which it is taken back. Each step is noted before it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pykexec import writing
from pykexec.errors import FileError
from pykexec.kdump.files import STATE
from pykexec.kdump.service import receipt as receipts
from pykexec.kdump.service import trust

NAME = "setup.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Wrote:
    """A file was written, or changed."""

    path: str
    before: str | None
    """Its text before; None: there was no file."""
    after: str


@dataclass(frozen=True, slots=True)
class Ran:
    """A command was run."""

    undo: tuple[tuple[str, ...], ...]
    """The commands that take back what it did."""
    refreshes: bool
    """Whether they make a configuration anew from files."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The service's unit and rule were installed."""


Record = Wrote | Ran | Unit
_KINDS = {"file": Wrote, "command": Ran, "unit": Unit}


def path_in(root: Path) -> Path:
    """Return where the receipt is."""
    return root / str(STATE).lstrip("/") / NAME


def load(path: Path) -> list[Record]:
    """Return the records, the first step first; none where nothing was done.

    Raises FileError where it cannot be read, is damaged, or can be written by others than root.
    """
    content = receipts.load_json(path)
    if content is None:
        if path.exists():
            raise _damaged(path)
        return []
    trust.require_private(str(path), "receipt")
    steps = content.get("steps")
    if content.get("schema") != SCHEMA or not isinstance(steps, list):
        raise _damaged(path)
    try:
        return [_record(each) for each in steps]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error


def save(records: Sequence[Record], path: Path) -> None:
    """Write the receipt; remove it where there is nothing to take back. Raises FileError."""
    if not records:
        writing.remove_file(path)
        return
    kinds = {kind: name for name, kind in _KINDS.items()}
    steps = [{"kind": kinds[type(each)], **asdict(each)} for each in records]
    receipts.save_json({"schema": SCHEMA, "steps": steps}, path)


def _record(content: dict[str, object]) -> Record:
    """Return one record. Raises KeyError, TypeError or ValueError."""
    kind = content["kind"]
    if kind == "unit":
        return Unit()
    if kind == "command":
        undo = content["undo"]
        if not isinstance(undo, list) or not all(undo):
            raise ValueError
        return Ran(tuple(tuple(map(_text, words)) for words in undo), content["refreshes"] is True)
    if kind != "file":
        raise ValueError
    before = content["before"]
    return Wrote(_text(content["path"]), None if before is None else _text(before), _text(content["after"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _damaged(path: Path) -> FileError:
    return FileError(
        f"{path} is damaged", hint="take back by hand what pykdump setup has done, and remove it"
    )
