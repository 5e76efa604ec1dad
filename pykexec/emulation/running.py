"""Machines that run: their consoles, what they are told and what they tell, and their end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pykexec.emulation.errors import EmulationError
from pykexec.emulation.machine import CONSOLE, RESULTS, SAID, TOLD, VirtualMachine, command
from pykexec.emulation.monitor import Monitor
from pykexec.emulation.port import Port
from pykexec.emulation.process import Ended, Process, no_account
from pykexec.emulation.results import Stream
from pykexec.memory import GIB, MIB

_GRACE = 10
"""Seconds by which a machine may outlive its time, where nobody is left to end it."""
_MOST = {CONSOLE: 64 * MIB, SAID: 64 * MIB, RESULTS: 4 * GIB}
"""Bytes that the files may have which a machine writes as it likes."""


class Running:
    """A machine that is running; leaving the context ends it.

    `folder`, which is made if need be, gets the console's text and the results, the contents of tar archives
    that the guest writes to its port `out`. `timeout` is in seconds. `options` are further ones of QEMU's;
    a machine that is `monitored` has a monitor on QEMU's own streams. `ended` is told the CPU seconds that
    it took. Raises EmulationError where it cannot be started.
    """

    def __init__(
        self,
        machine: VirtualMachine,
        folder: Path,
        timeout: float,
        *,
        options: Sequence[str] = (),
        monitored: bool = False,
        ended: Ended = no_account,
    ) -> None:
        self._folder = folder
        self._timeout = timeout
        self._started = time.monotonic()
        self._stream = Stream(folder / RESULTS, folder / "out")
        folder.mkdir(parents=True, exist_ok=True)
        self._port = Port(folder / TOLD)
        streams = ("-qmp", "stdio") if monitored else ()
        try:
            self._process = Process(
                [*command(machine, folder), *streams, *options],
                folder / SAID,
                timeout + _GRACE,
                ended=ended,
                monitored=monitored,
            )
        except BaseException:
            self._port.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def console(self) -> str:
        """The text on the serial console so far."""
        return text(self._folder / CONSOLE)

    @property
    def said(self) -> str:
        """What QEMU itself has said so far."""
        return text(self._folder / SAID)

    @property
    def results(self) -> Path:
        """The folder with what has come whole of what the guest tells."""
        self.unpack()
        return self._folder / "out"

    @property
    def has_told(self) -> bool:
        """Whether anything has come from the guest at all."""
        return self._stream.have_begun

    @property
    def seconds(self) -> float:
        """For how long it has been running."""
        return time.monotonic() - self._started

    def tell(self, text: bytes) -> None:
        """Tell the guest this through its port `go`, after all that it was told before.

        What there is no room for yet follows while the machine is polled, or waited for.
        """
        self._port.tell(text)

    def unpack(self) -> None:
        """Unpack what has come whole of what the guest tells."""
        self._stream.unpack()

    def monitor(self) -> Monitor:
        """Speak with the QEMU of a machine that is monitored. Raises EmulationError."""
        return self._process.monitor()

    def poll(self) -> int | None:
        """Return QEMU's exit status, as subprocess has it, or None while it runs.

        Raises EmulationError where its time is over, or it has written more than it may.
        """
        status = self._process.poll()
        if status is None:
            self._port.tell(b"")
            self._check()
        return status

    def goes_on(self) -> bool:
        """Tell whether it still runs, a moment later. Raises EmulationError as `poll` does."""
        if self.poll() is not None:
            return False
        time.sleep(0.01 if self._port.is_full else 0.05)
        return True

    def wait(self) -> int:
        """Return QEMU's exit status, 0, when the machine has ended by itself.

        Raises EmulationError as `poll` does, and where QEMU failed.
        """
        while self.goes_on():
            pass
        status = self._process.wait()
        if status:
            raise EmulationError(f"QEMU ended with status {status}: {self.said}")
        return status

    def end(self) -> None:
        """End it, if it still runs."""
        self._process.end()
        self._port.close()

    def _check(self) -> None:
        if self.seconds > self._timeout:
            raise EmulationError(f"the machine did not end within {self._timeout:g} s")
        for name, most in _MOST.items():
            file = self._folder / name
            if file.exists() and file.stat().st_size > most:
                raise EmulationError(f"the machine has written more than {most // MIB} MiB to {file}")


def text(file: Path) -> str:
    """Return a console's text so far; "" where there is none."""
    return file.read_text(errors="replace").replace("\r", "") if file.exists() else ""
