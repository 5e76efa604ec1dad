"""The bytes of a dump file: read where they are needed, never all at once."""

import os
import stat
from pathlib import Path
from typing import Protocol, Self

from pykexec.errors import privilege_hint
from pykexec.vmcore.errors import DumpError

_OPEN_FAILED = 2
_READ_FAILED = 40


class Source(Protocol):
    """A file's contents by offset, in bytes."""

    @property
    def name(self) -> str:
        """The name the user gave it, for messages."""

    @property
    def size(self) -> int: ...

    @property
    def container(self) -> str:
        """The container, to be appended to a format's name: ", flattened", or nothing."""

    @property
    def damage(self) -> tuple[str, ...]:
        """What is wrong with the container, if it has one."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return at most `size` bytes; fewer at the end. Raises DumpError when they cannot be read."""

    def read_written(self, offset: int, size: int) -> bytes:
        """Read as `read_at` does, but stop at what was never written instead of returning zeros."""


class PlainFile:
    """A file as it is: /proc/vmcore, a saved dump, a block device that holds one."""

    container = ""
    damage: tuple[str, ...] = ()

    def __init__(self, path: str | Path) -> None:
        """Open the file. Raises DumpError when that fails."""
        self.name = os.fspath(path)
        try:
            self._file = open(path, "rb", buffering=0, opener=_open)  # noqa: SIM115
            self.size = _size(self._file.fileno())
        except OSError as error:
            raise DumpError(
                f"cannot open {self.name}: {error.strerror}",
                hint=privilege_hint(error),
                status=_OPEN_FAILED,
            ) from error

    def read_at(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        if offset < 0 or size <= 0:
            return b""
        try:
            data = os.pread(self._file.fileno(), size, offset)
            while len(data) < size:
                more = os.pread(self._file.fileno(), size - len(data), offset + len(data))
                if not more:
                    break
                data += more
            return data
        except OSError as error:
            raise DumpError(
                f"{self.name}: cannot read {size} bytes at offset {offset:#x}: {error.strerror}",
                status=_READ_FAILED,
            ) from error

    read_written = read_at

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(path: str, flags: int) -> int:
    """Open without waiting for somebody to write into a pipe (fifo(7)), which is no dump anyway."""
    return os.open(path, flags | os.O_NONBLOCK)


def _size(descriptor: int) -> int:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fstat(descriptor).st_size
    return os.lseek(descriptor, 0, os.SEEK_END)  # a pipe has no size: ESPIPE
