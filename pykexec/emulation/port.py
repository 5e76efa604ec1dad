"""The pipe through which a guest is told something."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

_SIZE = 1 << 20
"""The most that Linux lets anyone have, by default."""


class Port:
    """A named pipe, from which QEMU reads; it never waits for that."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._to_guest = memoryview(b"")
        """What the guest is told, as far as the pipe has no room for it yet."""
        os.mkfifo(path, 0o600)
        # Open for reading, too, so that neither this nor a write waits for QEMU.
        self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        with suppress(PermissionError):  # this user's pipes have all the memory that they may have
            fcntl.fcntl(self._file, fcntl.F_SETPIPE_SZ, _SIZE)

    def tell(self, text: bytes) -> None:
        """Tell the guest this, after all that it was told before, as far as there is room now."""
        self._to_guest = memoryview(bytes(self._to_guest) + text) if text else self._to_guest
        with suppress(BlockingIOError):
            while self._to_guest:
                self._to_guest = self._to_guest[os.write(self._file, self._to_guest) :]

    @property
    def is_full(self) -> bool:
        """Whether the guest has not been told all: `tell` again, if only b""."""
        return bool(self._to_guest)

    def close(self) -> None:
        """Remove the pipe, if that has not been done."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._path.unlink(missing_ok=True)
