"""A dump's destination in terms that hold in the capture system, where devices have other names."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pykexec.errors import FileError, MachineError
from pykexec.kdump.capture import blockdevice, network, share
from pykexec.kdump.capture.blockdevice import BlockDevice, Superblock
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.layers import NOTHING, Stack
from pykexec.kdump.capture.network import Network
from pykexec.kdump.capture.share import Share
from pykexec.kdump.config.settings import Settings, Target, TargetKind
from pykexec.kdump.config.targets import AbsolutePath, Login, NfsExport, ShareTag, Unfit, User
from pykexec.kdump.mounts import Mount, mount_of, parse_mounts

_DISK_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs")
_NFS = ("nfs", "nfs4")
SSH_PORT = 22
_SSH_KEYS = tuple(f"/root/.ssh/id_{kind}" for kind in ("ed25519", "ecdsa", "rsa"))
"""The keys that ssh itself would look for."""


class Transport(enum.Enum):
    """The ways to write to a destination."""

    DISK = "disk"
    RAW = "raw"
    NFS = "nfs"
    SSH = "ssh"
    SHARE = "share"


@dataclass(frozen=True, slots=True)
class Destination:
    """The place a dump goes to."""

    way: Transport
    folder: str
    """The folder in the mounted file system, or on the server; each dump gets its own folder there."""
    device: BlockDevice | None = None
    superblock: Superblock | None = None
    options: str = ""
    """The mount options in addition to rw."""
    remote: str = ""
    """The exported folder, for NFS; the user, for ssh; the tag, for a folder that the host shares."""
    network: Network | None = None
    share: Share | None = None
    ssh_key: str = ""
    port: int = SSH_PORT
    """The port of the ssh server."""

    def __post_init__(self) -> None:
        # A folder may come from the table of mounts, where names can contain anything.
        _require("the folder for dumps", self.folder, AbsolutePath)
        kinds: dict[Transport, type[str]] = {Transport.SSH: User, Transport.SHARE: ShareTag}
        _require("where dumps go", self.remote, kinds.get(self.way, AbsolutePath))

    @property
    def stack(self) -> Stack:
        """The layers to assemble."""
        return self.device.stack if self.device else NOTHING

    @property
    def drivers(self) -> tuple[str, ...]:
        """The modules that drive the hardware."""
        device = self.device.drivers if self.device else ()
        network = self.network.drivers if self.network else ()
        return (*device, *network, *(self.share.drivers if self.share else ()))

    def __str__(self) -> str:
        if self.way is Transport.DISK and self.device and self.superblock:
            kind = self.superblock.type
            encrypted = any(layer.kind == "crypt" for layer in self.stack.layers)
            key = ", encrypted, with its key in the image in memory" if encrypted else ""
            return f"{self.folder} on the {kind} of {self.device.name} (UUID={self.superblock.uuid}){key}"
        if self.way is Transport.RAW and self.device:
            return f"the raw device {self.device.name}"
        if self.share:
            return f"{self.folder} on {self.share.type} {self.share.tag}"
        server = self.network.server if self.network else ""
        return f"{self.way.value} {server}:{self.remote if self.way is Transport.NFS else ''}{self.folder}"


def _require(name: str, text: str, kind: type[str]) -> None:
    """Raise FileError for text that is not empty and does not fit its type."""
    try:
        if text:
            kind(text)
    except Unfit as error:
        raise FileError(f"{name}{error.fault}", hint=error.hint) from None


def resolve(settings: Settings, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Destination:
    """Return the destination of the settings.

    Raises PykexecError where our own capture image cannot reach it.
    """
    target = settings.target
    if target.kind is TargetKind.LOCAL:
        return local(settings.path, sys, proc)
    if target.kind is TargetKind.FILESYSTEM:
        return _filesystem(target, settings.path, sys, proc)
    if target.kind is TargetKind.RAW:
        device = blockdevice.find(target.address, sys)
        return raw(blockdevice.describe(device, sys), _mounts(proc))
    if target.kind is TargetKind.NFS:
        return _nfs(target, settings.path, sys, proc)
    if target.kind is TargetKind.SSH:
        return _ssh(target, settings.path, sys, proc)
    raise Unsupported(f"writing to a target of kind {target.kind.value}")


def local(path: str, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Destination:
    """Return the destination for a folder of the running system, which need not exist.

    Raises PykexecError.
    """
    real = os.path.realpath(path)
    mount = mount_of(real, _mounts(proc))
    inside = real[len(mount.point.rstrip("/")) :]
    folder = "/" + f"{mount.top}/{inside}".replace("//", "/").strip("/")
    if mount.type in _NFS:
        host, _, export = mount.source.rpartition(":/")
        return _nfs(Target(TargetKind.NFS, f"{host}:/{export}"), inside, sys, proc)
    require_mountable(path, mount.type, mount.source)
    if mount.type in share.KINDS:
        return _shared(share.find(mount.type, mount.source, mount.options, sys), folder)
    device = blockdevice.describe(mount.source, sys, mount.number)
    return _on_disk(device, mount.source, mount.type, folder, sys, proc)


def require_mountable(path: str, kind: str, source: str) -> None:
    """Raise Unsupported for a path on a type of file system that the capture system cannot mount."""
    if kind not in (*_DISK_FILESYSTEMS, *_NFS, *share.KINDS):
        raise Unsupported(
            f"{path} lies on {kind} ({source}), gone after a crash, or not to be mounted",
            instead="set path to a folder on ext4, XFS or btrfs",
        )


def require_type(kind: str) -> None:
    """Raise Unsupported for a configured type of file system that the capture system cannot mount."""
    if kind not in (*_DISK_FILESYSTEMS, *share.KINDS):
        raise Unsupported(f"mounting {kind}")


def raw(device: BlockDevice, mounts: Sequence[Mount], dev: Path = Path("/dev")) -> Destination:
    """Return the device itself as destination. Raises PykexecError where it must not be overwritten."""
    if device.stack.layers:
        raise Unsupported(f"a raw dump to {device.name}, which has to be put together first")
    for mount in mounts:
        if mount.number == device.number:
            raise FileError(
                f"a raw dump would overwrite {device.name}, which is mounted on {mount.point}",
                hint="name a partition that holds nothing, or its file system: ext4 UUID=...",
            )
    held = blockdevice.read_superblock(dev / device.name)
    if held is not None:
        raise FileError(
            f"a raw dump would overwrite the {held.type} file system on {device.name}",
            hint=f"name the file system: {held.type} UUID={held.uuid}; or, if it may go: wipefs -a DEVICE",
        )
    return Destination(Transport.RAW, "", device)


def _mounts(proc: Path) -> Sequence[Mount]:
    try:
        return parse_mounts((proc / "self/mountinfo").read_text("utf-8", "surrogateescape"))
    except OSError as error:
        raise MachineError(f"cannot read {proc}/self/mountinfo: {error.strerror}") from error


def _filesystem(target: Target, path: str, sys: Path, proc: Path) -> Destination:
    require_type(target.filesystem)
    if target.filesystem in share.KINDS:
        return _shared(share.find(target.filesystem, target.address, sys=sys), path)
    source = blockdevice.find(target.address, sys)
    return _on_disk(blockdevice.describe(source, sys), source, target.filesystem, path, sys, proc)


def _on_disk(
    device: BlockDevice, source: str, wanted: str, folder: str, sys: Path, proc: Path
) -> Destination:
    place = Path(source) if Path(source).is_block_device() else Path("/dev") / device.name
    superblock = blockdevice.superblock_of(place)
    if superblock is None:
        raise FileError(
            f"{place} has no ext2, ext3, ext4, XFS or btrfs on it", hint="name another, or a folder of one"
        )
    if superblock.devices != 1:
        device = blockdevice.describe_all(superblock, sys)
    if superblock.type != wanted and not {superblock.type, wanted} <= {"ext2", "ext3", "ext4"}:
        raise FileError(f"{place} holds {superblock.type}, not {wanted}", hint="correct the target's type")
    # The folder's path starts at the top of all subvolumes, as in mountinfo.
    options = "subvolid=5" if superblock.type == "btrfs" else ""
    way = _way_to_servers(device, sys, proc)
    return Destination(Transport.DISK, folder, device, superblock, options, network=way)


def _way_to_servers(device: BlockDevice, sys: Path, proc: Path) -> Network | None:
    """Return the way to the servers that have the device's disks; None for disks of this machine.

    Raises Unsupported where they are not all reached in the same way.
    """
    ways = [network.route_to(disk.server, sys, proc) for disk in device.stack.remote]
    if len({(way.mac, way.address, way.gateway) for way in ways}) > 1:
        servers = ", ".join(dict.fromkeys(way.server for way in ways))
        raise Unsupported(f"reaching the servers that have {device.name} in different ways: {servers}")
    return ways[0] if ways else None


def _shared(found: Share, folder: str) -> Destination:
    options = share.KINDS[found.type].options
    return Destination(Transport.SHARE, folder, options=options, remote=found.tag, share=found)


def _nfs(target: Target, path: str, sys: Path, proc: Path) -> Destination:
    export = NfsExport(target.address)
    way = network.route_to(export.host.bare, sys, proc)
    folder, told = "/" + path.strip("/"), dict(target.options)
    options = f"timeo={told.get('NFS_TIMEO', '600')},retrans={told.get('NFS_RETRANS', '5')}"
    if target.port:
        options += f",port={target.port}"
    return Destination(Transport.NFS, folder, options=options, remote=export.folder, network=way)


def _ssh(target: Target, path: str, sys: Path, proc: Path) -> Destination:
    login = Login(target.address)
    if target.password:
        raise Unsupported("logging in with a password", instead="make a key: KDUMP_SSH_IDENTITY")
    if ("protocol", "sftp") in target.options:
        raise Unsupported("writing by sftp", instead="write ssh://, for a server that runs commands")
    keys = [target.ssh_key] if target.ssh_key else _SSH_KEYS
    key = next((each for each in keys if Path(each).is_file()), None)
    if key is None:
        raise FileError(
            f"the ssh key {' or '.join(keys)} does not exist",
            hint="make one with ssh-keygen and bring it to the server with ssh-copy-id, or set sshkey",
        )
    way = network.route_to(login.host.bare, sys, proc)
    port = target.port or SSH_PORT
    return Destination(Transport.SSH, path, remote=login.user, network=way, ssh_key=key, port=port)
