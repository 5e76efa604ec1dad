"""A snapshot as a root: the files of another machine in a .tar."""

import io
import tarfile
from pathlib import Path
from typing import IO

from pykexec.errors import MachineError
from pykexec.machine.root import Root, unreadable
from pykexec.memory import MIB

_MEMBERS_MAX = 1 << 20
_TOTAL_MAX = 512 * MIB


class Archive(Root):
    """A snapshot in a .tar, compressed or not; read into memory, never unpacked.

    Only plain files count: links and devices in it are ignored, and names are compared as they stand, so
    that nothing outside the archive can be reached.
    """

    def __init__(self, archive: Path) -> None:
        """Raises MachineError when that is no such archive, or an absurdly large one."""
        self._files: dict[str, bytes] = {}
        self._folders: dict[str, set[str]] = {}
        try:
            with tarfile.open(archive, "r:*") as tar:
                self._take(archive, tar)
        except OSError as error:
            raise unreadable(archive, error) from error
        except (tarfile.TarError, EOFError) as error:
            raise MachineError(
                f"cannot read the snapshot {archive}: no tar archive, or a damaged one",
                hint="pykexec --snapshot makes one",
            ) from error

    def _take(self, archive: Path, tar: tarfile.TarFile) -> None:
        total = 0
        for count, member in enumerate(tar):
            total += max(member.size, 0)
            if total > _TOTAL_MAX or count > _MEMBERS_MAX:
                raise MachineError(f"{archive}: more than {_TOTAL_MAX // MIB} MiB or {_MEMBERS_MAX} files")
            content = tar.extractfile(member) if member.isreg() else None
            if content is not None:
                self._add(member.name.removeprefix("./"), content.read())

    def _add(self, name: str, data: bytes) -> None:
        self._files[name] = data
        while name:
            folder, _, last = name.rpartition("/")
            self._folders.setdefault(folder, set()).add(last)
            name = folder

    def open(self, path: str) -> IO[bytes] | None:
        data = self._files.get(path)
        return None if data is None else io.BytesIO(data)

    def names(self, path: str) -> list[str]:
        return sorted(self._folders.get(path, ()))
