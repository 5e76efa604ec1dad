"""The layers between a file system and its disks, which have to be assembled first.

They are LVM, software RAID, multipath maps, LUKS volumes, partitions of such devices, and sessions with
servers that have disks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pykexec import children
from pykexec.children import ChildError
from pykexec.errors import FileError
from pykexec.kdump.capture import remote
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.remote import RemoteDisk

# drivers/md: types of volumes other than linear and striped, which dm-mod itself has.
_VOLUME_MODULES = ("dm_mirror", "dm_snapshot", "dm_thin_pool", "dm_raid")
_ARRAY_MODULES = {"raid4": "raid456", "raid5": "raid456", "raid6": "raid456"}
_MAKERS = {"LVM": "lvm", "mpath": "multipath", "CRYPT": "crypt"}
# What LUKS uses unless told otherwise, which dm-crypt asks for by name; what else is loaded comes with it.
_CIPHERS = ("xts", "ecb", "aes_generic")
_LUKS = re.compile(r"CRYPT-LUKS[12]-[0-9a-f]{32}-[^\s/]+")
DEPTH_MAX = 8
_MDADM_SECONDS = 60.0  # it reads the array's superblocks; a disk may have to spin up
DMSETUP_SECONDS = 20.0
# What sysfs has to tell one disk from another by, best first. SCSI: VPD pages 0x83 and 0x80; DASD: uid.
_IDENTITIES = ("wwid", "device/wwid", "device/uid")
_SERIAL_NUMBER = "device/vpd_pg80"

_ANOTHER = "name another file system as target"

# What cannot be put together again, or takes more than a capture system has, and how people call it.
# Devices on no bus, by the letters that their names begin with (Documentation/admin-guide/devices.txt).
_VIRTUAL: Mapping[str, str] = {
    **dict.fromkeys(("ram", "zram", "nullb"), "memory, which is gone"),
    "bcache": "a bcache device",
    "drbd": "a DRBD device",
    "etherd": "a server's disk by ATA over Ethernet",
    "loop": "a file on another file system",
    "nbd": "a server's disk by NBD",
    "rnbd": "a server's disk by RDMA (RNBD)",
    "ublkb": "a disk of a program (ublk)",
    "zd": "a ZFS volume",
}
# The buses that disks are on, as the kernel calls them: what it finds there again by itself.
_BUSES = (
    "ccw", "memstick", "mmc", "nd", "nvme", "nvme-subsystem", "pci", "platform", "ps3_system_bus", "scm",
    "scsi", "vio", "virtio", "xen",
)  # fmt: skip
_OTHER_BUSES: Mapping[str, str] = {"rbd": "a Ceph image (RBD)"}
# Drivers of SCSI hosts, as they name themselves (/sys/class/scsi_host/HOST/proc_name).
_OTHER_HOSTS: Mapping[str, str] = {
    "ib_srp": "a server's disk by RDMA (SRP)",
    "scsi_debug": "memory, which is gone",
    "tcm_loopback": "a disk of this machine's own target (LIO)",
}
# What the device mapper's UUIDs begin with: cryptsetup, and others.
_MAPPED: Mapping[str, str] = {
    "CRYPT-VERITY": "dm-verity, to which nothing can be written",
    "CRYPT-INTEGRITY": "dm-integrity",
    "CRYPT-PLAIN": "plain dm-crypt, without a LUKS header",
    "CRYPT-LOOPAES": "a loop-AES volume",
    "CRYPT-TCRYPT": "a TrueCrypt or VeraCrypt volume",
    "CRYPT-BITLK": "a BitLocker volume",
    "CRYPT-FVAULT2": "a FileVault volume",
    "CRYPT-SUBDEV": "a part of a volume with dm-integrity",
    "DMRAID": "firmware's RAID, by dmraid",
    "VDO": "a VDO volume",
    "stratis": "a Stratis pool",
}
# Documentation/admin-guide/md.rst: metadata_version of an array whose metadata the kernel does not write.
_IN_CONTAINER = re.compile(r"external:[/-](md[^/]+)/")
# The same: files in md/bitmap, and what they say of one that mdadm needs more for.
_BITMAPS = (("metadata", "clustered", "a cluster's"), ("location", "file", "in a file elsewhere"))
_VDO_POOL = "-vpool"
"""The end of the UUID of LVM's own VDO pools (lib/metadata of LVM: their layer's name)."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer to assemble."""

    kind: str
    """The kind of layer, for which /init has a function.

    They are lvm, md, container, multipath, part, crypt, nvme, iscsi.
    """
    name: str
    """The argument of that function: VG/LV; an array's UUID as mdadm writes it; else words and commas.

    The words are, for an array in a container: the UUIDs of both; for multipath: the device mapper's UUID,
    sectors, number of paths, hardware handler or "none", identity of the disk; for a partition: the device
    mapper's UUID, sectors, first sector; for an encrypted volume: the device mapper's UUID; for a server's
    disk see `remote`.
    """


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
    remote: tuple[RemoteDisk, ...] = ()
    """The disks at the bottom that servers have."""


NOTHING = Stack()


def below(folder: Path, sys: Path = Path("/sys")) -> Stack:
    """Return the stack of a block device in sysfs. Raises Unsupported for what /init cannot assemble."""
    return joined(_walk(folder, sys, 0))


def joined(stacks: Iterable[Stack]) -> Stack:
    """Return all of several stacks' layers and needs."""
    parts = list(stacks)
    return Stack(
        _once(part.layers for part in parts),
        _once(part.modules for part in parts),
        _once(part.optional for part in parts),
        _once(part.disks for part in parts),
        _once(part.remote for part in parts),
    )


def _once(parts: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    """Return all of them, each only at its first place."""
    return tuple(dict.fromkeys(each for part in parts for each in part))


def _walk(folder: Path, sys: Path, depth: int, *, in_volume: bool = False) -> Iterator[Stack]:
    """Yield the stack's parts from the disks up. Raises Unsupported."""
    if depth > DEPTH_MAX:
        raise Unsupported(f"{folder.name}: more than {DEPTH_MAX} devices one on the other")
    # A partition of an array has the array's layers.
    base = folder.parent if (folder / "partition").exists() else folder
    volume, array = (base / "dm").is_dir(), (base / "md").is_dir()
    if not volume and not array:
        if found := remote.find(base, sys):
            yield Stack((Layer(found.kind, ",".join(found.words)),), found.modules, remote=(found,))
            return
        _require_findable(base, sys)
        yield Stack(disks=(folder,))
        return
    uuid = attribute(base / "dm/uuid")
    is_lvm = uuid.startswith("LVM-")
    if is_lvm and uuid.endswith(_VDO_POOL):
        what = f"{attribute(base / 'dm/name')}, which is a VDO pool"
        raise Unsupported(f"putting together {what}: that takes too much memory", instead=_ANOTHER)
    lower = _paths(base, sys) if kind_of_mapped(uuid) == "multipath" else slaves(base)
    for slave in lower:
        yield from _walk(slave, sys, depth + 1, in_volume=is_lvm)
    if array:
        yield _array(base)
    elif not in_volume or not is_lvm:
        yield _mapped(base, uuid, lower)
    else:
        # Parts of a mirror or a pool are volumes, too; the top one activates them.
        yield _volume()


def _require_findable(disk: Path, sys: Path) -> None:
    """Raise Unsupported for a disk in sysfs that no driver in the capture system finds by itself."""
    bus = (disk / "device/subsystem").resolve().name
    (letters,) = re.findall(r"^[a-z]*", disk.name)
    what = _VIRTUAL.get(letters) or _OTHER_BUSES.get(bus) or _behind_host(disk, sys)
    if what or bus not in _BUSES:
        told = f"which is {what}" if what else "and cannot tell what that is on"
        raise Unsupported(f"finding {disk.name} again, {told}", instead=_ANOTHER)


def _behind_host(disk: Path, sys: Path) -> str:
    """Return what a SCSI disk is where its host is no card that finds it by itself; "" where it is one."""
    found = re.search(r"(/net/.*)?/(host[0-9]+)/", str(disk))
    if found is None:
        return ""
    # libfcoe makes its hosts below the network card that they send through.
    if found[1]:
        return "a server's disk by FCoE"
    return _OTHER_HOSTS.get(attribute(sys / "class/scsi_host" / found[2] / "proc_name"), "")


def slaves(folder: Path) -> Sequence[Path]:
    """Return the devices directly below one in sysfs."""
    return [slave.resolve() for slave in sorted((folder / "slaves").glob("*"))]


def _array(folder: Path) -> Stack:
    for name, value, what in _BITMAPS:
        if attribute(folder / "md/bitmap" / name) == value:
            raise Unsupported(f"putting together {folder.name}, whose bitmap is {what}", instead=_ANOTHER)
    level = attribute(folder / "md/level")
    uuid = _array_uuid(folder.name)
    container = _IN_CONTAINER.match(attribute(folder / "md/metadata_version"))
    layer = Layer("container", f"{_array_uuid(container[1])},{uuid}") if container else Layer("md", uuid)
    return Stack((layer,), (_ARRAY_MODULES.get(level, level),))


def _paths(folder: Path, sys: Path) -> Sequence[Path]:
    """Return the paths of a multipath map to use: all of this machine's own, and one session with a server.

    Others may be reached by another card, and the capture system has one.
    """
    paths = slaves(folder)
    through_servers = [path for path in paths if remote.find(path, sys)]
    return [path for path in paths if path not in through_servers[1:]]


def _mapped(folder: Path, uuid: str, lower: Sequence[Path]) -> Stack:
    """Return what a device of the device mapper takes, by its UUID: that begins with who made it.

    `lower` are the devices under it that are used.
    """
    name = attribute(folder / "dm/name")
    rest = uuid.partition("-")[2]
    kind = kind_of_mapped(uuid)
    if kind == "lvm":
        return _volume(Layer(kind, volume_name(name)))
    if kind == "multipath":
        return _multipath(folder, uuid, lower)
    if kind == "crypt" and _LUKS.fullmatch(uuid):
        return Stack((Layer("crypt", as_word(uuid)),), ("dm_mod", "dm_crypt"), _CIPHERS)
    if kind == "part" and [attribute(each / "dm/uuid") for each in lower] == [rest]:
        return _partition(name, uuid)
    known = next((what for start, what in _MAPPED.items() if uuid.startswith(f"{start}-")), "")
    told = f"which is {known}" if known else f"which the device mapper calls {uuid[:60]!r}"
    raise Unsupported(f"putting together {name or folder.name}, {told}", instead=_ANOTHER)


def kind_of_mapped(uuid: str) -> str | None:
    """Return the kind of layer that a device with that UUID of the device mapper's is; None for others."""
    maker = uuid.partition("-")[0]
    return "part" if re.fullmatch(r"part[0-9]+", maker) else _MAKERS.get(maker)


def _volume(*layers: Layer) -> Stack:
    return Stack(layers, ("dm_mod",), _VOLUME_MODULES)


def _multipath(folder: Path, uuid: str, paths: Sequence[Path]) -> Stack:
    """Return what a multipath map takes. Raises Unsupported where its paths are like other disks."""
    identities = {identity(path) for path in paths}
    if len(identities) != 1 or "" in identities:
        raise Unsupported(
            f"finding the paths of {attribute(folder / 'dm/name')} again: they have no wwid or serial number"
            " in common",
            instead=_ANOTHER,
        )
    states = (attribute(path / "device/dh_state") for path in paths)
    handler = next((state for state in states if state not in ("", "detached")), "none")
    words = (uuid, attribute(folder / "size"), str(len(paths)), handler, *identities)
    handlers = () if handler == "none" else (f"scsi_dh_{handler}",)
    # A handler that is there before the disk keeps the kernel from reading standby paths, which takes time.
    modules = (*handlers, "dm_mod", "dm_multipath", "dm_service_time")
    return Stack((Layer("multipath", ",".join(map(as_word, words))),), modules)


def identity(disk: Path) -> str:
    """Return what tells a disk in sysfs from all others, whatever the path to it; "" for nothing."""
    for each in _IDENTITIES:
        if found := _bytes(disk / each):
            return as_word(found.rstrip(b"\n").decode("latin-1"))
    return _bytes(disk / _SERIAL_NUMBER).hex()


def as_word(text: str) -> str:
    """Return text as a word without blanks and commas, as /init makes it with tr, byte by byte."""
    return re.sub(r"[^A-Za-z0-9.:_/-]", "_", text)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _partition(name: str, uuid: str) -> Stack:
    """Return what a partition that kpartx(8) has made takes. Raises Unsupported where it is in pieces."""
    done = children.run(["dmsetup", "table", "--", name], seconds=DMSETUP_SECONDS)
    found = re.fullmatch(rb"0 ([0-9]+) linear [0-9]+:[0-9]+ ([0-9]+)\n?", done.stdout)
    if found is None:
        raise Unsupported(f"putting together {name}, which is no plain partition")
    words = (uuid, *(each.decode() for each in found.groups()))
    return Stack((Layer("part", ",".join(map(as_word, words))),), ("dm_mod",))


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
        return path.read_text("utf-8", "surrogateescape").strip()
    except OSError:
        return ""
