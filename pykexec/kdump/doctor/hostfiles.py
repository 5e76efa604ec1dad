"""Files that checks look at but snapshots do not contain: kernels, initramfs images, the dump's target."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pykexec.errors import FileError
from pykexec.files import FileData

LISTING = "pykdump-places.json"
"""The file in a snapshot with the answers of `RecordingFiles`."""


def descriptors(proc: Path) -> Iterator[Path]:
    """Yield the open files of all processes that we may look at; a process may end meanwhile."""
    for process in proc.glob("[0-9]*"):
        try:
            yield from list((process / "fd").iterdir())
        except OSError:
            continue


class HostFiles:
    """Files by absolute path, below a root. A snapshot has none of them, so nothing is known there."""

    def __init__(self, top: str | os.PathLike[str] | None) -> None:
        """`top` is the root folder: "/" for the running system, None where there is none to look at."""
        self._top = None if top is None else Path(top)

    @property
    def are_known(self) -> bool:
        return self._top is not None

    def size(self, path: str) -> int | None:
        """Return a file's size in bytes; None where there is no file, or its size is not known."""
        status = self._status(path)
        return None if status is None else status.st_size

    def tells(self, path: str) -> bool:
        """Return whether it is known if a file exists."""
        return self.are_known

    def modified(self, path: str) -> float | None:
        status = self._status(path)
        return None if status is None else status.st_mtime

    def free(self, path: str) -> int | None:
        """Return the bytes free for root on the file system of that path, or of its nearest parent."""
        if self._top is None:
            return None
        while True:
            try:
                found = os.statvfs(self._full(path))
                return found.f_bfree * found.f_frsize
            except FileNotFoundError:
                if path in ("", "/"):
                    return None
                path = path.rstrip("/").rpartition("/")[0] or "/"
            except OSError:
                return None

    def open(self, path: str, what: str) -> FileData:
        """Return the file, mapped. Raises FileError."""
        return FileData.open(self._full(path), what)

    @property
    def can_be_read(self) -> bool:
        """Whether files have contents here, too."""
        return self.are_known

    def at(self, path: str) -> Path | None:
        """Return where to look for a file; None where nothing is known."""
        return None if self._top is None else self._full(path)

    def writer(self, *paths: str) -> str | None:
        """Return who has one of the files open for writing, as far as we may see: file and process."""
        wanted = {str(self._full(path).resolve()): path for path in paths}
        for descriptor in descriptors(Path("/proc")):
            try:
                # Only its name: to look at the file itself may take forever, for instance without its
                # server.
                path = wanted.get(os.readlink(descriptor))  # noqa: PTH115 (no object for each name)
                if path is None:
                    continue
                process = descriptor.parent.parent
                told = (process / "fdinfo" / descriptor.name).read_text()
                flags = re.search(r"^flags:\s+([0-7]+)$", told, re.M)
                if flags and int(flags[1], 8) & os.O_ACCMODE:
                    return f"{path}: {(process / 'comm').read_text().strip()} (process {process.name})"
            except (OSError, ValueError):
                continue
        return None

    def _status(self, path: str) -> os.stat_result | None:
        if self._top is None:
            return None
        try:
            return self._full(path).stat()
        except (OSError, ValueError):
            return None

    def _full(self, path: str) -> Path:
        return (self._top or Path("/")) / path.lstrip("/")


class RecordingFiles(HostFiles):
    """The same files; it remembers questions and answers for a snapshot."""

    def __init__(self, top: str | os.PathLike[str]) -> None:
        super().__init__(top)
        self._sizes: dict[str, int | None] = {}
        self._times: dict[str, float | None] = {}
        self._free: dict[str, int | None] = {}

    def size(self, path: str) -> int | None:
        self._sizes[path] = super().size(path)
        return self._sizes[path]

    def modified(self, path: str) -> float | None:
        self._times[path] = super().modified(path)
        return self._times[path]

    def free(self, path: str) -> int | None:
        self._free[path] = super().free(path)
        return self._free[path]

    def as_json(self) -> str:
        return (
            json.dumps({"size": self._sizes, "modified": self._times, "free": self._free}, indent=1) + "\n"
        )


class RecordedFiles(HostFiles):
    """The answers that a `RecordingFiles` remembered; other files count as missing."""

    def __init__(self, content: Mapping[str, object]) -> None:
        """Take a recorder's object. Raises FileError where it is something else."""
        super().__init__(None)
        self._of: dict[str, dict[str, object]] = {}
        for kind in ("size", "modified", "free"):
            found = content.get(kind)
            if not isinstance(found, dict):
                raise FileError(f"{LISTING} is damaged: it has no object {kind}")
            self._of[kind] = found

    @property
    def are_known(self) -> bool:
        return True

    @property
    def can_be_read(self) -> bool:
        return False

    def size(self, path: str) -> int | None:
        return self._whole("size", path)

    def tells(self, path: str) -> bool:
        return path in self._of["size"]

    def modified(self, path: str) -> float | None:
        found = self._of["modified"].get(path)
        return found if isinstance(found, int | float) else None

    def free(self, path: str) -> int | None:
        return self._whole("free", path)

    def writer(self, *paths: str) -> str | None:
        return None

    def _whole(self, kind: str, path: str) -> int | None:
        found = self._of[kind].get(path)
        return found if isinstance(found, int) else None
