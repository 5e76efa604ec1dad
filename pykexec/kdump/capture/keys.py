"""Keys of encrypted volumes, for a capture system: no file has them, and no message.

It makes the volume from the table that the device mapper has of it now: no passphrase is asked for, and no
memory is taken to derive a key from one. The table is put into the image in memory. It names a key that the
kernel hands over (`handover`), or has the key itself, where the configuration allows that.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from pykexec import children
from pykexec.errors import FileError
from pykexec.initramfs import Addition
from pykexec.kdump.capture import handover
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.handover import HasKey
from pykexec.kdump.capture.layers import DMSETUP_SECONDS, as_word, attribute, slaves
from pykexec.kdump.config.names import HAND_OVER_KEYS

_FOLDER = "etc/pykdump.tables"
# Documentation/admin-guide/device-mapper/dm-crypt.rst: cipher, key, IV offset, device, offset, options
_TABLE = re.compile(
    r"0 [0-9]+ crypt (?P<cipher>\S+) (?P<key>\S+) [0-9]+ (?P<device>[0-9]+:[0-9]+) [0-9]+[^\n]*\n?"
)
# A key in a keyring: size in bytes, type, description.
_NAMED_KEY = re.compile(r":(?P<size>[0-9]{1,6}):[a-z]+:(?P<description>.+)")
# The header of LUKS 1 and 2 (LUKS on-disk format specification): the UUID as text.
_HEADER, _UUID = b"LUKS\xba\xbe", slice(168, 204)
_NO_WAY = "which is encrypted, without its key"
_ALLOW = f"let its key be in the capture image in memory ({HAND_OVER_KEYS}=yes)"


@dataclass(frozen=True, slots=True)
class Key:
    """The way of a volume's key to the capture system."""

    volume: str
    """The device mapper's UUID."""
    table: str = field(repr=False)
    """The volume's table, with DEVICE for the device that holds it; it has the key if the kernel has not."""
    description: str = ""
    """The description of the key that the kernel hands over."""


@dataclass(frozen=True, slots=True)
class _Volume:
    """An encrypted volume of the running system."""

    uuid: str
    """The device mapper's."""
    name: str
    below: Path
    """The device that holds it, in sysfs."""

    @property
    def usual_description(self) -> str:
        """The description of its key in distributions, as in Documentation/admin-guide/kdump/kdump.rst."""
        return f"cryptsetup:{UUID(self.luks)}"

    @property
    def luks(self) -> str:
        """The UUID of the LUKS header, without dashes."""
        return self.uuid.split("-")[2]


def require(
    volumes: Iterable[str],
    *,
    allowed: bool,
    sys: Path = Path("/sys"),
    dev: Path = Path("/dev"),
    folder: Path = handover.FOLDER,
) -> None:
    """Raise PykexecError where volumes, by the device mapper's UUID, cannot be found again after a crash.

    Raise it, too, where their keys can get there in no way. `allowed`: the configuration lets them be in an
    image in memory.
    """
    for uuid in volumes:
        volume = _find(uuid, sys)
        if not allowed and not handover.is_offered(folder):
            raise Unsupported(f"unlocking {volume.name}, {_NO_WAY}", instead=_ALLOW)
        if _luks_uuid(dev / volume.below.name) != volume.luks:
            raise Unsupported(f"finding {volume.name} again: its LUKS header is not on {volume.below.name}")


def find(
    volumes: Iterable[str], *, allowed: bool, has_key: HasKey | None, sys: Path = Path("/sys")
) -> Sequence[Key]:
    """Return the way of each volume's key to a capture system; the kernel's, where there is that.

    `has_key` tells whether the kernel could hand over a key; None where it cannot hand over any. Raises
    PykexecError where there is no way.
    """
    return [_find_key(_find(uuid, sys), allowed=allowed, has_key=has_key) for uuid in volumes]


def by_name(keys: Iterable[Key]) -> Mapping[str, str]:
    """Return the descriptions of keys that the kernel hands over, by names for `handover.arranged`."""
    return {key.volume.split("-")[2]: key.description for key in keys if key.description}


def tables(keys: Iterable[Key]) -> Sequence[Addition]:
    """Return the files with volumes' tables, so maybe keys, for an image in memory."""
    return [Addition(f"{_FOLDER}/{key.volume}", memoryview(key.table.encode()), 0o600) for key in keys]


def ways(keys: Iterable[Key]) -> str:
    """Return for people how keys get to the capture system; "" without keys."""
    told = ("handed over by the kernel" if key.description else "in the image in memory" for key in keys)
    return " or ".join(sorted({*told}))


def _find_key(volume: _Volume, *, allowed: bool, has_key: HasKey | None) -> Key:
    why, remedies = _NO_WAY, [_ALLOW]
    if has_key is not None:
        found = _handed_over(volume, has_key)
        if isinstance(found, Key):
            return found
        why = found
        remedies.insert(0, _link(volume))
    if not allowed:
        raise Unsupported(f"unlocking {volume.name}, {why}", instead=", or ".join(remedies))
    table, start, _ = _table(volume, "--showkeys")
    if table[start] == ":":
        remedies[-1] = f"put it into the volume's table: cryptsetup refresh --disable-keyring {volume.name}"
        why = "whose key is in the kernel's keyring, where it cannot be read"
        raise Unsupported(f"unlocking {volume.name}, {why}", instead=", or ".join(remedies))
    return Key(volume.uuid, table)


def _handed_over(volume: _Volume, has_key: HasKey) -> Key | str:
    """Return a volume's key that the kernel can hand over, or why there is none. Raises PykexecError."""
    table, start, end = _table(volume)  # without the key itself
    named = _NAMED_KEY.fullmatch(table, start, end)
    size = int(named["size"]) if named else (end - start) // 2
    if size > handover.KEY_MAX:
        return f"whose key has {size} bytes: the kernel hands over {handover.KEY_MAX} at most"
    for text in (volume.usual_description, *([named["description"]] if named else [])):
        if handover.fits(text) and has_key(text):
            return Key(volume.uuid, f"{table[:start]}:{size}:user:{text}{table[end:]}", text)
    return f"whose key the kernel could hand over, but there is no logon key {volume.usual_description}"


def _link(volume: _Volume) -> str:
    words = ("--link-vk-to-keyring", f"@u::%logon:{volume.usual_description}", f"/dev/{volume.below.name}")
    return f"open it so (cryptsetup 2.7): {shlex.join(('cryptsetup', 'open', *words, volume.name))}"


def _find(uuid: str, sys: Path) -> _Volume:
    for folder in (sys / "block").glob("dm-*"):
        if as_word(attribute(folder / "dm/uuid")) == uuid:
            below = slaves(folder)
            if len(below) == 1:
                return _Volume(uuid, attribute(folder / "dm/name"), below[0])
    raise FileError(f"the dump target's encrypted volume {uuid} is gone", hint="open it: cryptsetup open")


def _table(volume: _Volume, *words: str) -> tuple[str, int, int]:
    """Return a volume's table, with DEVICE for the device that holds it, and where in it the key is.

    Raises PykexecError where it has not such a one. No error has a part of it.
    """
    command = ["dmsetup", "table", *words, "--", volume.name]
    table = children.run(command, seconds=DMSETUP_SECONDS).stdout.decode("ascii", "replace")
    found = _TABLE.fullmatch(table)
    if found is None:
        raise Unsupported(f"unlocking {volume.name}: it is not one plain dm-crypt volume")
    start, end = found.span("device")
    return f"{table[:start]}DEVICE{table[end:]}", *found.span("key")  # which stands before


def _luks_uuid(device: Path) -> str:
    """Return the UUID in a LUKS header without its dashes; "" where there is none. Raises FileError."""
    try:
        with device.open("rb") as file:
            start = file.read(_UUID.stop)
    except OSError as error:
        raise FileError(f"cannot read {device}: {error.strerror}", hint="run as root") from error
    text = start[_UUID].decode("ascii", "replace") if start.startswith(_HEADER) else ""
    return text.replace("-", "")
