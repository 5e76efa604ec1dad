"""Results that come out of a machine as tar streams, one after the other in a file that grows."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from pykexec.emulation.errors import EmulationError

_BLOCK = 512


class Stream:
    """Unpacks what is whole, each part once; what comes later is looked for behind it."""

    def __init__(self, file: Path, folder: Path) -> None:
        self._file, self._folder = file, folder
        self._read = 0
        """Where the first part begins that is not unpacked."""
        self._size = 0

    @property
    def have_begun(self) -> bool:
        """Whether anything has come at all."""
        return self._file.exists() and self._file.stat().st_size > 0

    def unpack(self) -> None:
        """Unpack what has come since the last time.

        Raises EmulationError for what is neither file nor folder, or would not be in the folder.
        """
        size = self._file.stat().st_size if self._file.exists() else 0
        if size == self._size:
            return
        self._size = size
        with self._file.open("rb") as stream:
            stream.seek(self._read)
            try:
                self._members(stream, size)
            except tarfile.ReadError:  # the header of a part is not whole
                return
            except OSError as error:
                raise EmulationError(f"the machine's results cannot be unpacked: {error}") from error

    def _members(self, stream: IO[bytes], size: int) -> None:
        # Zeros end one archive; the next one follows.
        with tarfile.open(fileobj=stream, mode="r:", ignore_zeros=True) as archive:
            # For Python 3.12 and 3.13, which warn where nothing is said. 3.11.4 has it first.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            for member in archive:
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if end > size:
                    return
                _tame(member)
                archive.extract(member, self._folder)
                self._read = end


def _tame(member: tarfile.TarInfo) -> None:
    """Take from a member what is not for a file of ours. Raises EmulationError for what no part has."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
        raise EmulationError(f"the machine's results have something else than files in them: {member.name}")
    member.mode &= 0o777
