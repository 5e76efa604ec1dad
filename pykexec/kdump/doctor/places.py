"""Files that are looked at but not collected in a snapshot: kernels, initramfs images, the dump's target."""

from __future__ import annotations

import os
from pathlib import Path

from pykexec.files import FileData


class Places:
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

    def _status(self, path: str) -> os.stat_result | None:
        if self._top is None:
            return None
        try:
            return self._full(path).stat()
        except (OSError, ValueError):
            return None

    def _full(self, path: str) -> Path:
        return (self._top or Path("/")) / path.lstrip("/")
