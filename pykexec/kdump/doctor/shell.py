"""Commands that remedies offer to root's shell: argument lists, quoted when they are shown.

All text in a command line is a quoted word.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """A program with its arguments."""

    arguments: tuple[str, ...]
    append_to: str = ""
    """The file to append its output to; empty: none."""

    def __str__(self) -> str:
        redirection = f" >> {shlex.quote(self.append_to)}" if self.append_to else ""
        return f"{shlex.join(self.arguments)}{redirection}"


_PRINT_LINE = ("printf", "%s\\n")


@dataclass(frozen=True, slots=True)
class Write:
    """A file that gets one line as its only content."""

    path: str
    line: str

    def __str__(self) -> str:
        return f"{shlex.join((*_PRINT_LINE, self.line))} > {shlex.quote(self.path)}"


@dataclass(frozen=True, slots=True)
class Command:
    """Steps that stop at the first failure; without steps there is no command."""

    steps: tuple[Run | Write, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __str__(self) -> str:
        """Return one line for a shell."""
        return " && ".join(map(str, self.steps))

    def then(self, other: Command) -> Command:
        """Return both, one after the other; no command where one of them is none."""
        return Command((*self.steps, *other.steps)) if self and other else NO_COMMAND


NO_COMMAND = Command()


def run(*arguments: str, append_to: str = "") -> Command:
    """Return one program's command.

    No command where a word has a NUL or a line break, which none can have.
    """
    words = (*arguments, append_to)
    return Command((Run(arguments, append_to),)) if all(map(_is_word, words)) else NO_COMMAND


def write(path: str, line: str) -> Command:
    """Return the command that writes a single line into a file."""
    return Command((Write(path, line),)) if _is_word(path) and _is_word(line) else NO_COMMAND


def is_operand(text: str) -> bool:
    """Return whether a text can stand where a program expects a name: it is not empty, and no option."""
    return bool(text) and not text.startswith("-")


def _is_word(text: str) -> bool:
    return text.isprintable()
