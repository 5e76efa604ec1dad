"""Mounts, as the kernel lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pykexec.errors import MachineError


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo, with escapes undone (proc_pid_mountinfo(5))."""

    number: str
    """MAJOR:MINOR of the file system; for btrfs that is no block device's."""
    top: str
    """The folder of the file system that is mounted; / for all of it."""
    point: str
    type: str
    source: str
    options: str = ""
    """Those of the file system, not of the mount."""


def read(proc: Path = Path("/proc")) -> tuple[Mount, ...]:
    """Return the mounts that this process sees. Raises MachineError."""
    path = proc / "self/mountinfo"
    try:
        data = path.read_bytes()  # as text a carriage return in a name would end a line
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror}") from error
    return parse_mounts(data.decode("utf-8", "surrogateescape"))


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """Return the mounts in the text of /proc/self/mountinfo.

    Raises MachineError for a line that is not of its form.
    """
    found = []
    # Any user can mount something, in a folder whose name has what else ends lines or words in Unicode.
    for line in text.removesuffix("\n").split("\n") if text else ():
        own, dash, rest = line.partition(" - ")
        words, more = own.split(" "), rest.split(" ")
        if not dash or len(words) < 6 or len(more) < 2:
            raise MachineError(f"/proc/self/mountinfo: not understood: {line[:200]}")
        fields = (words[2], words[3], words[4], more[0], more[1], "".join(more[2:3]))
        found.append(Mount(*(unescaped(each) for each in fields)))
    return tuple(found)


def unescaped(text: str) -> str:
    """Undo escapes: paths in the kernel's lists have \\040 for a blank (fs/proc_namespace.c, mangle())."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def mount_of(path: str, mounts: Sequence[Mount]) -> Mount:
    """Return the mount that holds an absolute path. Raises MachineError where there is none."""
    found = innermost(path, mounts)
    if found is None:
        raise MachineError(f"no mount of /proc/self/mountinfo holds {path}")
    return found


class _Mounted(Protocol):
    @property
    def point(self) -> str: ...


_M = TypeVar("_M", bound=_Mounted)


def innermost(path: str, mounts: Sequence[_M]) -> _M | None:
    """Return the innermost mount over an absolute path, the last of several; None where there is none."""
    over = [each for each in mounts if (path + "/").startswith(each.point.rstrip("/") + "/")]
    longest = max((len(each.point) for each in over), default=0)
    return next((each for each in reversed(over) if len(each.point) == longest), None)
