"""Folders that the host of a virtual machine shares with it: by virtiofs, or by 9P over virtio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pykexec.kdump.capture.blockdevice import drivers_above
from pykexec.kdump.capture.errors import Unsupported


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to share folders."""

    driver: str
    """The driver of the devices that bring the folders; a module of its own."""
    modules: tuple[str, ...]
    """The modules that mounting takes besides it."""
    options: str
    """The mount options in addition to rw."""


# Documentation/filesystems/9p.rst: 9P2000.L is the version for Linux, and virtio has to be asked for.
KINDS: Mapping[str, Kind] = {
    "virtiofs": Kind("virtiofs", (), ""),
    "9p": Kind("9pnet_virtio", ("9p",), "trans=virtio,version=9p2000.L,msize=262144"),
}
"""The kinds, by the file system's type."""


@dataclass(frozen=True, slots=True)
class Share:
    """A shared folder."""

    type: str
    """The file system's type, a key of `KINDS`."""
    tag: str
    """The host's name for it."""
    modules: tuple[str, ...]
    """The modules that mounting it takes."""
    drivers: tuple[str, ...]
    """The modules that drive its device; some may be built into the kernel."""


def find(type: str, tag: str, mounted: str = "", sys: Path = Path("/sys")) -> Share:
    """Return the shared folder with that tag. `mounted` are the options it is mounted with, if it is.

    Raises Unsupported where it comes over a network.
    """
    kind = KINDS[type]
    if type == "9p" and mounted and "trans=virtio" not in mounted.split(","):
        raise Unsupported(f"mounting 9P ({tag}) by another way than virtio", instead="name another target")
    # Which of the devices has the tag only newer kernels tell; all have the same drivers.
    devices = (sys / "bus/virtio/drivers" / kind.driver).glob("virtio*")
    drivers = [driver for device in devices for driver in drivers_above(device.resolve(), sys)]
    return Share(type, tag, (kind.driver, *kind.modules), tuple(dict.fromkeys(drivers)))
