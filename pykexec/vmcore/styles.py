"""Print the kernel's log as ``vmcore-dmesg`` does, or as ``makedumpfile --dump-dmesg`` does.

A test compares both with the programs' output byte by byte (tests/vm/test_vmcore.py).
"""

import re
from collections.abc import Callable

from pykexec.vmcore.log import Record

Style = Callable[[Record], bytes]

_UNPRINTABLE = re.compile(rb"[^\t-\r -~]")
"""Bytes for which neither isprint() nor isspace() is true in the C locale."""


def vmcore_dmesg(record: Record) -> bytes:
    """Return the record with the time before its first line only; unprintable bytes become \\xNN."""
    if record.nanoseconds is None:
        return record.text
    return _prefix(record.nanoseconds) + _UNPRINTABLE.sub(_escaped, record.text) + b"\n"


def makedumpfile(*, char_is_signed: bool | None) -> Style:
    """Return a style that indents further lines below the first; empty records become nothing.

    Where C's char is signed, bytes from 0x80 are printed sign-extended: \\xffffffc3. Where that is not known
    (None), they are not.
    """

    def style(record: Record) -> bytes:
        if record.nanoseconds is None:
            return record.text
        if record.is_empty:
            return b""
        prefix = _prefix(record.nanoseconds)
        escape = _escaped_signed if char_is_signed else _escaped
        lines = _UNPRINTABLE.sub(escape, record.text).replace(b"\n", b"\n" + b" " * len(prefix))
        return prefix + lines + b"\n"

    return style


def _prefix(nanoseconds: int) -> bytes:
    seconds, rest = divmod(nanoseconds, 10**9)
    return b"[%5d.%06d] " % (seconds, rest // 1000)


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"\\x%02x" % match[0][0]


def _escaped_signed(match: re.Match[bytes]) -> bytes:
    byte = match[0][0]
    return b"\\x%02x" % (byte if byte < 0x80 else byte | 0xFFFFFF00)
