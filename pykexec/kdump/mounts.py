"""Mounts, as the kernel lists them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
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


def of_device(device: str, mounts: Sequence[Mount]) -> Mount | None:
    """Return the mount of a device: that of its whole file system, or else the first; None without one."""
    real = os.path.realpath(device)
    found = [
        each for each in mounts if each.source.startswith("/") and os.path.realpath(each.source) == real
    ]
    return next((each for each in found if each.top == "/"), found[0] if found else None)


class _Mounted(Protocol):
    @property
    def top(self) -> str: ...
    @property
    def point(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def options(self) -> str: ...


_M = TypeVar("_M", bound=_Mounted)


def innermost(path: str, mounts: Sequence[_M]) -> _M | None:
    """Return the innermost mount over an absolute path, the last of several; None where there is none."""
    over = [each for each in mounts if (path + "/").startswith(each.point.rstrip("/") + "/")]
    longest = max((len(each.point) for each in over), default=0)
    return next((each for each in reversed(over) if len(each.point) == longest), None)


_OVERLAYS_MAX = 8


def is_seen_through(point: str, upper: str) -> bool:
    """Return whether a folder is the upper one of what is mounted at a place on the running system.

    An overlay tells the path by which its mounter saw the folder, perhaps in an initramfs. The folder's
    times, to the tick of the clock, are those of the overlay itself (ovl_getattr(), fs/overlayfs/inode.c).
    """
    try:
        folders = [Path(each).stat() for each in (point, upper)]
    except OSError:
        return False
    return len({(each.st_ctime_ns, each.st_mtime_ns, each.st_mode) for each in folders}) == 1


def below_overlays(
    path: str, mounts: Sequence[_M], is_upper: Callable[[str, str], bool]
) -> tuple[_M | None, str]:
    """Return the mount that gets what is written to an absolute path, and the path there.

    Of an overlay that is its upper folder. Where none can be seen, or there is none, the overlay stays.
    `is_upper` tells whether a folder, the second, is what a mounted overlay has been given for that.
    """
    mount = innermost(path, mounts)
    for _ in range(_OVERLAYS_MAX):
        upper = _upper(mount) if mount else None
        if mount is None or upper is None:
            break
        # A service may see a folder of the overlay as a mount of its own.
        whole = (each.point for each in mounts if each.top == "/" and _is_same_overlay(each, mount))
        if not any(is_upper(point, upper) for point in whole):
            break
        inside = path[len(mount.point.rstrip("/")) :]
        path = f"{upper}/{mount.top.strip('/')}{inside}".replace("//", "/")
        mount = innermost(path, mounts)
    return mount, path


def _upper(mount: _Mounted) -> str | None:
    """Return the folder that takes what is written to an overlay (kernel, filesystems/overlayfs.rst)."""
    if mount.type != "overlay":
        return None
    given = (each for each in mount.options.split(",") if each.startswith("upperdir=/"))
    return next((unescaped(each.removeprefix("upperdir=")).rstrip("/") for each in given), None)


def _is_same_overlay(one: _Mounted, other: _Mounted) -> bool:
    return one.type == other.type and _layers(one) == _layers(other)


def _layers(mount: _Mounted) -> list[str]:
    return sorted(each for each in mount.options.split(",") if "dir" in each)
