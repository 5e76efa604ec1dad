"""The layers between a file system and its disks, which have to be assembled first: LVM, software RAID."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pykexec import children
from pykexec.children import ChildError
from pykexec.errors import FileError
from pykexec.kdump.capture.errors import Unsupported

# drivers/md: types of volumes other than linear and striped, which dm-mod itself has.
_VOLUME_MODULES = ("dm_mirror", "dm_snapshot", "dm_thin_pool", "dm_raid")
_ARRAY_MODULES = {"raid4": "raid456", "raid5": "raid456", "raid6": "raid456"}
DEPTH_MAX = 8
_MDADM_SECONDS = 60.0  # it reads the array's superblocks; a disk may have to spin up

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer to assemble."""

    kind: str
    """The kind of layer: lvm or md."""
    name: str
    """VG/LV, or an array's UUID as mdadm writes it."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The layers of a device, and their needs."""

    layers: tuple[Layer, ...] = ()
    """The layers, in the order in which to assemble them."""
    modules: tuple[str, ...] = ()
    """The modules that have to be loaded for that."""
    optional: tuple[str, ...] = ()
    """The modules that may have to be loaded."""
    disks: tuple[Path, ...] = ()
    """The devices at the bottom in sysfs: disks and partitions."""


NOTHING = Stack()


def below(folder: Path) -> Stack:
    """Return the stack of a block device in sysfs. Raises Unsupported for layers other than LVM and RAID."""
    parts = list(_walk(folder, 0))
    return Stack(
        _once(part.layers for part in parts),
        _once(part.modules for part in parts),
        _once(part.optional for part in parts),
        _once(part.disks for part in parts),
    )


def _once(parts: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    """Return all of them, each only at its first place."""
    return tuple(dict.fromkeys(each for part in parts for each in part))


def _walk(folder: Path, depth: int, *, in_volume: bool = False) -> Iterator[Stack]:
    """Yield the stack's parts from the disks up. Raises Unsupported."""
    if depth > DEPTH_MAX:
        raise Unsupported(f"{folder.name}: more than {DEPTH_MAX} devices one on the other")
    # A partition of an array has the array's layers.
    base = folder.parent if (folder / "partition").exists() else folder
    volume, array = (base / "dm").is_dir(), (base / "md").is_dir()
    if not volume and not array:
        if "/virtual/" in f"{base}/" and not base.name.startswith("nvme"):
            raise Unsupported(f"finding {base.name} again, which is on no bus")
        yield Stack(disks=(folder,))
        return
    for slave in sorted((base / "slaves").glob("*")):
        yield from _walk(slave.resolve(), depth + 1, in_volume=volume)
    if array:
        if attribute(base / "md/metadata_version").startswith("external:"):  # mdmon(8)
            raise Unsupported(
                f"putting together {base.name}, whose metadata (IMSM, DDF) a daemon writes",
                instead="name another file system as target",
            )
        level = attribute(base / "md/level")
        yield Stack((Layer("md", _array_uuid(base.name)),), (_ARRAY_MODULES.get(level, level),))
        return
    kind = attribute(base / "dm/uuid").partition("-")[0]
    if kind != "LVM":
        raise Unsupported(
            f"putting together {attribute(base / 'dm/name') or base.name} ({kind or 'device mapper'})",
            instead="name another file system as target",
        )
    # Parts of a mirror or a pool are volumes, too; the top one activates them.
    layers = () if in_volume else (Layer("lvm", volume_name(attribute(base / "dm/name"))),)
    yield Stack(layers, ("dm_mod",), _VOLUME_MODULES)


def volume_name(name: str) -> str:
    """Return VG/LV for a device mapper's name, where dashes in both are doubled (dm_build_dm_name)."""
    group, _, volume = re.sub(r"(?<!-)-(?!-)", "/", name).partition("/")
    return f"{group.replace('--', '-')}/{volume.replace('--', '-')}"


def _array_uuid(name: str) -> str:
    command = ["mdadm", "--detail", "--export", f"/dev/{name}"]
    try:
        done = children.run(command, seconds=_MDADM_SECONDS)
    except ChildError as error:
        what = f"{error.what}, and the dump target is on the array {name}"
        raise FileError(what, hint=error.hint) from error
    found = re.search(rb"^MD_UUID=([0-9a-f:]+)$", done.stdout, re.M)
    if found is None:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise FileError(f"mdadm tells no UUID of the array {name}: {said[:200]}")
    return found[1].decode()


def attribute(path: Path) -> str:
    """Return the content of a file in sysfs; "" where it is missing or cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
