"""What setup changes of a boot loader's configuration: files as they are, and as they shall be."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pykexec.errors import FileError, PykexecError
from pykexec.kdump import programs
from pykexec.machine.root import Root
from pykexec.memory import KIB

TEXT_MAX = 64 * KIB
"""The most bytes of a configuration; the longest GRUB default that a distribution ships has 4 KiB."""


LINE = r"(?P<line>\S(?:.*\S)?)\s*"
"""A command line up to the end of a line of text, as the group that `with_lines` changes."""


class SetupError(PykexecError):
    """A configuration cannot be read, so it cannot be changed; the hint says what to do by hand."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Edit:
    """A file to write."""

    path: str
    """The absolute path."""
    before: str | None
    """The text that is there now; None: there is no file."""
    after: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command to run, and those that take back what it does."""

    words: tuple[str, ...]
    undo: tuple[tuple[str, ...], ...] = ()
    refreshes: bool = False
    """Whether it makes a configuration anew from files: then it comes after all changes of these."""


@dataclass(frozen=True, slots=True)
class Change:
    """What makes a boot loader boot with the recommended crashkernel=; nothing where it does so already."""

    loader: str
    """The boot loader, for people."""
    edits: tuple[Edit, ...] = ()
    commands: tuple[Command, ...] = ()
    by_hand: str = ""
    """What an administrator has to do where setup changes nothing."""


def read(root: Root, path: str) -> str | None:
    """Return a file's text; None where there is none. Raises SetupError where it is no text, or too long."""
    file = root.open(path.lstrip("/"))
    if file is None:
        return None
    try:
        with file:
            data = file.read(TEXT_MAX + 1)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > TEXT_MAX:
        raise SetupError(f"{path}: more than {TEXT_MAX} bytes: no such configuration")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SetupError(f"{path}:{line}: byte {data[error.start]:#04x} is not UTF-8") from None
    if "\0" in text:
        raise SetupError(f"{path}:{text.count(chr(10), 0, text.index(chr(0))) + 1}: a NUL character")
    return text


def required(root: Root, path: str) -> str:
    """Return the text of a file that has to be there. Raises SetupError."""
    text = read(root, path)
    if text is None:
        raise SetupError(f"{path} is not there")
    return text


def is_file(root: Root, path: str) -> bool:
    """Return whether there is a file of that path below a root. Raises MachineError."""
    file = root.open(path.lstrip("/"))
    if file is None:
        return False
    file.close()
    return True


def program(root: Root, name: str) -> str | None:
    """Return where a program is below a root; None where it is not there. Raises MachineError."""
    return next((path for path in programs.places(name) if is_file(root, path)), None)


def is_read_only(path: Path) -> bool:
    """Return whether a file's file system is mounted read only; of a missing one its nearest folder's."""
    for each in (path, *path.parents):
        try:
            return bool(os.statvfs(each).f_flag & os.ST_RDONLY)
        except OSError:
            continue
    return False


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Turn an error into a SetupError that begins with its place."""
    try:
        yield
    except PykexecError as error:
        raise SetupError(f"{place}: {error.what}", hint=error.hint) from error


def with_lines(path: str, text: str, pattern: re.Pattern[str], change: Callable[[str], str]) -> Edit:
    """Return the edit that changes the group "line" in all lines that match the pattern.

    Raises the PykexecError of `change`, with the place.
    """
    lines = text.split("\n")
    for index, line in enumerate(lines):
        found = pattern.fullmatch(line)
        if found is None:
            continue
        start, end = found.span("line")
        with placed(f"{path}:{index + 1}"):
            lines[index] = f"{line[:start]}{change(found['line'])}{line[end:]}"
    return Edit(path, text, "\n".join(lines))


def changed(edits: list[Edit]) -> tuple[Edit, ...]:
    """Return the edits that change something."""
    return tuple(each for each in edits if each.before != each.after)
