"""Places of programs: the capture image takes them from there, and doctor looks for them there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_FOLDERS = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/local/sbin")
# Fedora and RHEL, openSUSE, Debian have it where no PATH leads.
_ELSEWHERE = {"fence_kdump_send": ("/usr/libexec", "/usr/lib", "/usr/libexec/fence-agents")}


def places(name: str) -> Sequence[str]:
    """Return the paths where a program may be, by its name or path; the first that exists counts."""
    return (
        [name] if "/" in name else [f"{folder}/{name}" for folder in (*_ELSEWHERE.get(name, ()), *_FOLDERS)]
    )


def find(name: str) -> Path | None:
    """Return the running system's program of that name or path; None where it is not there."""
    found = (Path(each) for each in places(name))
    return next((each for each in found if each.is_file() and os.access(each, os.X_OK)), None)
