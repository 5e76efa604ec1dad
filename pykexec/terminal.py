"""What a terminal takes: how wide lines may be, and whether colours are shown."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

WIDTH = 80
"""Columns where the output is no terminal, which also is what most terminals begin with."""
_WIDTH_MIN = 40
_MORE = " ..."


def width(stream: TextIO | None) -> int:
    """Return the columns that lines on this stream may have: COLUMNS, or the terminal's; 80 without one.

    A stream that the caller has closed is None in Python.
    """
    if stream is None or not stream.isatty():
        return WIDTH
    import shutil

    return max(shutil.get_terminal_size((WIDTH, 24)).columns, _WIDTH_MIN)


def folded(
    text: str,
    columns: int | None,
    *,
    first: str = "",
    indent: str | None = None,
    lines_max: int | None = None,
) -> list[str]:
    """Return lines of at most that many columns; the first begins with `first`, the others with `indent`.

    That is as many blanks, by default. Without a number of columns there is one line. A word that is longer
    stays whole, so that paths and commands can be copied. `lines_max` is for texts from outside: more lines
    are cut, and end with "...".
    """
    if columns is None or len(first + text) <= columns:
        return [first + text]
    if not text.strip(" "):
        return [first]
    # textwrap does this, too, but importing it takes as long as a third of a plan.
    lines: list[str] = []
    word, *words = text.split(" ")
    start, line = first, first + word
    for word in words:
        if len(line) + 1 + len(word) <= columns or not line[len(start) :].strip(" "):
            line = f"{line} {word}"
        elif word:
            lines.append(line.rstrip(" "))
            start = " " * len(first) if indent is None else indent
            line = start + word
    lines.append(line.rstrip(" "))
    return lines if lines_max is None else _cut(lines, columns, lines_max)


def _cut(lines: list[str], columns: int, lines_max: int) -> list[str]:
    if len(lines) <= lines_max:
        return lines
    last = lines[lines_max - 1]
    while len(last) + len(_MORE) > columns and " " in last.strip(" "):
        last = last.rpartition(" ")[0]
    return [*lines[: lines_max - 1], last + _MORE]


def shows_colour(stream: TextIO) -> bool:
    """Return whether colours belong on this stream: it is a terminal that has some, and NO_COLOR is not set.

    Source: https://no-color.org, where an empty value counts as not set.
    """
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
