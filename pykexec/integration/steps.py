"""The steps of an installation: files to write and to remove, and commands to run."""

from __future__ import annotations

import shlex
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pykexec import children, writing
from pykexec.errors import FileError, PykexecError

_NAMES = (b"pykexec", b"pykdump")
_SECONDS = 120.0
"""The time a command may take: systemctl waits for a service to stop, all others take a moment."""


class Step(Protocol):
    """One step of an installation."""

    def describe(self) -> str:
        """Return what the step does, in one line."""

    def check(self) -> None:
        """Raise PykexecError where the step cannot be done, as far as that can be known before."""

    def do(self) -> None:
        """Do the step. Raises PykexecError."""


def perform(steps: Sequence[Step], *, dry_run: bool = False) -> None:
    """Do these steps and print each; do none if one of them cannot be done.

    Raises PykexecError, which says what is left undone.
    """
    for step in steps:
        step.check()
    for index, step in enumerate(steps):
        print(step.describe())
        if dry_run:
            continue
        try:
            step.do()
        except PykexecError as error:
            left = "; ".join(each.describe() for each in steps[index + 1 :])
            if left:
                error.add_hint(f"not done: {left}")
            raise


def is_ours(path: Path, root: Path) -> bool:
    """Return whether an installation of pykexec has written that file below a root."""
    data = writing.read_file(path, root=root)
    return data is not None and any(name in data for name in _NAMES)


def turned_off(path: Path, root: Path) -> str | None:
    """Return how an administrator has turned a unit, rule or hook off: systemd.unit(5), udev(7).

    None where there is no such file, or it has contents.
    """
    found = writing.look(path, root=root)
    if found is None:
        return None
    if found.link is not None:
        return f"a link to {found.link}" if found.link.endswith("/dev/null") else None
    is_empty = stat.S_ISREG(found.status.st_mode) and found.status.st_size == 0
    return "an empty file" if is_empty else None


@dataclass(frozen=True, slots=True)
class Write:
    """Write a file below a root, and make its folders."""

    path: Path
    data: bytes | str
    mode: int = 0o755
    root: Path = Path("/")

    def describe(self) -> str:
        return f"write {self.path}"

    def check(self) -> None:
        """Raise FileError for a link, and for a file that somebody else has written."""
        writing.check_file(self.path, root=self.root)
        if writing.read_file(self.path, root=self.root) and not is_ours(self.path, self.root):
            raise FileError(
                f"cannot write {self.path}: it is there, and not pykexec's",
                hint="move it away, or remove it",
            )

    def do(self) -> None:
        writing.write_file(self.path, self.data, mode=self.mode, root=self.root)


@dataclass(frozen=True, slots=True)
class Link:
    """Make or change a symbolic link below a root."""

    path: Path
    to: str
    root: Path = Path("/")

    def describe(self) -> str:
        return f"link {self.path} to {self.to}"

    def check(self) -> None:
        """Raise FileError where something else than a link is there."""
        found = writing.look(self.path, root=self.root)
        if found is not None and found.link is None:
            raise FileError(f"cannot write {self.path}: it is no link", hint="move it away, or remove it")

    def do(self) -> None:
        writing.write_link(self.path, self.to, root=self.root)


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file or link, if it exists; `with_folder`: also its folder, if that is empty then."""

    path: Path
    root: Path = Path("/")
    with_folder: bool = False

    def describe(self) -> str:
        return f"remove {self.path}"

    def check(self) -> None:
        """Check nothing: the removal itself reports a failure."""

    def do(self) -> None:
        writing.remove_file(self.path, root=self.root)
        if self.with_folder:
            writing.remove_empty_folder(self.path.parent, root=self.root)


@dataclass(frozen=True, slots=True)
class Keep:
    """Leave a file alone that has the place of one of pykexec's."""

    path: Path
    why: str

    def describe(self) -> str:
        return f"keep {self.path}: {self.why}"

    def check(self) -> None:
        """Check nothing: nothing can fail."""

    def do(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Move:
    """Rename a file to a name that is free."""

    source: Path
    target: Path
    root: Path = Path("/")

    def describe(self) -> str:
        return f"move {self.source} to {self.target}"

    def check(self) -> None:
        """Check nothing: earlier steps may make room."""

    def do(self) -> None:
        writing.move_file(self.source, self.target, root=self.root)


@dataclass(frozen=True, slots=True)
class Run:
    """Run a command."""

    command: tuple[str, ...]

    def describe(self) -> str:
        return f"run {shlex.join(self.command)}"

    def check(self) -> None:
        """Raise PykexecError where there is no such command."""
        if shutil.which(self.command[0]) is None:
            raise PykexecError(f"there is no {self.command[0]} here: cannot {self.describe()}")

    def do(self) -> None:
        done = children.run(self.command, seconds=_SECONDS)
        if done.returncode != 0:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            last = lines[-1] if lines else f"exit status {done.returncode}"
            raise PykexecError(f"{shlex.join(self.command)} failed: {last}")


def removals(path: Path, root: Path, *, with_folder: bool = False) -> Sequence[Step]:
    """Return the steps that remove a file if it is pykexec's; any other file is kept, and reported."""
    found = writing.look(path, root=root)
    if found is None:
        return ()
    if is_ours(path, root):
        return (Remove(path, root, with_folder),)
    if found.link is not None:
        return (Keep(path, f"it is a link to {found.link}"),)
    return (Keep(path, turned_off(path, root) or "it is not pykexec's"),)
