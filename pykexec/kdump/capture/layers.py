"""What lies between a file system and its disks, and has to be put together first: LVM, software RAID."""

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

# drivers/md: what a volume may be besides linear and striped, which dm-mod has itself.
_VOLUME_MODULES = ("dm_mirror", "dm_snapshot", "dm_thin_pool", "dm_raid")
_ARRAY_MODULES = {"raid4": "raid456", "raid5": "raid456", "raid6": "raid456"}
_DEPTH_MAX = 8
_MDADM_SECONDS = 60.0  # it reads the array's superblocks: a disk may have to start turning first

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Layer:
    """One thing to put together."""

    kind: str
    """lvm or md."""
    name: str
    """VG/LV, or an array's UUID as mdadm writes it."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What a device is made of."""

    layers: tuple[Layer, ...] = ()
    """In the order in which to put them together."""
    modules: tuple[str, ...] = ()
    """What has to be loaded for that."""
    optional: tuple[str, ...] = ()
    """What may have to be."""
    disks: tuple[Path, ...] = ()
    """In sysfs: the devices at the bottom, disks and partitions."""


NOTHING = Stack()


def below(folder: Path) -> Stack:
    """What a block device in sysfs is made of. Raises Unsupported for what is neither LVM nor RAID."""
    parts = list(_walk(folder, 0))
    return Stack(
        _once(part.layers for part in parts),
        _once(part.modules for part in parts),
        _once(part.optional for part in parts),
        _once(part.disks for part in parts),
    )


def _once(parts: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    """All of them, each at its first place."""
    return tuple(dict.fromkeys(each for part in parts for each in part))


def _walk(folder: Path, depth: int, *, in_volume: bool = False) -> Iterator[Stack]:
    """From the disks up."""
    if depth > _DEPTH_MAX:
        raise Unsupported(f"{folder.name}: more than {_DEPTH_MAX} devices one on the other")
    # A partition of an array has what the array has.
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
    # The parts of a mirror or a pool are volumes, too; the one on top brings them with it.
    layers = () if in_volume else (Layer("lvm", volume_name(attribute(base / "dm/name"))),)
    yield Stack(layers, ("dm_mod",), _VOLUME_MODULES)


def volume_name(name: str) -> str:
    """VG/LV of a name in the device mapper, where dashes in either are doubled (dm_build_dm_name)."""
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
    """What a file of sysfs says; empty where there is none, or it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
