"""What a terminal takes: how wide lines may be, and whether colours are shown."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

WIDTH = 80
"""Columns where the output is no terminal, which also is what most terminals begin with."""
_WIDTH_MIN = 40


def width(stream: TextIO | None) -> int:
    """Return the columns that lines on this stream may have: COLUMNS, or the terminal's; 80 without one.

    None stands for a stream that is closed.
    """
    if stream is None or not stream.isatty():
        return WIDTH
    import shutil

    return max(shutil.get_terminal_size((WIDTH, 24)).columns, _WIDTH_MIN)


def shows_colour(stream: TextIO) -> bool:
    """Return whether colours belong on this stream: it is a terminal that has some, and NO_COLOR is not set.

    Source: https://no-color.org, where an empty value counts as not set.
    """
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def folded(text: str, columns: int, *, indent: str = "") -> list[str]:
    """Return the lines of a text, as wide as that unless a single word is wider, which stays whole.

    `indent` begins all lines but the first, and counts. A text of nothing is one empty line.
    """
    # textwrap does this, too, but importing it takes as long as a third of a plan.
    lines: list[str] = []
    line, *words = text.split(" ")
    for word in words:
        if len(line) + 1 + len(word) <= columns or not line.strip(" "):
            line = f"{line} {word}"
        elif word:
            lines.append(line.rstrip(" "))
            line = indent + word
    return [*lines, line.rstrip(" ")]
