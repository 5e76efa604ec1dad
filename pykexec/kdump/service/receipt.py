"""Receipts of what was loaded: to tell later what has changed, and what a crash has proven."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO

from pykexec import __version__, writing
from pykexec.errors import FileError, privilege_hint
from pykexec.files import FileData
from pykexec.kdump.files import STATE
from pykexec.machine import Machine
from pykexec.machine.sysfs import JSON_MAX, parse_object
from pykexec.ownership import RECEIPT

LOADED = Path("/", RECEIPT)
PLAN = Path("/run/pykdump/plan.json")
"""The plan of that load, as `pykexec --dry-run --json` shows it."""
PROVEN = STATE / "proven.json"
_MODE = 0o600  # it has addresses that only root may know, and the marker of the last test


@dataclass(frozen=True, slots=True)
class Receipt:
    """A load of a capture kernel."""

    boot: str
    """The id of the boot, which is the lifetime of what is loaded."""
    kernel: str
    kernel_sha256: str
    initrd: str
    initrd_sha256: str
    command_line: str
    target: str
    """The dump target, for people."""
    hardware: str
    """The digest of the memory and the CPUs that the core headers describe."""
    inputs: str
    """The fingerprint of what our own image was made from; empty for another's."""
    system_call: str
    time: str
    """UTC, as in ISO 8601."""
    version: str = __version__
    keys: str = ""
    """What stands for the keys that the kernel hands over (`capture.handover`); "" for none."""

    def proves(self, other: Receipt) -> bool:
        """Return whether a crash with this load shows what one with the other load would do."""
        return self._software == other._software

    @property
    def _software(self) -> tuple[str, str, str]:
        return self.kernel_sha256, self.initrd_sha256, self.command_line


def save(receipt: Receipt, path: Path) -> None:
    """Write a receipt, whole or not at all, so that it survives a crash. Raises FileError."""
    save_json(asdict(receipt), path)


@contextlib.contextmanager
def replaced() -> Iterator[Callable[[Receipt, str], None]]:
    """Replace the loaded kernel's receipt: call the yielded function with the new one just before the load.

    It writes the new files, and sets the old ones aside until the end of the block; so after the load only
    names change. After an error they stay set aside, for `put_back` or `forget`. Raises FileError.
    """
    writing.make_private_folder(LOADED.parent)
    with (
        writing.new_file(PLAN, mode=_MODE, durable=False) as plan_file,
        writing.new_file(LOADED, mode=_MODE, durable=False) as receipt_file,
    ):

        def note(receipt: Receipt, plan: str) -> None:
            _fill(receipt_file, LOADED, _json(asdict(receipt)))
            _fill(plan_file, PLAN, plan)
            set_aside()

        yield note
    with contextlib.suppress(FileError):  # what is left of it is never put back
        forget()


def _fill(file: BinaryIO, path: Path, text: str) -> None:
    try:
        file.seek(0)
        file.truncate()
        file.write(text.encode())
        file.flush()
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from error


def set_aside() -> None:
    """Set the receipt aside, so that nothing tells what is loaded. Raises FileError."""
    for path in (LOADED, PLAN):
        if not _rename(path, _before(path)):
            writing.remove_file(_before(path))  # another kernel's, of a start that was killed


def put_back() -> None:
    """Restore what was set aside. Raises FileError."""
    for path in (PLAN, LOADED):
        _rename(_before(path), path)


def forget() -> None:
    """Remove what was set aside. Raises FileError."""
    for path in (LOADED, PLAN):
        writing.remove_file(_before(path))


def _before(path: Path) -> Path:
    return path.with_name(f"{path.name}.before")


def _rename(path: Path, to: Path) -> bool:
    """Rename a file; return whether there was one. Raises FileError."""
    try:
        path.replace(to)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise FileError(f"cannot rename {path}: {error.strerror}") from error
    return True


def load(path: Path) -> Receipt | None:
    """Return the receipt in a file; None where there is none, or it is damaged or of another version.

    Raises FileError where it cannot be read.
    """
    return _receipt(load_json(path))


def parse(text: str) -> Receipt | None:
    """Return the receipt in a text; None where it is not understood."""
    return _receipt(_object(text))


def _receipt(content: dict[str, object] | None) -> Receipt | None:
    names = {field.name for field in fields(Receipt)}
    if (
        content is None
        or not names - {"keys"} <= content.keys() <= names  # which older ones have not
        or not all(isinstance(each, str) for each in content.values())
    ):
        return None
    return Receipt(**{name: str(value) for name, value in content.items()})


def save_json(content: dict[str, object], path: Path) -> None:
    """Write an object as `save_text` does. Raises FileError, also where `load_json` would not read it."""
    text = _json(content)
    if len(text) > JSON_MAX:
        raise FileError(f"{path} would be too long: more than {JSON_MAX} bytes")
    save_text(text, path)


def save_text(text: str, path: Path) -> None:
    """Write a file only for root, whole or not at all, so that it survives a crash. Raises FileError."""
    writing.make_private_folder(path.parent)
    writing.write_file(path, text, mode=_MODE)


def _json(content: dict[str, object]) -> str:
    return json.dumps(content, indent=2) + "\n"


def load_json(path: Path) -> dict[str, object] | None:
    """Return the object in a file; None where there is none. Raises FileError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return _object(file.read(JSON_MAX).decode("utf-8", "replace"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}", hint=privilege_hint(error)) from error


def _object(text: str) -> dict[str, object] | None:
    with contextlib.suppress(ValueError):
        return parse_object(text)
    return None


def digest(file: FileData) -> str:
    """Return a file's SHA-256, in hexadecimal."""
    return hashlib.sha256(file.data).hexdigest()


def hardware(machine: Machine) -> str:
    """Return the digest of what core headers describe: memory and CPUs. Raises MachineError."""
    memory = [f"{each.start:x}-{each.end:x}" for each in machine.iomem.system_ram]
    cpus = [str(each) for each in machine.cpu_notes]
    return hashlib.sha256("\n".join([*memory, *cpus]).encode()).hexdigest()


def boot_id() -> str:
    """Return the id of the running boot. Raises FileError."""
    path = Path("/proc/sys/kernel/random/boot_id")
    try:
        return path.read_text().strip()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
