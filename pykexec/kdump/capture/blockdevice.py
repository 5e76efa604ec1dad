"""Describe block devices of the running system so that the capture system finds the same ones again.

Names such as sda and vdb follow the order of discovery, which differs in the capture kernel. So a file
system is identified by its UUID, a bare partition by the bus address above it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec.errors import FileError
from pykexec.kdump.capture.layers import NOTHING, Stack, attribute, below, joined
from pykexec.memory import KIB

_BUS_ADDRESS = re.compile(r"/[^/]*[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](?=/)|/platform/[^/]+(?=/)")


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """A disk or a partition."""

    name: str
    """The running kernel's name for it."""
    location: str
    """The path below /sys of the last device on a bus above it: the same for every kernel."""
    partition: int
    """The partition's number; 0 for a whole disk."""
    sectors: int
    """The number of sectors of 512 bytes, whatever the device's own are."""
    drivers: tuple[str, ...]
    """The modules that drive it and what it is attached to; some may be built into the kernel."""
    number: str = ""
    """MAJOR:MINOR in the running kernel."""
    stack: Stack = NOTHING
    """The layers that it is made of."""


@dataclass(frozen=True, slots=True)
class Superblock:
    """A file system's description of itself."""

    type: str
    uuid: str
    label: str
    devices: int = 1
    """The number of devices it is on."""


def describe(device: str, sys: Path = Path("/sys"), number: str | None = None) -> BlockDevice:
    """Return the device with that path, or with that number ("8:1") where the path is none (/dev/root).

    Raises FileError where there is no such device, Unsupported for one that cannot be found or assembled.
    """
    number = _number(device) or number
    folder = sys / "dev/block" / (number or "none")
    if number is None or not folder.exists():
        raise FileError(f"{device}: no such block device", hint="write UUID=..., or a path below /dev")
    folder = folder.resolve()
    stack = below(folder, sys)
    drivers = [driver for disk in stack.disks for driver in drivers_above(disk, sys)]
    # Several paths to one NVMe disk form a single one, which is on no bus.
    drivers += ["nvme" for disk in stack.disks if disk.name.startswith("nvme")]
    return BlockDevice(
        folder.name,
        location(folder, sys),
        int(attribute(folder / "partition") or 0),
        int(attribute(folder / "size") or 0),
        tuple(dict.fromkeys(drivers)),
        number,
        stack,
    )


def location(folder: Path, sys: Path) -> str:
    """Return the path below /sys of the last device on a bus that a device in sysfs is, or is part of."""
    place = f"/{folder.relative_to(sys.resolve())}"
    found = list(_BUS_ADDRESS.finditer(f"{place}/"))
    return place[: found[-1].end()] if found else place


def drivers_above(folder: Path, sys: Path) -> Iterator[str]:
    """Yield the modules that drive a device in sysfs, and everything that it is attached to or supplied by.

    Suppliers (Documentation/driver-api/device_link.rst) are, for instance, a board's clocks and regulators.
    """
    top, seen, waiting = sys.resolve(), set[Path](), [folder]
    while waiting:
        device = waiting.pop()
        for each in (device, *device.parents):
            if each == top or each in seen:
                break
            seen.add(each)
            module = each / "driver/module"
            if module.exists():
                yield module.resolve().name
            suppliers = (link / "supplier" for link in sorted(each.glob("supplier:*")))
            waiting += [supplier.resolve() for supplier in suppliers if supplier.exists()]


def find(tag: str, sys: Path = Path("/sys"), dev: Path = Path("/dev")) -> str:
    """Return the path of the device that a tag names: UUID=, LABEL=, PARTUUID=, PARTLABEL=; keep other text.

    Raises FileError where no device or several have it.
    """
    name, equals, value = tag.partition("=")
    value = value.strip('"')
    if equals and name in ("PARTUUID", "PARTLABEL"):
        return _partition(name, value, dev)
    if not equals or name not in ("UUID", "LABEL"):
        return tag
    found = [
        (str(path), superblock)
        for path, superblock in _superblocks(sys, dev)
        if value == (superblock.uuid if name == "UUID" else superblock.label)
    ]
    # One file system may be on several devices.
    if not found or (len(found) > 1 and len(found) != found[0][1].devices):
        paths = ", ".join(path for path, _ in found)
        what = f"{paths} all have" if found else "no block device has"
        raise FileError(f"{what} the {tag} of the dump target", hint="lsblk -f shows what there is")
    return found[0][0]


def _partition(name: str, value: str, dev: Path) -> str:
    """Return the path of a partition by udev's link. Raises FileError where there is none."""
    # As udev names it (encode_devnode_name() of systemd): all but these, and UTF-8, as numbers.
    plain = re.compile(r"[\w#+.:=@-]|[^\x00-\x7f]", re.A)
    encoded = "".join(each if plain.match(each) else f"\\x{ord(each):02x}" for each in value)
    link = dev / f"disk/by-{name.lower()}" / encoded
    if not link.exists():
        hint = "lsblk -o NAME,PARTUUID,PARTLABEL shows what there is"
        raise FileError(f"no block device has the {name}={value} of the dump target", hint=hint)
    return str(link.resolve())


def describe_all(of: Superblock, sys: Path = Path("/sys"), dev: Path = Path("/dev")) -> BlockDevice:
    """Return the devices that a file system is on as if they were one, with the first one's name and place.

    Raises FileError where some are missing, and what `describe` raises.
    """
    paths = [str(path) for path, superblock in _superblocks(sys, dev) if superblock.uuid == of.uuid]
    if len(paths) != of.devices:
        there = ", ".join(paths) or "none"
        raise FileError(
            f"the {of.type} UUID={of.uuid} is on {of.devices} devices, of which these are there: {there}"
        )
    parts = [describe(path, sys) for path in paths]
    drivers = dict.fromkeys(driver for part in parts for driver in part.drivers)
    return replace(parts[0], drivers=tuple(drivers), stack=joined(part.stack for part in parts))


def _superblocks(sys: Path, dev: Path) -> Iterator[tuple[Path, Superblock]]:
    """Yield the devices that have a file system."""
    for folder in sorted((sys / "class/block").glob("*")):
        if (folder / "holders").is_dir() and any((folder / "holders").iterdir()):
            continue  # part of an array, which has the same superblock
        path = dev / folder.name
        superblock = read_superblock(path)
        if superblock is not None:
            yield path, superblock


def read_superblock(device: Path) -> Superblock | None:
    """Return an ext2 to ext4, XFS or btrfs superblock; None for anything else, or an unreadable device."""
    try:
        return superblock_of(device)
    except FileError:
        return None


def superblock_of(device: Path) -> Superblock | None:
    """Return an ext2 to ext4, XFS or btrfs superblock; None for anything else.

    Raises FileError for an unreadable device.
    """
    try:
        with device.open("rb") as file:
            return parse_superblock(file.read(66 * KIB))
    except OSError as error:
        raise FileError(
            f"cannot read {device}: {error.strerror}", hint="run as root, on the machine itself"
        ) from error


# offsets: fs/ext4/ext4.h struct ext4_super_block; fs/xfs/libxfs/xfs_format.h struct xfs_dsb;
# include/uapi/linux/btrfs_tree.h struct btrfs_super_block
_EXT_AT, _BTRFS_AT = 1024, 64 * KIB
_EXT_COMPAT_JOURNAL = 0x4
# EXT3_FEATURE_INCOMPAT_SUPP and EXT3_FEATURE_RO_COMPAT_SUPP: with any other feature it is ext4.
_EXT3_INCOMPAT, _EXT3_RO_COMPAT = 0x2 | 0x4 | 0x10, 0x1 | 0x2 | 0x4


UUID_AT = {
    **dict.fromkeys(("ext2", "ext3", "ext4"), _EXT_AT + 0x68),
    "xfs": 0x20,
    "btrfs": _BTRFS_AT + 0x20,
}
"""The offset on a device of a file system's UUID (16 bytes), by type."""


def parse_superblock(start: bytes) -> Superblock | None:
    """Return the superblock in the first 66 KiB of a device; None where none is known."""
    if start[_EXT_AT + 0x38 : _EXT_AT + 0x3A] == b"\x53\xef":
        ext = start[_EXT_AT:]
        compatible, incompatible, read_only = (
            int.from_bytes(ext[at : at + 4], "little") for at in (0x5C, 0x60, 0x64)
        )
        kind = "ext3" if compatible & _EXT_COMPAT_JOURNAL else "ext2"
        if incompatible & ~_EXT3_INCOMPAT or read_only & ~_EXT3_RO_COMPAT:
            kind = "ext4"
        return Superblock(kind, _uuid(start, kind), _string(ext[0x78:0x88]))
    if start[:4] == b"XFSB":
        return Superblock("xfs", _uuid(start, "xfs"), _string(start[0x6C:0x78]))
    if start[_BTRFS_AT + 0x40 : _BTRFS_AT + 0x48] == b"_BHRfS_M":
        btrfs = start[_BTRFS_AT:]
        devices = int.from_bytes(btrfs[0x88:0x90], "little")
        return Superblock("btrfs", _uuid(start, "btrfs"), _string(btrfs[0x12B:0x22B]), devices)
    return None


def _uuid(start: bytes, kind: str) -> str:
    digits = start[UUID_AT[kind] :][:16].hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _string(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def _number(device: str) -> str | None:
    try:
        status = Path(device).stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISBLK(status.st_mode):
        return None
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
