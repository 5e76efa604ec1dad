"""What is wrong with a configuration."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from pykexec.errors import PykexecError


class ConfigError(PykexecError):
    """A configuration file cannot be understood, or asks for something impossible."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Where:
    """A line of a file, for messages."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def error(self, what: str, hint: str | None = None) -> ConfigError:
        """The error `what`, told with its place."""
        return ConfigError(f"{self}: {what}", hint=hint)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A hint with the known name that `name` may be a misspelling of."""
    # Upper and lower case make no difference to what was meant.
    by_folded = {each.casefold(): each for each in known}
    # A comparison takes time quadratic in the lengths, and no key is nearly as long.
    found = difflib.get_close_matches(name[:80].casefold(), by_folded, n=1, cutoff=0.6)
    return f"did you mean {by_folded[found[0]]}?" if found else None


def shown(text: str) -> str:
    """Text from a file as a message can bear it: one line, not too long, nothing unprintable."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
