"""Read small files of one number or one line, as sysfs has them, and JSON objects."""

import os

from pykexec.errors import MachineError
from pykexec.machine.root import Root, unreadable

FILE_MAX = 16 << 20
"""The most bytes to read; no fact is nearly as large."""
LOG_MAX = 1 << 20
"""The bytes to read of a log that has no end: what is useful is at its end."""
JSON_MAX = 1 << 20
"""A parsed object takes some twenty times as much memory as its text."""
_PIECE = 64 << 10


def read(root: Root, path: str, size_max: int = FILE_MAX) -> bytes | None:
    """Return a whole file; None where there is none.

    Raises MachineError when it cannot be read, or has more than `size_max` bytes.
    """
    file = root.open(path)
    if file is None:
        return None
    data = bytearray()
    with file:
        try:
            # Read in pieces: /proc/sys answers ENOMEM to a very large read (fs/proc/proc_sysctl.c).
            while piece := file.read(_PIECE):
                data += piece
                if len(data) > size_max:
                    raise MachineError(f"/{path} has more than {size_max} bytes")
        except OSError as error:
            raise unreadable(f"/{path}", error) from error
    return bytes(data)


def read_end(root: Root, path: str, size: int) -> bytes | None:
    """Return the last `size` bytes of a file, from the beginning of a line; None where there is none.

    Raises MachineError when it cannot be read.
    """
    file = root.open(path)
    if file is None:
        return None
    with file:
        try:
            start = max(file.seek(0, os.SEEK_END) - size, 0)
            file.seek(max(start - 1, 0))
            data = file.read(size + 1)
        except OSError as error:
            raise unreadable(f"/{path}", error) from error
    return data[data.find(b"\n") + 1 :] if start else data


def read_text(root: Root, path: str, size_max: int = FILE_MAX) -> str | None:
    """Return a file's text without the white space around it. Raises as `read` does."""
    data = read(root, path, size_max)
    return None if data is None else data.decode("utf-8", "surrogateescape").strip()


def read_object(root: Root, path: str) -> dict[str, object] | None:
    """Return the JSON object in a file; None where there is no file. Raises MachineError."""
    data = read(root, path, JSON_MAX)
    if data is None:
        return None
    try:
        return parse_object(data)
    except ValueError as error:
        raise MachineError(f"/{path} is damaged: {error}") from error


def parse_object(text: str | bytes) -> dict[str, object]:
    """Return the JSON object that a text is. Raises ValueError."""
    import json

    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    if not isinstance(found, dict):
        raise ValueError("it holds no object")
    return found


def read_number(root: Root, path: str, base: int = 0) -> int | None:
    """Return a file's one number of 64 bits, with or without a sign; base 0 takes 0x for hexadecimal.

    Raises MachineError when it is none.
    """
    text = read_text(root, path)
    if text is None:
        return None
    try:
        return number(text, base)
    except ValueError:
        raise MachineError(f"/{path} does not hold a number: {text[:40]!r}") from None


def number(text: str, base: int) -> int:
    """Read a number as kernels print it, unlike int(): no underscores, no other digits, 64 bits at most.

    Raises ValueError.
    """
    if not text.isascii() or "_" in text:
        raise ValueError(f"not a number: {text[:40]!r}")
    value = int(text, base)
    if not -(1 << 63) <= value < 1 << 64:
        raise ValueError(f"not a number of 64 bits: {text[:40]}")
    return value
