"""Find the dumps that are there already.

Others may write into /var/crash (in Ubuntu's all users may), so only files that root put there are read.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pykexec import writing
from pykexec.errors import FileError, PykexecError, printable, privilege_hint
from pykexec.kdump.service import trust

# pykdump's and kdumpctl's HOST-DATE, kdump-tools' and openSUSE's dates; with a number if the name was taken
_FOLDER = re.compile(r"(?:.+-)?(\d{4})-?(\d{2})-?(\d{2})[-_]?(\d{2})[:-]?(\d{2})(?:[:-]?(\d{2}))?(?:\.\d+)?")
# kdumpctl test: `date +%s-%N`
_TEST_FOLDER = re.compile(r"kdump-test-(\d{9,11})-\d{9}")
_DUMP = re.compile(r"(?:vmcore(?:\.flat)?(?:\.(?:gz|bz2|xz|lzma|zst|lz4))?|dump\.\d+)")
_LOG = re.compile(r"vmcore-dmesg\.txt|dmesg\.\d+|dmesg(?:\.txt)?")
_PARTIAL = re.compile(r"(?!vmcore-dmesg)(?:vmcore|dump).*-?incomplete.*")
_LOG_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Dump:
    """The folder of one crash."""

    folder: Path
    size: int
    """The bytes of the dump itself."""
    is_whole: bool
    """Whether everything that had to be saved is there."""
    has_log: bool
    time: float | None = None
    """When that was written, in seconds since 1970; None where there is neither a dump nor a log."""

    def __str__(self) -> str:
        return f"{printable(str(self.folder))}  {self.summary}"

    @property
    def summary(self) -> str:
        """What there is in the folder, in a few words."""
        if self.is_whole and not self.size:
            return "the kernel's log alone"
        if self.is_whole:
            return f"{self.size / (1 << 20):.1f} MiB"
        log = "with the log" if self.has_log else "without the log"
        return f"INCOMPLETE, {self.size / (1 << 20):.1f} MiB, {log}"

    def log_holds(self, text: str) -> bool:
        """Return whether the crashed kernel's log has that text: the log beside the dump, or else in it."""
        try:
            with _opened(self.folder.parent) as base, _opened_dump(self.folder.name, base) as folder:
                names = _files(folder)
                logs = [name for name in names if _LOG.fullmatch(name)]
                whole = [] if logs else [name for name in names if _DUMP.fullmatch(name)]
                return any(_log_holds(name, folder, text.encode()) for name in logs) or any(
                    _dumped_log_holds(name, folder, text.encode()) for name in whole
                )
        except (OSError, PykexecError):
            return False


def in_folder(folder: Path, *, log_alone: bool = False) -> Sequence[Dump]:
    """Return the dumps in a folder, the newest first; none where the folder is missing.

    `log_alone`: only the log has to be saved. Raises FileError where the folder, or a dump's, cannot be
    read, and where others than root can change its contents.
    """
    try:
        with _opened(folder) as base:
            found = [(_date(each.folder.name), each) for each in _dumps(folder, base, log_alone)]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise _unreadable(folder, error) from error
    return [dump for _, dump in sorted(found, key=lambda each: (each[0], each[1].folder.name), reverse=True)]


def count_of_others(folder: Path) -> int:
    """Return how many folders have a dump's name, but are not root's alone; 0 where that is not known."""
    count = 0
    with suppress(OSError, FileError), _opened(folder) as base:
        for name in [each.name for each in os.scandir(base) if _date(each.name)]:
            status = os.stat(name, dir_fd=base, follow_symlinks=False)
            count += stat.S_ISDIR(status.st_mode) and not trust.is_private(status)
    return count


def _dumps(folder: Path, base: int, log_alone: bool) -> Iterator[Dump]:
    for name in os.listdir(base):
        if not _date(name):
            continue
        try:
            if _is_private_folder(os.stat(name, dir_fd=base, follow_symlinks=False)):
                with _opened_dump(name, base) as opened:
                    yield _look(folder / name, _files(opened), log_alone)
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            raise _unreadable(folder / name, error) from error


def _unreadable(folder: Path, error: OSError) -> FileError:
    return FileError(f"cannot read {folder}: {error.strerror}", hint=privilege_hint(error))


def _date(name: str) -> tuple[str, ...]:
    """Return the parts of the date in a folder's name, in local time; none where it is no dump's name."""
    if match := _TEST_FOLDER.fullmatch(name):
        return tuple(time.strftime("%Y %m %d %H %M %S", time.localtime(int(match[1]))).split())
    match = _FOLDER.fullmatch(name)
    return tuple(part or "" for part in match.groups()) if match else ()


def _look(folder: Path, files: Mapping[str, os.stat_result], log_alone: bool) -> Dump:
    whole = [status for name, status in files.items() if _DUMP.fullmatch(name)]
    partial = [status for name, status in files.items() if _PARTIAL.fullmatch(name)]
    logs = [status for name, status in files.items() if _LOG.fullmatch(name)]
    found = whole or partial or logs
    return Dump(
        folder,
        max((each.st_size for each in whole or partial), default=0),
        is_whole=bool(whole) or (log_alone and bool(logs)),
        has_log=bool(logs),
        time=max((each.st_mtime for each in found), default=None),
    )


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Open the folder with the dumps' folders. Raises OSError, and FileError where others can change it."""
    with writing.opened_folder(folder.absolute()) as base:
        if not trust.keeps_names(os.fstat(base)):
            raise FileError(f"others than root can change what is in {folder}")
        yield base


@contextmanager
def _opened_dump(name: str, base: int) -> Iterator[int]:
    """Open a dump's folder. Raises OSError, and FileError where others can change it."""
    with writing.opened_below(name, base) as folder:
        if not trust.is_private(os.fstat(folder)):
            raise FileError(f"others than root can change what is in {name}")
        yield folder


def _is_private_folder(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode) and trust.is_private(status)


def _is_our_file(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and trust.is_ours(status)


def _files(folder: int) -> dict[str, os.stat_result]:
    """Return the status of our regular files in a folder, by name."""
    found = ((name, os.stat(name, dir_fd=folder, follow_symlinks=False)) for name in os.listdir(folder))
    return {name: status for name, status in found if _is_our_file(status)}


@contextmanager
def _opened_file(name: str, folder: int) -> Iterator[BinaryIO]:
    """Open a regular file of root's. Raises OSError, and FileError where it is another's."""
    with writing.opened_file(name, folder) as file:
        if not trust.is_ours(os.fstat(file.fileno())):
            raise FileError(f"{name} is not root's")
        yield file


def _log_holds(name: str, folder: int, text: bytes) -> bool:
    with _opened_file(name, folder) as file:
        return text in file.read(_LOG_MAX)


def _dumped_log_holds(name: str, folder: int, text: bytes) -> bool:
    from pykexec.vmcore import Dump as Content
    from pykexec.vmcore.log import KernelLog

    with _opened_file(name, folder) as file:
        content = Content.open(f"/proc/self/fd/{file.fileno()}")
        return any(text in record.text for record in KernelLog(content))
