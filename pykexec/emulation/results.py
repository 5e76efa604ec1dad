"""Results that come out of a machine as tar streams, one after the other in a file that grows."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import IO

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
        """Tell whether anything has come at all."""
        return self._file.exists() and self._file.stat().st_size > 0

    def unpack(self) -> None:
        """Unpack what has come since the last time."""
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

    def _members(self, stream: IO[bytes], size: int) -> None:
        # Zeros end one archive; the next one follows.
        with tarfile.open(fileobj=stream, mode="r:", ignore_zeros=True) as archive:
            # Python 3.11.4 has it first.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            for member in archive:
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if end > size:
                    return
                archive.extract(member, self._folder)
                self._read = end
