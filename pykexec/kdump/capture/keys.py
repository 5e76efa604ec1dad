"""Keys of encrypted volumes, for a capture image in memory: no file has them, and no message.

The capture system makes the volume from the table that the device mapper has of it now. The key is in that:
no passphrase is asked for, and no memory is taken to derive a key from one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pykexec import children
from pykexec.errors import FileError
from pykexec.initramfs import Addition
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.layers import DMSETUP_SECONDS, as_word, attribute, slaves
from pykexec.kdump.config.names import HAND_OVER_KEYS

_FOLDER = "etc/pykdump.tables"
# Documentation/admin-guide/device-mapper/dm-crypt.rst: cipher, key, IV offset, device, offset, options
_TABLE = re.compile(
    r"0 [0-9]+ crypt (?P<cipher>\S+) (?P<key>\S+) [0-9]+ (?P<device>[0-9]+:[0-9]+) [0-9]+[^\n]*\n?"
)
# The header of LUKS 1 and 2 (LUKS on-disk format specification): the UUID as text.
_HEADER, _UUID = b"LUKS\xba\xbe", slice(168, 204)


@dataclass(frozen=True, slots=True)
class _Volume:
    """An encrypted volume of the running system."""

    name: str
    below: Path
    """The device that holds it, in sysfs."""


def require(
    volumes: Iterable[str], *, allowed: bool, sys: Path = Path("/sys"), dev: Path = Path("/dev")
) -> None:
    """Raise PykexecError where volumes, by the device mapper's UUID, cannot be made again after a crash.

    `allowed`: the configuration lets their keys be handed over.
    """
    for uuid in volumes:
        volume = _find(uuid, sys)
        if not allowed:
            raise Unsupported(
                f"unlocking {volume.name}, which is encrypted, without its key",
                instead=f"let its key be in the capture image in memory ({HAND_OVER_KEYS}=yes)",
            )
        _table(volume)
        luks = uuid.split("-")[2]
        if _luks_uuid(dev / volume.below.name) != luks:
            raise Unsupported(f"finding {volume.name} again: its LUKS header is not on {volume.below.name}")


def tables(volumes: Iterable[str], sys: Path = Path("/sys")) -> Sequence[Addition]:
    """Return the files with these volumes' tables, so keys, for an image in memory. Raises PykexecError."""
    return [
        Addition(f"{_FOLDER}/{uuid}", memoryview(_table(_find(uuid, sys)).encode()), 0o600)
        for uuid in volumes
    ]


def _find(uuid: str, sys: Path) -> _Volume:
    for folder in (sys / "block").glob("dm-*"):
        if as_word(attribute(folder / "dm/uuid")) == uuid:
            below = slaves(folder)
            if len(below) == 1:
                return _Volume(attribute(folder / "dm/name"), below[0])
    raise FileError(f"the dump target's encrypted volume {uuid} is gone", hint="open it: cryptsetup open")


def _table(volume: _Volume) -> str:
    """Return a volume's table, with DEVICE for the device that holds it.

    Raises PykexecError where it has no key, or not such a one. No error has a part of it.
    """
    command = ["dmsetup", "table", "--showkeys", "--", volume.name]
    text = children.run(command, seconds=DMSETUP_SECONDS).stdout.decode("ascii", "replace")
    found = _TABLE.fullmatch(text)
    if found is None:
        raise Unsupported(f"unlocking {volume.name}: it is not one plain dm-crypt volume")
    if found["key"].startswith(":"):
        raise Unsupported(
            f"unlocking {volume.name}, whose key is in the kernel's keyring, where it cannot be read",
            instead=f"put it into the volume's table: cryptsetup refresh --disable-keyring {volume.name}",
        )
    start, end = found.span("device")
    return f"{text[:start]}DEVICE{text[end:]}"


def _luks_uuid(device: Path) -> str:
    """Return the UUID in a LUKS header without its dashes; "" where there is none. Raises FileError."""
    try:
        with device.open("rb") as file:
            start = file.read(_UUID.stop)
    except OSError as error:
        raise FileError(f"cannot read {device}: {error.strerror}", hint="run as root") from error
    text = start[_UUID].decode("ascii", "replace") if start.startswith(_HEADER) else ""
    return text.replace("-", "")
