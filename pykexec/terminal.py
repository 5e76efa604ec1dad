"""What a terminal takes: how wide lines may be, and whether colours are shown."""

from __future__ import annotations

import os
import shutil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

WIDTH = 80
"""Columns where the output is no terminal, which also is what most terminals begin with."""
_WIDTH_MIN = 40


def width(stream: TextIO) -> int:
    """Return the columns that lines on this stream may have: COLUMNS, or the terminal's; 80 without one."""
    if not stream.isatty():
        return WIDTH
    return max(shutil.get_terminal_size((WIDTH, 24)).columns, _WIDTH_MIN)


def folded(text: str, columns: int, *, first: str = "", lines_max: int | None = None) -> list[str]:
    """Return lines of at most that many columns; the first begins with `first`, others with as many blanks.

    A word that is longer stays whole, so that paths and commands can be copied. `lines_max` is for texts
    from outside: more lines are cut, and end with "...".
    """
    import textwrap

    if len(first + text) <= columns:
        return [first + text]
    return textwrap.wrap(
        text,
        columns,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=lines_max,
        placeholder=" ...",
    )


def shows_colour(stream: TextIO) -> bool:
    """Return whether colours belong on this stream: it is a terminal that has some, and NO_COLOR is not set.

    Source: https://no-color.org, where an empty value counts as not set.
    """
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
