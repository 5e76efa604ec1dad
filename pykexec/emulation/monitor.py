"""QEMU's machine protocol (docs/interop/qmp-intro, qapi/), over the streams of its process."""

from __future__ import annotations

import json
import time
from typing import IO, Any

from pykexec.emulation.errors import EmulationError

_INTERVAL = 0.02


class MonitorError(EmulationError):
    """QEMU refused a command, or is gone."""


class Monitor:
    """A connection in which commands are accepted. Raises MonitorError, as its methods do."""

    def __init__(self, commands: IO[str], answers: IO[str]) -> None:
        self._commands, self._answers = commands, answers
        self._read()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:
        """Return what QEMU answers to a command."""
        try:
            self._commands.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            self._commands.flush()
        except BrokenPipeError:
            raise MonitorError(f"QEMU ended before {command}") from None
        while "event" in (answer := self._read()):
            pass
        if "error" in answer:
            raise MonitorError(f"QEMU refused {command}: {answer['error']['desc']}")
        return answer["return"]

    def migrated(self) -> None:
        """Return when the machine's state has left, or has come in."""
        while (status := self.execute("query-migrate").get("status")) != "completed":
            if status in ("failed", "cancelled"):
                raise MonitorError(f"the machine's state could not be moved: {status}")
            time.sleep(_INTERVAL)

    def _read(self) -> Any:
        line = self._answers.readline()
        if not line:
            raise MonitorError("QEMU ended while it was spoken to")
        return json.loads(line)
