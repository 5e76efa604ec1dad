"""A lock for start, stop and reload: udev may ask for a reload while the service starts."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pykexec import writing
from pykexec.errors import FileError, PykexecError
from pykexec.kdump.service import trust

# Not "lock": pykdump once made that in a folder for all to read, and a process may still have it open.
LOCK = Path("/run/pykdump/service.lock")
_SECONDS = 60.0
"""Seconds to wait for another's load. Copying a dump from a raw partition takes longer: retry then."""
_PAUSE = 0.2


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold the service's lock. Raises PykexecError where another process does not release it."""
    descriptor = _opened()
    try:
        _take(descriptor)
        yield
    finally:
        os.close(descriptor)


def _opened() -> int:
    writing.make_private_folder(LOCK.parent)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(LOCK, flags, mode=0o600)
    except OSError as error:
        raise FileError(f"cannot open {LOCK}: {error.strerror}") from error
    if not trust.is_private(os.fstat(descriptor)):
        os.close(descriptor)
        raise FileError(f"others than root can change {LOCK}", hint="remove it, and find out who made it")
    return descriptor


def _take(descriptor: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _busy(descriptor) from None
        except OSError as error:
            raise FileError(f"cannot lock {LOCK}: {error.strerror}") from error
        time.sleep(_PAUSE)


def _busy(descriptor: int) -> PykexecError:
    holder = _holder(os.fstat(descriptor))
    who = "another process" if holder is None else f"process {holder} ({_program(holder)})"
    return PykexecError(
        f"{who} holds {LOCK}, still after {_SECONDS:g} seconds", hint="wait for its end, and try again"
    )


def _holder(status: os.stat_result) -> int | None:
    """Return the process that holds a lock on that file, as far as /proc/locks tells (proc_locks(5))."""
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for words in (line.split() for line in lines):
        # 1: FLOCK ADVISORY WRITE 123 00:1a:456 0 EOF; a waiting one has "->" after the number.
        if words[1:2] == ["FLOCK"] and words[5:6] == [device]:
            return max(int(words[4]), 0) or None  # 0 or less: a process that is not visible from here
    return None


def _program(process: int) -> str:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "which has ended"
    return os.fsdecode(b" ".join(words)).strip()[:100] or "of the kernel"
