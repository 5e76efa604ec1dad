"""Watchdogs that run: a crash does not stop them; they would reset the machine in the middle of a dump."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pykexec.kdump.capture.blockdevice import drivers_above


def running(sys: Path = Path("/sys")) -> tuple[Path, ...]:
    """In sysfs, those that do not say that they stand still (ABI/testing/sysfs-class-watchdog)."""
    found = sorted((sys / "class/watchdog").glob("watchdog*"))
    return tuple(each for each in found if _state(each) != "inactive")


def drivers(watchdogs: tuple[Path, ...], sys: Path = Path("/sys")) -> Iterator[str]:
    """The modules of these, and of what they are attached to. Not all say what device they are."""
    for each in watchdogs:
        if (each / "device").exists():
            yield from drivers_above((each / "device").resolve(), sys)


def _state(folder: Path) -> str:
    try:
        return (folder / "state").read_text().strip()
    except OSError:
        return ""
