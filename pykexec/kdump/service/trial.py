"""`pykdump test`: crash on purpose, and judge after the next boot.

Before the crash a marker goes to the disk and into the kernel's log. A whole dump with the marker in its log
(or the log, where only that is saved) proves that the load works.
"""

from __future__ import annotations

import enum
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pykexec import writing
from pykexec.errors import FileError, PykexecError
from pykexec.kdump.files import STATE
from pykexec.kdump.service import receipt as receipts
from pykexec.kdump.service.dumps import Dump
from pykexec.kdump.service.receipt import Receipt

PENDING = STATE / "test.json"
_KMSG, _TRIGGER = Path("/dev/kmsg"), Path("/proc/sysrq-trigger")


class Outcome(enum.Enum):
    """The result of the last test."""

    NONE = "no test has been made"
    RUNNING = "the machine has not crashed yet"
    PASSED = "passed"
    FAILED = "failed: no whole dump has its marker"
    UNSEEN = "the dump cannot be seen from here"


@dataclass(frozen=True, slots=True)
class Trial:
    """A test that has begun."""

    id: str
    boot: str
    time: str

    @property
    def marker(self) -> str:
        """The line in the crashed kernel's log."""
        return f"pykdump: test {self.id}"

    def judge(self, boot: str, dumps: Sequence[Dump] | None) -> Outcome:
        """Return the outcome; `dumps` are those there now, None where the target cannot be looked at."""
        if self.boot == boot:
            return Outcome.RUNNING
        if dumps is None:
            return Outcome.UNSEEN
        passed = any(dump.is_whole and dump.log_holds(self.marker) for dump in dumps)
        return Outcome.PASSED if passed else Outcome.FAILED


def pending(path: Path = PENDING) -> tuple[Trial, Receipt] | None:
    """Return the last test that is not settled, and what was loaded then. Raises FileError."""
    content = receipts.load_json(path)
    loaded = receipts.load(_receipt_path(path))
    if content is None or loaded is None or content.keys() != {"id", "boot", "time"}:
        return None
    return Trial(*(str(content[name]) for name in ("id", "boot", "time"))), loaded


def prepare(loaded: Receipt, now: str, path: Path = PENDING) -> Trial:
    """Save the test and its receipt to the disk. Raises FileError."""
    trial = Trial(secrets.token_hex(8), loaded.boot, now)
    receipts.save(loaded, _receipt_path(path))
    receipts.save_json(asdict(trial), path)
    return trial


def settle(loaded: Receipt, proven: Path = receipts.PROVEN, path: Path = PENDING) -> None:
    """Record that the test passed and proved what was loaded then. Raises FileError."""
    receipts.save(loaded, proven)
    writing.remove_file(path)
    writing.remove_file(_receipt_path(path))


def crash(trial: Trial) -> None:
    """Crash the machine, and do not return. Raises PykexecError where that does not work."""
    try:
        writing.write_value(_KMSG, f"{trial.marker}\n")
        os.sync()
        writing.write_value(_TRIGGER, "c")
    except FileError as error:
        raise PykexecError(f"cannot crash this machine: {error.what}") from error
    raise PykexecError(f"{_TRIGGER}: the machine has not crashed")


def _receipt_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}-receipt.json")
