"""Kernels in a form that QEMU boots."""

from __future__ import annotations

from pathlib import Path

from pykexec import formats
from pykexec.emulation.errors import EmulationError
from pykexec.files import FileData

_BOOTED = "uImage"
"""A container that QEMU opens on the boards that have it: it also tells where the kernel goes."""


def unpacked(kernel: Path) -> memoryview | None:
    """Return the kernel in a container that not every QEMU opens; None where it boots the file itself.

    Raises FileError, and ImageError for a damaged container.
    """
    inner, containers = formats.unwrap(FileData.open(kernel, "kernel"))
    return inner.data if containers and not containers.startswith(_BOOTED) else None


def bootable(kernel: Path, folder: Path) -> Path:
    """Return a file that QEMU boots with that kernel: its own, or one that is made in `folder`.

    Raises EmulationError, and as `unpacked`.
    """
    data = unpacked(kernel)
    if data is None:
        return kernel
    made = folder / "kernel"
    try:
        made.write_bytes(data)
    except OSError as error:
        raise EmulationError(f"cannot write {made}: {error.strerror}") from error
    return made
