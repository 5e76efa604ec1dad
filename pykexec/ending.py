"""The end of a program that is told to end: what it has begun is put in order before."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def in_order() -> Iterator[None]:
    """Turn signals to end into SystemExit, so that cleanup runs: systemd sends one after a time.

    Ctrl-C is KeyboardInterrupt anyway.
    """

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    ending = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) == signal.SIG_DFL]
    for each in ending:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in ending:
            signal.signal(each, signal.SIG_DFL)
