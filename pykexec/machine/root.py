"""Where facts are read: the running system, a folder with the same paths, or a snapshot archive.

pathlib is not imported here: that would take longer than to ask whether a kernel is loaded.
"""

from __future__ import annotations

import os
import stat

from pykexec.errors import MachineError, privilege_hint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO


class Root:
    """Files by paths relative to a root, such as ``proc/iomem``."""

    def open(self, path: str) -> IO[bytes] | None:
        """Open a file; None where there is none. Raises MachineError when it cannot be read."""
        raise NotImplementedError

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, sorted; none where there is no such folder."""
        raise NotImplementedError

    def entries(self, path: str) -> list[tuple[str, bool]]:
        """Return the same names, each with whether it is a folder.

        A link to a folder is none: it may lead in a circle.
        """
        raise NotImplementedError


class Folder(Root):
    """A root in the file system: ``/`` for the running system."""

    def __init__(self, top: str | os.PathLike[str]) -> None:
        self._top = os.fspath(top)

    def path_of(self, path: str) -> str:
        """Return the path in the file system."""
        return os.path.join(self._top, path)

    def open(self, path: str) -> IO[bytes] | None:
        full = os.path.join(self._top, path)
        try:
            if not stat.S_ISREG(os.stat(full).st_mode):
                return None
            return open(full, "rb")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unreadable(full, error) from error

    def names(self, path: str) -> list[str]:
        return [name for name, _ in self.entries(path)]

    def entries(self, path: str) -> list[tuple[str, bool]]:
        full = os.path.join(self._top, path)
        try:
            with os.scandir(full) as found:
                return sorted((each.name, each.is_dir(follow_symlinks=False)) for each in found)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise unreadable(full, error) from error


def unreadable(path: str | os.PathLike[str], error: OSError) -> MachineError:
    """Return the error for a fact that exists but cannot be read."""
    return MachineError(f"cannot read {path}: {error.strerror}", hint=privilege_hint(error))
