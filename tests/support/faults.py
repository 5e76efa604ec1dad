"""Inject faults: a system call of a command fails, or the command is killed there.

The command is a function in the test's own process, called in a forked child. So what the test has replaced
is replaced there, too. Calls are counted where Python makes them: in `os`, and in files that are written. A
test lists all faults once, runs the command once with each, and judges what is left.
"""

from __future__ import annotations

import builtins
import enum
import errno
import importlib
import io
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

_TAKE_SPACE = ("open", "mkdir", "write", "fsync", "rename", "replace", "link", "symlink", "truncate")
_ASK = ("stat", "lstat", "scandir", "listdir", "readlink")
_CHANGE = ("unlink", "remove", "rmdir", "chmod", "fchmod", "chown", "fchown")
_ON_DESCRIPTORS = ("write", "fsync", "fchmod", "fchown")
_SECONDS = 120


class Kind(enum.Enum):
    """The kinds of faults."""

    FULL = errno.ENOSPC
    """From then on there is no space; half of the last write fits."""
    DAMAGED = errno.EIO
    FORBIDDEN = errno.EACCES
    KILLED = -signal.SIGKILL
    """Half of the last write is in the file."""


@dataclass(frozen=True)
class Fault:
    """A fault at one call."""

    kind: Kind
    place: int
    """How many calls succeed before it."""
    call: str
    """The function that fails."""

    def __str__(self) -> str:
        return f"{self.kind.name} at call {self.place}, {self.call}"


@dataclass(frozen=True)
class Ended:
    """How the command ended."""

    status: int
    """Its exit status; minus the signal that ended it."""
    stdout: str
    stderr: str


def possible(command: Callable[[], int]) -> list[Fault]:
    """Run the command without a fault, and return all faults that it can meet.

    What it imports is imported here, too: most of what a child takes was to do that each time.
    """
    write = os.write
    with tempfile.TemporaryFile() as calls, tempfile.TemporaryFile() as modules:

        def record(call: str, _: int) -> None:
            write(calls.fileno(), f"{call}\n".encode())

        def told() -> int:
            status = command()
            write(modules.fileno(), "\n".join(sys.modules).encode())
            return status

        ended = _run(told, record)
        names = _content(calls).split()
        imported = _content(modules).split()
    assert ended.status == 0, ended
    for name in imported:
        importlib.import_module(name)
    return [Fault(kind, place, call) for place, call in enumerate(names) for kind in _kinds(call)]


def spread(faults: Sequence[Fault], count: int) -> list[Fault]:
    """Return about `count` of the faults, from all places and of all kinds."""
    return list(faults[:: max(1, len(faults) // count) | 1])  # an odd step meets each kind


def run(command: Callable[[], int], fault: Fault | None = None) -> Ended:
    """Run the command with that fault."""

    def kind_of(call: str, place: int) -> Kind | None:
        if fault is None or place < fault.place:
            return None
        lasts = fault.kind is Kind.FULL and call in _TAKE_SPACE
        return fault.kind if lasts or place == fault.place else None

    return _run(command, kind_of)


def _kinds(call: str) -> Iterator[Kind]:
    if call in _TAKE_SPACE:
        yield Kind.FULL
    yield Kind.DAMAGED
    if call not in _ON_DESCRIPTORS:
        yield Kind.FORBIDDEN
    if call not in _ASK:
        yield Kind.KILLED


_Judge = Callable[[str, int], Kind | None]
"""Returns the fault at the call of a function, from its name and the number of earlier calls."""


def _run(command: Callable[[], int], judge: _Judge) -> Ended:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _be_child(command, judge, out.fileno(), err.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return Ended(status, _content(out), _content(err))


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _be_child(command: Callable[[], int], judge: _Judge, out: int, err: int) -> None:
    status = 70
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        signal.alarm(_SECONDS)  # ends what hangs
        _Calls(judge).replace()
        status = command()
    except BaseException:
        _paused.append(None)
        traceback.print_exc()
    finally:
        _paused.append(None)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _Calls:
    """Counts this process's calls, and lets one fail. The functions stay replaced."""

    def __init__(self, judge: _Judge) -> None:
        self._judge = judge
        self._count = 0

    def replace(self) -> None:
        for name in (*_TAKE_SPACE, *_ASK, *_CHANGE):
            setattr(os, name, self._failing(name, getattr(os, name)))
        io.open = builtins.open = self._open(io.open)

    def _failing(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if _paused:
                return real(*arguments, **named)
            self.step(name, arguments[0] if arguments else None)
            return real(*arguments, **named)

        return call

    def step(self, name: str, on: object = None, half: Callable[[], object] = lambda: None) -> None:
        """Count a call, and let it fail if it is its turn; `half` does the half that is still done."""
        place, self._count = self._count, self._count + 1
        kind = self._judge(name, place)
        if kind is None:
            return
        if kind in (Kind.FULL, Kind.KILLED):
            half()
        if kind is Kind.KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        path = on if isinstance(on, (str, os.PathLike)) else None
        raise OSError(kind.value, os.strerror(kind.value), path)

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        calls = self

        class File(io.FileIO):
            """A file whose writes are counted."""

            def write(self, data: Any) -> int:
                if not _paused:
                    calls.step("write", half=lambda: super(File, self).write(data[: len(data) // 2]))
                return super().write(data)

        def open_file(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            if _paused:
                return real(file, mode, *arguments, **named)
            if not isinstance(file, int):
                calls.step("open", file)
            if not set(mode) & set("wax+"):
                return real(file, mode, *arguments, **named)
            raw = File(file, mode.replace("b", "").replace("t", ""), named.get("closefd", True))
            binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            kept = {name: named[name] for name in ("encoding", "errors", "newline") if name in named}
            return binary if "b" in mode else io.TextIOWrapper(binary, **kept)

        return open_file


_paused: list[None] = []


@contextmanager
def paused() -> Iterator[None]:
    """Neither count calls nor let them fail: they are the test's own."""
    _paused.append(None)
    try:
        yield
    finally:
        _paused.pop()
