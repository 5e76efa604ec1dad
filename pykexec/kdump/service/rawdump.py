"""Save a dump that the last crash left on a bare partition, before the next crash overwrites it."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pykexec import children, writing
from pykexec.errors import FileError, PykexecError
from pykexec.kdump.capture import blockdevice
from pykexec.kdump.config.settings import DEFAULT_PATH, Settings, TargetKind
from pykexec.memory import MIB

_SIGNATURE = b"makedumpfile".ljust(16, b"\0")
"""The beginning of a flattened dump (makedumpfile 1.7, struct makedumpfile_header)."""
_BLOCK = 4096
_SECONDS_LEAST, _SECONDS_MOST = 120.0, 7200.0  # the unit's TimeoutStartSec= is longer
_BYTES_A_SECOND = 10 * MIB  # a slow disk's speed
_LOG_SECONDS = 600.0
_DUMP, _LOG = "vmcore", "vmcore-dmesg.txt"
_UNFINISHED = {_DUMP: "vmcore-incomplete", _LOG: "vmcore-dmesg-incomplete.txt"}  # kdumpctl's names


@dataclass(frozen=True, slots=True)
class _Folder:
    """A dump's folder, open, so that nobody can put another in its place."""

    path: Path
    descriptor: int

    def file(self, name: str) -> str:
        """Return the path of a file in it, for a program that inherits the descriptor."""
        return f"/proc/self/fd/{self.descriptor}/{name}"

    def finish(self, name: str) -> None:
        """Give a file its final name, once it is whole and on the disk. Raises OSError, FileError."""
        unfinished = _UNFINISHED[name]
        with writing.opened_file(unfinished, self.descriptor) as file:
            os.fchmod(file.fileno(), 0o600)
            os.fsync(file.fileno())
        os.rename(unfinished, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        os.fsync(self.descriptor)  # fsync(2): the folder has the name, not the file

    def remove(self, *names: str) -> None:
        """Remove files that are there."""
        for name in names:
            with suppress(OSError):
                os.unlink(name, dir_fd=self.descriptor)


def take_over(
    settings: Settings, warn: Callable[[str], None], folder: Path = Path(DEFAULT_PATH)
) -> Path | None:
    """Copy the dump from a raw target into a new folder, wipe its header, and return the folder.

    Return None where there is no dump. Raises PykexecError where it cannot be copied; then it stays there.
    """
    if settings.target.kind is not TargetKind.RAW:
        return None
    device = Path(blockdevice.find(settings.target.address))
    try:
        with device.open("rb") as file:
            if file.read(len(_SIGNATURE)) != _SIGNATURE:
                return None
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise FileError(f"cannot read {device}: {error.strerror}") from error
    to = _copied(device, size, folder, warn)
    try:
        _wipe(device)
    except OSError as error:
        raise FileError(
            f"the dump on {device} cannot be marked as copied to {to}: {error.strerror}",
            hint="the next start copies it again; see whether the device can be written to",
        ) from error
    return to


def _copied(device: Path, size: int, folder: Path, warn: Callable[[str], None]) -> Path:
    """Copy the dump so that it survives a power failure, and return its folder. Raises FileError."""
    name = f"127.0.0.1-{time.strftime('%Y-%m-%d-%H:%M:%S')}"
    try:
        with _new_folder(folder, name) as to:
            _copy(device, size, to)
            _save_log(to, warn)
            return to.path
    except (OSError, PykexecError) as error:
        source = shlex.quote(str(device))
        raise FileError(
            f"the dump on {device} cannot be copied to {folder / name}: {_why(error)}",
            hint=f"save it, before a crash overwrites it: makedumpfile -R vmcore < {source}",
        ) from error


@contextmanager
def _new_folder(base: Path, name: str) -> Iterator[_Folder]:
    """Make a folder, under another name where that is taken, and remove it after an error.

    Only root may look into it, because it will hold what memory held. Raises OSError, FileError.
    """
    with writing.opened_folder(base.absolute(), make=True) as parent:
        for number in itertools.count():
            taken = f"{name}.{number}" if number else name
            with suppress(FileExistsError):
                os.mkdir(taken, 0o700, dir_fd=parent)
                break
        try:
            with writing.opened_below(taken, parent) as descriptor:
                os.fchmod(descriptor, 0o700)
                made = _Folder(base / taken, descriptor)
                try:
                    yield made
                    os.fsync(parent)
                except BaseException:
                    made.remove(_DUMP, _LOG, *_UNFINISHED.values())
                    raise
        except BaseException:
            with suppress(OSError):
                os.rmdir(taken, dir_fd=parent)
            raise


def _copy(device: Path, size: int, to: _Folder) -> None:
    """Copy the dump from the device into the folder. Raises OSError, PykexecError."""
    seconds = min(_SECONDS_LEAST + size / _BYTES_A_SECOND, _SECONDS_MOST)
    with device.open("rb") as file:
        _makedumpfile(["-R", to.file(_UNFINISHED[_DUMP])], to, seconds, stdin=file.fileno())
    to.finish(_DUMP)


def _save_log(to: _Folder, warn: Callable[[str], None]) -> None:
    try:
        _makedumpfile(["--dump-dmesg", to.file(_DUMP), to.file(_UNFINISHED[_LOG])], to, _LOG_SECONDS)
        to.finish(_LOG)
    except (OSError, PykexecError) as error:
        to.remove(_UNFINISHED[_LOG])
        warn(f"the log of the dump in {to.path} cannot be read: {_why(error)}")


def _makedumpfile(
    arguments: Sequence[str], to: _Folder, seconds: float, *, stdin: int = subprocess.DEVNULL
) -> None:
    """Run makedumpfile. Raises PykexecError with its message."""
    command = ["makedumpfile", *arguments]
    done = children.run(command, seconds=seconds, stdin=stdin, pass_fds=[to.descriptor])
    if done.returncode != 0:
        said = (done.stderr + done.stdout).decode("utf-8", "replace").replace(to.file(""), "").split("\n")
        first = next((line for line in said if line.strip()), f"makedumpfile ends with {done.returncode}")
        raise PykexecError(first[:200])


def _wipe(device: Path) -> None:
    with device.open("r+b") as file:
        file.write(bytes(_BLOCK))
        file.flush()
        os.fsync(file.fileno())


def _why(error: OSError | PykexecError) -> str:
    return error.what if isinstance(error, PykexecError) else error.strerror or str(error)
