"""Tell linear from quadratic time on a noisy machine."""

import time
from collections.abc import Callable

QUADRATIC_SUSPECTED = 50
"""Tenfold input takes ten times as long in linear time, a hundred times in quadratic."""


def growth(work: Callable[[], object], ten_times_the_work: Callable[[], object]) -> float:
    """Return how many times as much CPU time the second takes; the fastest of several runs counts."""
    return _fastest(ten_times_the_work) / _fastest(work)


def _fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)
