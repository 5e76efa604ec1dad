"""Tell which files belong to root alone: files that others can change are neither loaded nor believed."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from pykexec import writing
from pykexec.errors import FileError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def is_ours(status: os.stat_result) -> bool:
    """Return whether root, or the calling user, owns a file."""
    return status.st_uid in (0, os.geteuid())


def is_private(status: os.stat_result) -> bool:
    """Return whether a file or folder is ours and nobody else can write to it."""
    return is_ours(status) and not status.st_mode & _OTHERS_WRITE


def keeps_names(status: os.stat_result) -> bool:
    """Return whether our files in a folder keep their names: only we can write to it, or it is sticky."""
    return is_private(status) or (is_ours(status) and bool(status.st_mode & stat.S_ISVTX))


def require_private(path: str, what: str) -> None:
    """Raise FileError where others can change the file, or where its path leads; `what` names the file."""
    place, links = Path("/"), 0
    waiting = list(reversed(Path(path).absolute().parts[1:]))
    try:
        while waiting:
            _require(keeps_names(place.stat()), place, what, path)
            name = waiting.pop()
            place = place.parent if name == ".." else place / name
            status = place.lstat()
            if stat.S_ISLNK(status.st_mode):
                links += 1
                _require(is_ours(status) and links <= writing.LINKS_MAX, place, what, path)
                target = place.readlink()
                place = Path("/") if target.is_absolute() else place.parent
                waiting += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        _require(is_private(place.stat()), place, what, path)
    except OSError as error:
        raise FileError(f"cannot read the {what} {path}: {error.strerror}") from error


def _require(is_safe: bool, place: Path, what: str, path: str) -> None:
    if not is_safe:
        name = shlex.quote(str(place))
        raise FileError(
            f"the {what} {path} is not loaded: others than root can change {place}",
            hint=f"put it elsewhere, or: chown root {name}; chmod go-w {name}",
        )
