"""Commands that remedies offer to root's shell: built from argument lists, and quoted when they are shown.

No text is ever put into a command line but as one quoted word.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """A program with its arguments."""

    arguments: tuple[str, ...]
    append_to: str = ""
    """The file that its output is added to; empty: none."""

    def __str__(self) -> str:
        redirection = f" >> {shlex.quote(self.append_to)}" if self.append_to else ""
        return f"{shlex.join(self.arguments)}{redirection}"


_PRINT_LINE = ("printf", "%s\\n")


@dataclass(frozen=True, slots=True)
class Write:
    """A file that gets one line, and has nothing else in it then."""

    path: str
    line: str

    def __str__(self) -> str:
        return f"{shlex.join((*_PRINT_LINE, self.line))} > {shlex.quote(self.path)}"


@dataclass(frozen=True, slots=True)
class Command:
    """Steps of which each is taken if those before it succeeded; no steps: there is no command."""

    steps: tuple[Run | Write, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __str__(self) -> str:
        """One line for a shell."""
        return " && ".join(map(str, self.steps))

    def then(self, other: Command) -> Command:
        """Both, one after the other; none where one of them is none."""
        return Command((*self.steps, *other.steps)) if self and other else NO_COMMAND


NO_COMMAND = Command()


def run(*arguments: str, append_to: str = "") -> Command:
    """A single program. No command where a word cannot be one: NUL and line breaks are in no command."""
    words = (*arguments, append_to)
    return Command((Run(arguments, append_to),)) if all(map(_is_word, words)) else NO_COMMAND


def write(path: str, line: str) -> Command:
    """A single line into a file."""
    return Command((Write(path, line),)) if _is_word(path) and _is_word(line) else NO_COMMAND


def is_operand(text: str) -> bool:
    """Whether a text can stand where a program expects a name: it is there, and is no option."""
    return bool(text) and not text.startswith("-")


def _is_word(text: str) -> bool:
    return text.isprintable()
