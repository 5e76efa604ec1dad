"""Errors in a configuration, their place, and hints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pykexec.errors import PykexecError


class ConfigError(PykexecError):
    """An error for a configuration file that cannot be understood, or asks for something impossible."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Where:
    """A line of a file, for messages."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def error(self, what: str, hint: str | None = None) -> ConfigError:
        """Return the error `what` with its place."""
        return ConfigError(f"{self}: {what}", hint=hint)


_SHORT = 6
"""A name with fewer letters may differ in one letter only: two slips would make another name of it."""
_NAME_MAX = 80
"""The most letters; no name has nearly as many."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return a hint with the known name that `name` may be a misspelling of; None where there is none."""
    # Case makes no difference to what was meant.
    wanted = name.casefold()
    most = 1 if len(wanted) < _SHORT else 2
    found = min(((_slips(wanted, each.casefold(), most), each) for each in sorted(known)), default=None)
    return f"did you mean {found[1]}?" if found and found[0] <= most else None


def _slips(one: str, other: str, most: int) -> int:
    """Return the number of letters missing, too many, wrong, or swapped with the next.

    A result above `most` may be too small. This is the optimal string alignment distance.
    """
    if abs(len(one) - len(other)) > most or len(one) > _NAME_MAX:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        next_row = [i + 1]
        for j, wanted in enumerate(other):
            slips = min(row[j] + (letter != wanted), row[j + 1] + 1, next_row[j] + 1)
            if i and j and letter == other[j - 1] and one[i - 1] == wanted:
                slips = min(slips, before[j - 1] + 1)
            next_row.append(slips)
        if min(next_row) > most:
            return most + 1
        before, row = row, next_row
    return row[-1]


def shown(text: str) -> str:
    """Return text from a file in a form for messages: one line, not too long, nothing unprintable."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
