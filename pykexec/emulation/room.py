"""What a machine may take of its host: memory and disk."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pykexec.emulation.errors import EmulationError
from pykexec.memory import KIB, MIB, align_down, align_up, size_text

_EMULATOR = 256 * MIB
"""What QEMU itself takes, with its translated code."""
_STEP = 256 * MIB
"""Of what all machines' memory may be a multiple: pseries takes nothing else (hw/ppc/spapr.c)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory that a machine gets."""

    size: int
    """Bytes."""
    note: str = ""
    """What is to be said about it, where it is less than the machine has that it stands for."""


def available(meminfo: str) -> int:
    """Return the bytes that new programs may take, by /proc/meminfo. Raises EmulationError."""
    found = re.search(r"^MemAvailable:\s+(\d{1,15}) kB$", meminfo, re.M)
    if found is None:
        raise EmulationError("/proc/meminfo does not say how much memory is available (MemAvailable)")
    return int(found[1]) * KIB


def memory_for(wanted: int, least: int, free: int) -> Memory:
    """Return the memory for a machine that stands for one with `wanted` bytes, and cannot do with less than
    `least`: half of what the host has `free` at most, as the host goes on with its own work.

    Raises EmulationError where that is too little.
    """
    most = align_down(max(free // 2 - _EMULATOR, 0), _STEP)
    need = align_up(least, _STEP)
    if most < need:
        raise EmulationError(
            f"the machine takes {size_text(need)} of memory, and QEMU {size_text(_EMULATOR)}:"
            f" more than half of the {size_text(free)} that are available here",
            hint=f"try again where {size_text(2 * (need + _EMULATOR))} are available",
        )
    if wanted <= most:
        return Memory(max(align_up(wanted, _STEP), need))
    return Memory(
        most,
        f"the machine has {size_text(most)} of memory, not {size_text(wanted)}: more than half of what is"
        " available here it does not take; its reservation and its processors are the real ones",
    )


def check_disk(folder: Path, need: int) -> None:
    """Raise EmulationError where a file system has not that many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise EmulationError(
            f"{folder} has {size_text(free)} free, and {size_text(need)} may be needed",
            hint="TMPDIR=FOLDER names another place for files that go away again",
        )


@contextmanager
def scratch() -> Iterator[Path]:
    """Provide a folder for large files, for this user alone, that is removed with all that is in it.

    It is below TMPDIR, or in /var/tmp, as /tmp may be in memory (file-hierarchy(7)).
    """
    place = os.environ.get("TMPDIR") or "/var/tmp"
    try:
        folder = tempfile.TemporaryDirectory(prefix="pykexec-", dir=place, ignore_cleanup_errors=True)
    except OSError as error:
        raise EmulationError(f"cannot make a folder in {place}: {error.strerror}") from error
    with folder as path:
        yield Path(path)


def make_sparse(file: Path, size: int) -> None:
    """Make a file of that many bytes that takes no room yet: only what is written to it does."""
    with file.open("xb") as made:
        made.truncate(size)
