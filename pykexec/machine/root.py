"""Where facts are read: the running system, a folder that holds the same paths, or a snapshot archive.

No pathlib here: asking whether a kernel is loaded shall not take longer than that.
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
        """The file, or None where there is none. Raises MachineError when it cannot be read."""
        raise NotImplementedError

    def names(self, path: str) -> list[str]:
        """The names in a folder, sorted; none where there is no such folder."""
        raise NotImplementedError

    def entries(self, path: str) -> list[tuple[str, bool]]:
        """The same with whether each is a folder; a link to one is none, as it may lead in a circle."""
        raise NotImplementedError


class Folder(Root):
    """A root in the file system: ``/`` for the running system."""

    def __init__(self, top: str | os.PathLike[str]) -> None:
        self._top = os.fspath(top)

    def path_of(self, path: str) -> str:
        """Where the file system has it."""
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
    """The error for a fact that is there but cannot be read."""
    return MachineError(f"cannot read {path}: {error.strerror}", hint=privilege_hint(error))
