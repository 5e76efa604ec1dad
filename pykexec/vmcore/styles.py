"""How the kernel's log is printed: as ``vmcore-dmesg`` does it, or as ``makedumpfile --dump-dmesg`` does.

Compared with both programs' output byte by byte (tests/vm/test_vmcore.py).
"""

import re
from collections.abc import Callable

from pykexec.vmcore.log import Record

Style = Callable[[Record], bytes]

_UNPRINTABLE = re.compile(rb"[^\t-\r -~]")
"""What neither isprint() nor isspace() takes in the C locale."""


def vmcore_dmesg(record: Record) -> bytes:
    """The time in front of the first line, others bare; unprintable bytes as \\xNN."""
    if record.nanoseconds is None:
        return record.text
    return _prefix(record.nanoseconds) + _UNPRINTABLE.sub(_escaped, record.text) + b"\n"


def makedumpfile(*, char_is_signed: bool | None) -> Style:
    """Further lines below the first; nothing for empty records.

    Where C's char is signed, bytes from 0x80 are printed sign-extended: \\xffffffc3. Where that is not
    known (None), they are not.
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
