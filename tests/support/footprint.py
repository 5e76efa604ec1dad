"""Measure how much memory something takes."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def takes_at_most(size: int) -> Iterator[None]:
    """Fail if Python has more than `size` bytes at any time, besides those it had before."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= size
    finally:
        tracemalloc.stop()
