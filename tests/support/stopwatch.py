"""Measure how long something takes, independent of the machine's speed."""

import time

_LOOPS = 1_000_000
_ORDINARY = 0.06
"""The CPU seconds that Python 3.11 takes for the loop on an idle machine of 2.5 GHz."""
_CLOSE = 0.3


class Stopwatch:
    """Measures CPU time from its creation on."""

    def __init__(self) -> None:
        self._start = time.process_time()

    def seconds(self) -> float:
        """Return the CPU seconds so far, scaled to an ordinary machine if this one is slower."""
        taken = time.process_time() - self._start
        return taken if taken < _CLOSE else taken / max(1.0, _slowness())


def _slowness() -> float:
    start = time.process_time()
    total = 0
    for number in range(_LOOPS):
        total += number
    return (time.process_time() - start) / _ORDINARY
