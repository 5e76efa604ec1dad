"""Files that are looked at but not collected in a snapshot: kernels, initramfs images, the dump's target."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pykexec.errors import FileError
from pykexec.files import FileData

LISTING = "pykdump-places.json"
"""Where a snapshot has a `RecordingFiles`'s answers."""


def descriptors(proc: Path) -> Iterator[Path]:
    """The open files of all processes that are there and may be looked at; a process may end meanwhile."""
    for process in proc.glob("[0-9]*"):
        try:
            yield from list((process / "fd").iterdir())
        except OSError:
            continue


class HostFiles:
    """Files by absolute path, below a root; of a snapshot, which has none of them, nothing is known."""

    def __init__(self, top: str | os.PathLike[str] | None) -> None:
        """`top` is the root folder: "/" for the running system, None where there is none to look at."""
        self._top = None if top is None else Path(top)

    @property
    def are_known(self) -> bool:
        return self._top is not None

    def size(self, path: str) -> int | None:
        """Bytes in a file; None where there is none, or it cannot be told."""
        status = self._status(path)
        return None if status is None else status.st_size

    def tells(self, path: str) -> bool:
        """Whether it can be told if a file is there."""
        return self.are_known

    def modified(self, path: str) -> float | None:
        status = self._status(path)
        return None if status is None else status.st_mtime

    def free(self, path: str) -> int | None:
        """Bytes that root can still write to the file system that holds that path, or its nearest parent."""
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
        """The file, mapped. Raises FileError."""
        return FileData.open(self._full(path), what)

    @property
    def can_be_read(self) -> bool:
        """Whether there are contents, too."""
        return self.are_known

    def at(self, path: str) -> Path | None:
        """Where a file is to be looked for; None where nothing is known."""
        return None if self._top is None else self._full(path)

    def writer(self, *paths: str) -> str | None:
        """What has one of the files open for writing, as far as we may see: the file, and the process."""
        wanted = {self._full(path).resolve(): path for path in paths}
        for descriptor in descriptors(Path("/proc")):
            try:
                # Its name only: to look at the file itself may take forever, as with a server that is gone.
                path = wanted.get(descriptor.readlink())
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
    """Remembers what it was asked, and what it answered, for a snapshot."""

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
    """What a `RecordingFiles` remembered; of other files nothing is there."""

    def __init__(self, content: Mapping[str, object]) -> None:
        """Raises FileError for an object that is none of a recorder's."""
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
