"""Telling linear from quadratic time on a noisy machine."""

import time
from collections.abc import Callable

QUADRATIC_SUSPECTED = 50
"""Tenfold input takes ten times as long in linear time, a hundred times in quadratic."""


def growth(work: Callable[[], object], ten_times_the_work: Callable[[], object]) -> float:
    """How many times as long the second takes: of several runs the fastest, which noise disturbs least."""
    return _fastest(ten_times_the_work) / _fastest(work)


def _fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
