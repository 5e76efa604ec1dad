"""Receipts: what was loaded, for later to tell what changed, and what has been proven by a crash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pykexec import __version__
from pykexec.errors import FileError
from pykexec.files import FileData
from pykexec.kdump.files import STATE
from pykexec.machine import Machine
from pykexec.memory import MIB
from pykexec.ownership import RECEIPT

LOADED = Path("/", RECEIPT)
PLAN = Path("/run/pykdump/plan.json")
"""What of it went where, as `pykexec --dry-run --json` shows it."""
PROVEN = STATE / "proven.json"
_SIZE_MAX = MIB


@dataclass(frozen=True, slots=True)
class Receipt:
    """One load of a capture kernel."""

    boot: str
    """The boot's id: what is loaded is gone with it."""
    kernel: str
    kernel_sha256: str
    initrd: str
    initrd_sha256: str
    command_line: str
    target: str
    """For people."""
    hardware: str
    """Digest of the memory and the CPUs that the core headers describe."""
    inputs: str
    """What our own image was made of; empty for another's."""
    system_call: str
    time: str
    """UTC, as in ISO 8601."""
    version: str = __version__

    def proves(self, other: Receipt) -> bool:
        """Whether a crash with this one tells what a crash with the other would do."""
        return self._software == other._software

    @property
    def _software(self) -> tuple[str, str, str]:
        return self.kernel_sha256, self.initrd_sha256, self.command_line


def save(receipt: Receipt, path: Path) -> None:
    """Write it, whole or not at all, so that it outlasts a crash. Raises FileError."""
    save_json(asdict(receipt), path)


def load(path: Path) -> Receipt | None:
    """None where there is none, or it is not understood (of another version, damaged)."""
    return _receipt(load_json(path))


def parse(text: str) -> Receipt | None:
    """The receipt that a file's text is; None where it is not understood."""
    return _receipt(_object(text))


def _receipt(content: dict[str, object] | None) -> Receipt | None:
    names = {field.name for field in fields(Receipt)}
    if (
        content is None
        or content.keys() != names
        or not all(isinstance(each, str) for each in content.values())
    ):
        return None
    return Receipt(**{name: str(value) for name, value in content.items()})


def save_json(content: dict[str, object], path: Path) -> None:
    """Raises FileError."""
    save_text(json.dumps(content, indent=2) + "\n", path)


def save_text(text: str, path: Path) -> None:
    """Write it, whole or not at all, so that it outlasts a crash. Raises FileError."""
    new = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from error


def load_json(path: Path) -> dict[str, object] | None:
    """The object in a file; None where there is none."""
    with contextlib.suppress(OSError, ValueError), path.open() as file:
        return _object(file.read(_SIZE_MAX))
    return None


def _object(text: str) -> dict[str, object] | None:
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(text)
        if isinstance(content, dict):
            return content
    return None


def digest(file: FileData) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(file.data).hexdigest()


def hardware(machine: Machine) -> str:
    """Digest of what core headers describe. Raises MachineError."""
    memory = [f"{each.start:x}-{each.end:x}" for each in machine.iomem.system_ram]
    cpus = [str(each) for each in machine.cpu_notes]
    return hashlib.sha256("\n".join([*memory, *cpus]).encode()).hexdigest()


def boot_id() -> str:
    """Of the running boot. Raises FileError."""
    path = Path("/proc/sys/kernel/random/boot_id")
    try:
        return path.read_text().strip()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
