"""A dump that the last crash left on a bare partition, where the next one would overwrite it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from pykexec.errors import FileError
from pykexec.kdump.capture import blockdevice
from pykexec.kdump.config.settings import DEFAULT_PATH, Settings, TargetKind

_SIGNATURE = b"makedumpfile".ljust(16, b"\0")
"""What a flattened dump begins with (makedumpfile 1.7, struct makedumpfile_header)."""
_BLOCK = 4096


def take_over(settings: Settings, folder: Path = Path(DEFAULT_PATH)) -> Path | None:
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
    try:
        to.mkdir(parents=True)
        _copy(device, to)
        _wipe(device)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(to, ignore_errors=True)
        raise FileError(
            f"the dump on {device} cannot be copied to {to}: {_why(error)}",
            hint=f"save it, before a crash overwrites it: makedumpfile -R vmcore < {device}",
        ) from error
    return to


def _copy(device: Path, to: Path) -> None:
    partial = to / "vmcore-incomplete"
    with device.open("rb") as file:
        _run(["makedumpfile", "-R", str(partial)], stdin=file.fileno())
    with partial.open("rb") as whole:
        os.fsync(whole.fileno())
    partial.rename(to / "vmcore")
    log = to / "vmcore-dmesg.txt"
    _run(["makedumpfile", "--dump-dmesg", str(to / "vmcore"), str(log)])
    log.chmod(0o600)


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
