"""Tell linear from quadratic time on a noisy machine."""

import time
from collections.abc import Callable

QUADRATIC_SUSPECTED = 50
"""Tenfold input takes ten times as long in linear time, a hundred times in quadratic."""
_RUNS = 5


def growth(work: Callable[[], object], ten_times_the_work: Callable[[], object]) -> float:
    """Return how many times as much CPU time the second takes; the fastest of several runs counts.

    Once the second was fast enough, further runs could only be faster: then there are none.
    """
    few = min(_seconds(work) for _ in range(_RUNS))
    many = _seconds(ten_times_the_work)
    for _ in range(_RUNS - 1):
        if many < few * QUADRATIC_SUSPECTED:
            break
        many = min(many, _seconds(ten_times_the_work))
    return many / few


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
