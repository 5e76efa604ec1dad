"""A snapshot as a root: the files of another machine in a .tar."""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from pykexec.errors import MachineError
from pykexec.machine.root import Root, unreadable
from pykexec.memory import MIB

_MEMBERS_MAX = 1 << 20
_TOTAL_MAX = 256 * MIB
_NAME_MAX = 4096  # PATH_MAX
_OPENERS: Mapping[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZ": bz2.open,
    b"\xfd7": lzma.open,
}
_DAMAGE = (
    EOFError,
    ValueError,
    RecursionError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    tarfile.TarError,
    zlib.error,
)
"""What tarfile and the decompressors answer to damaged data; RecursionError to long names without end."""


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
            with tarfile.open(fileobj=io.BytesIO(_contents(archive)), mode="r:") as tar:
                self._take(archive, tar)
        except _DAMAGE as error:
            raise MachineError(
                f"cannot read the snapshot {archive}: no tar archive, or a damaged one",
                hint="pykexec --snapshot makes one",
            ) from error
        except OSError as error:
            raise unreadable(archive, error) from error

    def _take(self, archive: Path, tar: tarfile.TarFile) -> None:
        total = 0
        for count, member in enumerate(tar):
            total += max(member.size, 0)  # as it says; a sparse file takes less room in the archive
            if total > _TOTAL_MAX or count > _MEMBERS_MAX:
                raise _too_large(archive)
            content = tar.extractfile(member) if member.isreg() else None
            if content is not None and len(member.name) <= _NAME_MAX:
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


def _contents(archive: Path) -> bytes:
    """The archive itself, unpacked here: tarfile would unpack whatever a header makes it ask for."""
    with archive.open("rb") as file:
        head = file.read(2)
    data = bytearray()
    with _OPENERS.get(head, open)(archive, "rb") as file:
        while piece := file.read(MIB):
            data += piece
            if len(data) > _TOTAL_MAX:
                raise _too_large(archive)
    return bytes(data)


def _too_large(archive: Path) -> MachineError:
    return MachineError(
        f"cannot read the snapshot {archive}: more than {_TOTAL_MAX // MIB} MiB or {_MEMBERS_MAX} files",
        hint="pykexec --snapshot makes one",
    )
