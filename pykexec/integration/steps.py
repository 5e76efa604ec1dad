"""What an installation is made of: files to write and to remove, and commands to run."""

from __future__ import annotations

import os
import shlex
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pykexec.errors import FileError, PykexecError


class Step(Protocol):
    """One thing to do."""

    def describe(self) -> str:
        """What is done, in one line."""

    def do(self) -> None:
        """Raises PykexecError."""


@dataclass(frozen=True, slots=True)
class Write:
    """Write a file, and the folders it is in."""

    path: Path
    text: str
    executable: bool = True

    def describe(self) -> str:
        return f"write {self.path}"

    def do(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.text)
            self.path.chmod(0o755 if self.executable else 0o644)
        except OSError as error:
            raise FileError(f"{self.path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file where there is one, and its folder if that is its own and nothing else is in it."""

    path: Path
    with_folder: bool = False

    def describe(self) -> str:
        return f"remove {self.path}"

    def do(self) -> None:
        try:
            self.path.unlink(missing_ok=True)
            if self.with_folder:
                with suppress(FileNotFoundError):
                    if not any(self.path.parent.iterdir()):
                        self.path.parent.rmdir()
        except OSError as error:
            raise FileError(f"{self.path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Move:
    """Give a file another name, which no other has."""

    source: Path
    target: Path

    def describe(self) -> str:
        return f"move {self.source} to {self.target}"

    def do(self) -> None:
        try:
            if os.path.lexists(self.target):
                raise FileError(f"{self.target} is there: {self.source} stays where it is")
            self.source.rename(self.target)
        except OSError as error:
            raise FileError(f"{self.source}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Run:
    """Run a command."""

    command: tuple[str, ...]

    def describe(self) -> str:
        return f"run {shlex.join(self.command)}"

    def do(self) -> None:
        try:
            done = subprocess.run(self.command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise PykexecError(f"{self.command[0]}: {error.strerror}") from error
        if done.returncode != 0:
            last = next(reversed(done.stderr.strip().splitlines()), f"exit status {done.returncode}")
            raise PykexecError(f"{shlex.join(self.command)} failed: {last}")
