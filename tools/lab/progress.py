"""Progress of long steps on standard error: a line each, which a terminal shows anew as time goes by."""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from . import ledger

_INTERVAL = 0.25
_CLEAR = "\r\x1b[K"


@contextmanager
def step(title: str, detail: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Show that the enclosed step is under way, and for how long; `detail` is asked for more, repeatedly."""
    if not sys.stderr.isatty():
        say(title)
    with silent_step(title), _shown(title, detail) if sys.stderr.isatty() else nullcontext():
        yield


def say(text: str) -> None:
    """Show a line, above that of the step that is under way."""
    print(f"{_CLEAR if sys.stderr.isatty() else ''}{text}", file=sys.stderr, flush=True)


@contextmanager
def silent_step(title: str) -> Iterator[None]:
    """Note what the enclosed step takes, without a line on the terminal, where something else goes on."""
    started = time.monotonic()
    try:
        yield
    finally:
        ledger.note("step", title=title, seconds=time.monotonic() - started)


@contextmanager
def _shown(title: str, detail: Callable[[], str]) -> Iterator[None]:
    started, done = time.monotonic(), threading.Event()

    def show(text: str, end: str = "") -> None:
        line = f"{time.monotonic() - started:4.0f} s  {title}  {text}".rstrip()
        width = shutil.get_terminal_size().columns - 1
        print(f"{_CLEAR}{line[:width]}", end=end, file=sys.stderr, flush=True)

    def refresh() -> None:
        while not done.wait(_INTERVAL):
            show(detail())

    thread = threading.Thread(target=refresh, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        show("", end="\n")
