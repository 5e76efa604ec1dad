"""Versions: their order, by which boot loaders sort kernels, and the numbers of a kernel's release."""

import re
from collections.abc import Iterator

_TILDE, _END, _MINUS, _CARET, _DOT, _LETTERS, _DIGITS = range(7)
"""The kinds of parts of a version, in their order: "1~rc" comes before "1", and that before "1-1"."""
_MARKS = {"~": _TILDE, "-": _MINUS, "^": _CARET, ".": _DOT}
_DIGITS_MAX = 4000  # int() refuses more than 4300


def of_release(release: str) -> tuple[int, int] | None:
    """Return the first two numbers of a kernel release (`uname -r`), which tell its features; else None."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", release, re.ASCII)
    return (int(found[1]), int(found[2])) if found else None


def version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    """Return a key for sorting, greater for a later version.

    The order is that of https://uapi-group.org/specifications/specs/version_format_specification/ as systemd
    implements it (strverscmp_improved in src/fundamental/): its "~" and "^" differ from the specification's
    text.
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
