"""Running watchdogs. A crash does not stop them: they would reset the machine in the middle of a dump."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pykexec.kdump.capture.blockdevice import drivers_above


def running(sys: Path = Path("/sys")) -> tuple[Path, ...]:
    """Return those in sysfs that do not say that they are inactive (ABI/testing/sysfs-class-watchdog)."""
    found = sorted((sys / "class/watchdog").glob("watchdog*"))
    return tuple(each for each in found if _state(each) != "inactive")


def drivers(watchdogs: tuple[Path, ...], sys: Path = Path("/sys")) -> Iterator[str]:
    """Yield the modules of these, and of what they are attached to. Not all tell their device."""
    for each in watchdogs:
        if (each / "device").exists():
            yield from drivers_above((each / "device").resolve(), sys)


def _state(folder: Path) -> str:
    try:
        return (folder / "state").read_text().strip()
    except OSError:
        return ""
