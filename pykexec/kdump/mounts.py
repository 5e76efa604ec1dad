"""What is mounted where, as the kernel lists it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pykexec.errors import MachineError


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo, with its escapes undone (proc_pid_mountinfo(5))."""

    number: str
    """MAJOR:MINOR of what is mounted; no block device's for btrfs."""
    top: str
    """What of that file system is mounted: / for all of it."""
    point: str
    type: str
    source: str


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """/proc/self/mountinfo. Raises MachineError for what is not of its form."""
    found = []
    for line in text.splitlines():
        own, dash, rest = line.partition(" - ")
        words, more = own.split(), rest.split(" ")
        if not dash or len(words) < 6 or len(more) < 2:
            raise MachineError(f"/proc/self/mountinfo: not understood: {line[:200]}")
        fields = (words[2], words[3], words[4], more[0], more[1])
        found.append(Mount(*(unescaped(each) for each in fields)))
    return tuple(found)


def unescaped(text: str) -> str:
    """Paths in the kernel's lists of mounts have \\040 for a blank (fs/proc_namespace.c mangle)."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def mount_of(path: str, mounts: Sequence[Mount]) -> Mount:
    """The mount that holds an absolute path. Raises MachineError where there is none."""
    found = innermost(path, mounts)
    if found is None:
        raise MachineError(f"no mount of /proc/self/mountinfo holds {path}")
    return found


class _Mounted(Protocol):
    @property
    def point(self) -> str: ...


_M = TypeVar("_M", bound=_Mounted)


def innermost(path: str, mounts: Sequence[_M]) -> _M | None:
    """Of the mounts over an absolute path the innermost, and of these the last one; None for none."""
    over = [each for each in mounts if (path + "/").startswith(each.point.rstrip("/") + "/")]
    longest = max((len(each.point) for each in over), default=0)
    return next((each for each in reversed(over) if len(each.point) == longest), None)
