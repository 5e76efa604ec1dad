"""Watchdogs that run: a crash does not stop them; they would reset the machine in the middle of a dump."""

from __future__ import annotations

from pathlib import Path

from pykexec.kdump.capture.blockdevice import drivers_above


def drivers_of_running(sys: Path = Path("/sys")) -> tuple[str, ...]:
    """The modules of watchdogs that are hardware and run, or do not say (Documentation/ABI/testing/
    sysfs-class-watchdog); of what they are attached to as well."""
    found: dict[str, None] = {}
    for each in sorted((sys / "class/watchdog").glob("watchdog*")):
        device = each / "device"
        if device.exists() and _state(each) != "inactive":
            found.update(dict.fromkeys(drivers_above(device.resolve(), sys)))
    return tuple(found)


def _state(folder: Path) -> str:
    try:
        return (folder / "state").read_text().strip()
    except OSError:
        return ""
