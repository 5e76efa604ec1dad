"""A dump that the last crash left on a bare partition, where the next one would overwrite it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pykexec.errors import FileError
from pykexec.kdump.capture import blockdevice
from pykexec.kdump.config.settings import DEFAULT_PATH, Settings, TargetKind

_SIGNATURE = b"makedumpfile".ljust(16, b"\0")
"""What a flattened dump begins with (makedumpfile 1.7, struct makedumpfile_header)."""
_BLOCK = 4096


def take_over(
    settings: Settings, warn: Callable[[str], None], folder: Path = Path(DEFAULT_PATH)
) -> Path | None:
    """Copy the dump from a raw target into a folder of its own, and wipe its header; the folder.

    None where there is none. Raises FileError where it cannot be copied; then it stays where it is.
    """
    if settings.target.kind is not TargetKind.RAW:
        return None
    device = Path(blockdevice.find(settings.target.address))
    try:
        with device.open("rb") as file:
            if file.read(len(_SIGNATURE)) != _SIGNATURE:
                return None
    except OSError as error:
        raise FileError(f"cannot read {device}: {error.strerror}") from error
    to = folder / f"127.0.0.1-{time.strftime('%Y-%m-%d-%H:%M:%S')}"
    _copy(device, to)
    _save_log(to, warn)
    try:
        _wipe(device)
    except OSError as error:
        raise FileError(
            f"the dump on {device} cannot be marked as copied to {to}: {_why(error)}",
            hint="the next start copies it again; see whether the device can be written to",
        ) from error
    return to


def _copy(device: Path, to: Path) -> None:
    """A whole copy, also after a power failure, or none. Raises FileError."""
    try:
        to.mkdir(parents=True)
        partial = to / "vmcore-incomplete"
        with device.open("rb") as file:
            _run(["makedumpfile", "-R", str(partial)], stdin=file.fileno())
        _sync(partial)
        partial.rename(to / "vmcore")
        for each in (to, to.parent, to.parent.parent):  # fsync(2): a name is in the folder, not in the file
            _sync(each)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(to, ignore_errors=True)
        raise FileError(
            f"the dump on {device} cannot be copied to {to}: {_why(error)}",
            hint=f"save it, before a crash overwrites it: makedumpfile -R vmcore < {device}",
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _save_log(folder: Path, warn: Callable[[str], None]) -> None:
    log = folder / "vmcore-dmesg.txt"
    try:
        _run(["makedumpfile", "--dump-dmesg", str(folder / "vmcore"), str(log)])
        log.chmod(0o600)
    except (OSError, subprocess.SubprocessError) as error:
        log.unlink(missing_ok=True)
        warn(f"the log of the dump in {folder} cannot be read: {_why(error)}")


def _run(command: list[str], stdin: int = subprocess.DEVNULL) -> None:
    subprocess.run(command, stdin=stdin, check=True, capture_output=True)


def _wipe(device: Path) -> None:
    with device.open("r+b") as file:
        file.write(bytes(_BLOCK))
        file.flush()
        os.fsync(file.fileno())


def _why(error: OSError | subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = (error.stdout + error.stderr).decode("utf-8", "replace").split("\n")
        return next((line for line in said if line.strip()), f"makedumpfile ends with {error.returncode}")[
            :200
        ]
    return getattr(error, "strerror", None) or str(error)
