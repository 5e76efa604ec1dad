"""QEMU as a process: started with a time limit, watched, and asked at its end what it took."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pykexec.emulation.errors import EmulationError
from pykexec.emulation.monitor import Monitor

Ended = Callable[[float], None]
"""Is called with the CPU seconds that a process took, when it has ended."""


def no_account(_: float) -> None:
    """Note nothing."""


class Process:
    """A process of QEMU. Raises EmulationError where none can be started."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        timeout: float,
        *,
        ended: Ended = no_account,
        monitored: bool = False,
    ) -> None:
        self.status: int | None = None
        """Its exit status, as subprocess has it, once it has ended."""
        self._ended = ended
        with log.open("wb") as said:
            try:
                self._process = subprocess.Popen(
                    # `timeout` ends the machine even if this process is no more there to do it. It is no
                    # part of this one's group: Ctrl-C comes to this one alone, which ends it.
                    ["timeout", "--kill-after=5", f"{timeout:g}", *command],
                    stdin=subprocess.PIPE if monitored else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if monitored else said,
                    stderr=said,
                    text=True,
                )
            except OSError as error:
                raise EmulationError(f"cannot start QEMU with timeout(1): {error.strerror}") from error

    def monitor(self) -> Monitor:
        """Speak with a process that is monitored and has `-qmp stdio`. Raises MonitorError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return Monitor(self._process.stdin, self._process.stdout)

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        """Return the exit status, when it has ended."""
        self._wait(0)
        assert self.status is not None
        return self.status

    def end(self) -> None:
        """End it, if it still runs."""
        if self.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)
            self.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _wait(self, options: int) -> int | None:
        if self.status is None:
            # Not subprocess's own wait, which does not tell what the child took.
            pid, status, usage = os.wait4(self._process.pid, options)
            if pid:
                self.status = self._process.returncode = os.waitstatus_to_exitcode(status)
                self._ended(usage.ru_utime + usage.ru_stime)
        return self.status
