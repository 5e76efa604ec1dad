"""Versions: their order, as boot loaders sort kernels by them, and what a release says of the kernel."""

import re
from collections.abc import Iterator

_TILDE, _END, _MINUS, _CARET, _DOT, _LETTERS, _DIGITS = range(7)
"""What may come next in a version, the earliest first: "1~rc" comes before "1", that before "1-1"."""
_MARKS = {"~": _TILDE, "-": _MINUS, "^": _CARET, ".": _DOT}
_DIGITS_MAX = 4000  # int() refuses more than 4300


def of_release(release: str) -> tuple[int, int] | None:
    """Return the first two numbers of what `uname -r` says: what the kernel can do; None for other text."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", release, re.ASCII)
    return (int(found[1]), int(found[2])) if found else None


def version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    """A key for sorting, greater for a later version.

    The order is that of https://uapi-group.org/specifications/specs/version_format_specification/ as systemd
    has it (strverscmp_improved in src/fundamental/): its "~" and "^" differ from the specification's words.
    """
    return tuple(_parts(version))


def _parts(version: str) -> Iterator[tuple[int, int | str]]:
    for digits, letters, mark in re.findall(r"([0-9]+)|([A-Za-z]+)|([~^.-])", version):
        if digits:
            yield _DIGITS, int(digits.lstrip("0")[:_DIGITS_MAX] or "0")
        elif letters:
            yield _LETTERS, letters
        else:
            yield _MARKS[mark], 0
    yield _END, 0
