"""The dumps that are there already."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pykexec.errors import PykexecError

# pykdump's and kdumpctl's HOST-DATE, and kdump-config's and openSUSE's dates
_FOLDER = re.compile(r"(?:.+-)?(\d{4})-?(\d{2})-?(\d{2})[-_]?(\d{2}):?(\d{2})(?::?(\d{2}))?")
_DUMP = re.compile(r"(?:vmcore(?:\.flat)?(?:\.(?:gz|bz2|xz|lzma|zst|lz4))?|dump\.\d+)")
_LOG = re.compile(r"vmcore-dmesg\.txt|dmesg\.\d+|dmesg\.txt")
_PARTIAL = re.compile(r"(?:vmcore|dump).*-?incomplete.*")
_LOG_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Dump:
    """One crash's folder."""

    folder: Path
    size: int
    """Bytes of the dump itself."""
    is_whole: bool
    """Whether all that was to be saved is there."""
    has_log: bool

    def __str__(self) -> str:
        if self.is_whole and not self.size:
            return f"{self.folder}  the kernel's log alone"
        if self.is_whole:
            return f"{self.folder}  {self.size / (1 << 20):.1f} MiB"
        log = "the kernel's log is there" if self.has_log else "without the kernel's log"
        return f"{self.folder}  INCOMPLETE, {self.size / (1 << 20):.1f} MiB, {log}"

    def log_holds(self, text: str) -> bool:
        """Whether the crashed kernel's log has that text, beside the dump or, where none is, in it."""
        for each in self.folder.iterdir():
            if _LOG.fullmatch(each.name):
                with each.open("rb") as file:
                    if text.encode() in file.read(_LOG_MAX):
                        return True
            elif not self.has_log and _DUMP.fullmatch(each.name) and _dumped_log_holds(each, text):
                return True
        return False


def _dumped_log_holds(dump: Path, text: str) -> bool:
    from pykexec.vmcore import Dump as Content
    from pykexec.vmcore.log import KernelLog

    try:
        return any(text.encode() in record.text for record in KernelLog(Content.open(str(dump))))
    except PykexecError:
        return False


def in_folder(folder: Path, *, log_alone: bool = False) -> Sequence[Dump]:
    """The dumps in a folder, the newest first; none where it is not there or cannot be read.

    `log_alone`: nothing but the log is to be saved.
    """
    try:
        folders = [each for each in folder.iterdir() if _FOLDER.fullmatch(each.name) and each.is_dir()]
        found = [(_date(each.name), _look(each, log_alone)) for each in folders]
    except OSError:
        return ()
    return [dump for _, dump in sorted(found, key=lambda each: (each[0], each[1].folder.name), reverse=True)]


def _date(name: str) -> tuple[str, ...]:
    match = _FOLDER.fullmatch(name)
    return tuple(part or "" for part in match.groups()) if match else ()


def _look(folder: Path, log_alone: bool) -> Dump:
    sizes = {each.name: each.stat().st_size for each in folder.iterdir() if each.is_file()}
    whole = [size for name, size in sizes.items() if _DUMP.fullmatch(name)]
    partial = [size for name, size in sizes.items() if _PARTIAL.fullmatch(name)]
    has_log = any(_LOG.fullmatch(name) for name in sizes)
    is_whole = bool(whole) or (log_alone and has_log)
    return Dump(folder, max(whole or partial or [0]), is_whole, has_log)
