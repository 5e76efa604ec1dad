"""The steps of setup: each says what it does, does it, and leaves in the receipt how to take it back."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

from pykexec import children, writing
from pykexec.errors import FileError, PykexecError
from pykexec.integration import steps as installing
from pykexec.kdump.setup.change import Command, Edit, is_read_only
from pykexec.kdump.setup.receipt import Ran, Record, Unit, Wrote

_MODE = 0o644
_SECONDS = 1800.0
"""The time a command may take: packages come over the network, and a menu is made of what disks tell."""


class Step(Protocol):
    """One step of setup, or of taking it back."""

    def describe(self) -> Sequence[str]:
        """Return what the step does: a line, and perhaps lines of a file."""

    def check(self) -> None:
        """Raise PykexecError where the step cannot be done, as far as that can be known before."""

    def do(self) -> None:
        """Do the step. Raises PykexecError."""

    def record(self) -> Record | None:
        """Return what the receipt has to say of it."""


@dataclass(frozen=True, slots=True)
class Write:
    """Write a file, or change one that is there."""

    edit: Edit
    root: Path

    @property
    def _path(self) -> Path:
        return self.root / self.edit.path.lstrip("/")

    def describe(self) -> Sequence[str]:
        verb = "write" if self.edit.before is None else "change"
        return [f"{verb} {self.edit.path}", *_difference(self.edit.before or "", self.edit.after)]

    def check(self) -> None:
        """Raise FileError for a link, a read-only place, or a file that is another one than the plan's."""
        if is_read_only(self._path):
            raise FileError(
                f"{self.edit.path} is on a file system that is mounted read only",
                hint="mount it anew: -o rw",
            )
        writing.check_file(self._path, root=self.root)
        data = writing.read_file(self._path, root=self.root)
        before = None if self.edit.before is None else self.edit.before.encode()
        if data != before:
            raise FileError(f"{self.edit.path} has changed meanwhile", hint="try again")

    def do(self) -> None:
        self.check()
        if self.edit.before is None:
            writing.write_file(self._path, self.edit.after, mode=_MODE, root=self.root)
        else:
            writing.change_file(self._path, self.edit.after, root=self.root)

    def record(self) -> Record:
        return Wrote(self.edit.path, self.edit.before, self.edit.after)


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file that setup has written."""

    path: str
    text: str
    root: Path

    def describe(self) -> Sequence[str]:
        return [f"remove {self.path}", *_difference(self.text, "")]

    def check(self) -> None:
        """Check nothing: the removal itself reports a failure."""

    def do(self) -> None:
        path = self.root / self.path.lstrip("/")
        if writing.read_file(path, root=self.root) != self.text.encode():
            raise FileError(f"{self.path} has changed meanwhile", hint="try again")
        writing.remove_file(path, root=self.root)

    def record(self) -> None:
        """Return nothing: this takes back."""


@dataclass(frozen=True, slots=True)
class Run:
    """Run a command."""

    command: Command

    def describe(self) -> Sequence[str]:
        return [f"run {shlex.join(self.command.words)}"]

    def check(self) -> None:
        """Check nothing: an earlier step may install the program."""

    def do(self) -> None:
        words = self.command.words
        done = children.run(words, seconds=_SECONDS)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
            why = said[-1] if said else f"exit status {done.returncode}"
            raise PykexecError(f"{shlex.join(words)} failed: {why}")

    def record(self) -> Record | None:
        command = self.command
        return Ran(command.undo, command.refreshes) if command.undo else None


@dataclass(frozen=True, slots=True)
class InstallUnit:
    """Install the service's unit and rule, or remove them."""

    steps: tuple[installing.Step, ...]
    is_installation: bool = True

    def describe(self) -> Sequence[str]:
        return [each.describe() for each in self.steps]

    def check(self) -> None:
        """Raise PykexecError where one of the files is somebody else's."""
        for each in self.steps:
            each.check()

    def do(self) -> None:
        for each in self.steps:
            each.do()

    def record(self) -> Record | None:
        return Unit() if self.is_installation else None


def require_root() -> None:
    """Raise PykexecError for a user who cannot do any of it."""
    if os.geteuid() != 0:
        raise PykexecError("setup changes the system's configuration", hint="run as root")


def _difference(before: str, after: str) -> list[str]:
    """Return the lines that go, with a minus before them, and those that come, with a plus.

    An edit leaves all others at their numbers.
    """
    found = []
    for old, new in zip_longest(before.splitlines(), after.splitlines()):
        if old != new:
            found += [f"- {old}"] if old is not None else []
            found += [f"+ {new}"] if new is not None else []
    return found
