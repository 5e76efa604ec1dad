"""The running kernel's log from /dev/kmsg, as dmesg shows it (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator

_RECORD_MAX = 16 << 10  # kernel/printk/printk.c: a record with its prefix is shorter
_RECORDS_MAX = 1 << 20


def read_kernel_log() -> str | None:
    """Return the log of the system this runs on; None where it cannot be read."""
    try:
        device = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return as_text(_records(device))
    except OSError:
        return None
    finally:
        os.close(device)


def _records(device: int) -> Iterator[bytes]:
    for _ in range(_RECORDS_MAX):
        try:
            record = os.read(device, _RECORD_MAX)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EPIPE:  # EPIPE: records were overwritten meanwhile
                raise
            continue
        if not record:
            return
        yield record


def as_text(records: Iterable[bytes]) -> str:
    """Return records as lines that begin with the time.

    A record is PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;MESSAGE.
    """
    lines = []
    for record in records:
        head, separator, body = record.decode("utf-8", "replace").partition(";")
        fields = head.split(",")
        if not separator or len(fields) < 3 or not fields[2].isdecimal():
            continue
        seconds, micros = divmod(int(fields[2][:18]), 1_000_000)
        # Lines after the first, which begin with a blank, are a dictionary and not part of the message.
        message = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), body.partition("\n")[0])
        lines += [f"[{seconds:5d}.{micros:06d}] {line}" for line in message.split("\n")]
    return "\n".join(lines) + "\n"


_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
