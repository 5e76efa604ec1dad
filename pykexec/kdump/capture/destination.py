"""A dump's destination in terms that hold in the capture system, where devices have other names."""

from __future__ import annotations

import enum
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pykexec.errors import FileError, MachineError
from pykexec.kdump import mounts
from pykexec.kdump.capture import blockdevice, network, nfs, share, sshconfig
from pykexec.kdump.capture.blockdevice import BlockDevice, Superblock
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.layers import NOTHING, Stack
from pykexec.kdump.capture.network import Network
from pykexec.kdump.capture.nfs import NfsOptions
from pykexec.kdump.capture.share import Share
from pykexec.kdump.capture.sshconfig import Server
from pykexec.kdump.config.settings import Settings, Target, TargetKind
from pykexec.kdump.config.targets import AbsolutePath, Login, NfsExport, ShareTag, SmbShare, Unfit, User
from pykexec.kdump.mounts import Mount

_DISK_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs")
SSH_PORT = sshconfig.PORT
NFS_PORT = 2049
SMB_PORT = 445
_SSH_KEYS = tuple(f"/root/.ssh/id_{kind}" for kind in ("ed25519", "ecdsa", "rsa"))
"""The keys that ssh itself would look for."""


class Transport(enum.Enum):
    """The ways to write to a destination."""

    DISK = "disk"
    RAW = "raw"
    NFS = "nfs"
    SMB = "smb"
    SSH = "ssh"
    SFTP = "sftp"
    """To an ssh server that runs no commands."""
    SHARE = "share"

    @property
    def logs_in(self) -> bool:
        """Return whether ssh logs in, with a key."""
        return self in (Transport.SSH, Transport.SFTP)


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
    """The exported folder, for NFS; the share, for SMB; the user, for ssh; the host's tag for a folder."""
    network: Network | None = None
    share: Share | None = None
    ssh_key: str = ""
    port: int = SSH_PORT
    """The port of the ssh server."""
    nfs_versions: tuple[str, ...] = nfs.VERSIONS
    """The versions of NFS to try, in this order."""
    known_as: str = ""
    """The ssh server's name in known_hosts."""
    jump: Server | None = None
    """The ssh server to go through, to which the network leads."""
    behind: str = ""
    """The name by which that server knows the other one."""
    credentials: str = field(default="", repr=False)
    """The options of an SMB mount that say who is there, with the password."""

    def __post_init__(self) -> None:
        # A folder may come from the table of mounts, where names can contain anything.
        _require("the folder for dumps", self.folder, AbsolutePath)
        kinds = {Transport.SSH: User, Transport.SFTP: User, Transport.SHARE: ShareTag}
        _require("where dumps go", self.remote, kinds.get(self.way, AbsolutePath))

    @property
    def stack(self) -> Stack:
        """The layers to assemble."""
        return self.device.stack if self.device else NOTHING

    @property
    def drivers(self) -> tuple[str, ...]:
        """The modules that drive the hardware."""
        device = self.device.drivers if self.device else ()
        network = self.network.links.drivers if self.network else ()
        return (*device, *network, *(self.share.drivers if self.share else ()))

    def __str__(self) -> str:
        if self.way is Transport.DISK and self.device and self.superblock:
            kind = self.superblock.type
            encrypted = any(layer.kind == "crypt" for layer in self.stack.layers)
            crypt = ", encrypted" if encrypted else ""
            return f"{self.folder} on the {kind} of {self.device.name} (UUID={self.superblock.uuid}){crypt}"
        if self.way is Transport.RAW and self.device:
            return f"the raw device {self.device.name}"
        if self.share:
            return f"{self.folder} on {self.share.type} {self.share.tag}"
        first = self.network.server if self.network else ""
        through = f", through {first}" if self.behind else ""
        place = "" if self.way.logs_in else self.remote
        return f"{self.way.value} {self.behind or first}:{place}{self.folder}{through}"


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
    require_possible(target)
    if target.kind is TargetKind.LOCAL:
        return local(settings.path, sys, proc)
    if target.kind is TargetKind.FILESYSTEM:
        return _filesystem(target, settings.path, sys, proc)
    if target.kind is TargetKind.RAW:
        device = blockdevice.find(target.address, sys)
        return raw(blockdevice.describe(device, sys), mounts.read(proc))
    if target.kind is TargetKind.NFS:
        return _nfs(target, settings.path, _mounted(target.address, mounts.read(proc)), sys)
    if target.kind is TargetKind.DRACUT:
        return _as_dracut(target, settings.path, sys, proc)
    if target.kind is TargetKind.SSH:
        return _ssh(target, settings.path, sys)
    if target.kind is TargetKind.CIFS:
        return _smb(target, settings.path, sys)
    raise Unsupported(f"writing to a target of kind {target.kind.value}")


def require_possible(target: Target) -> None:
    """Raise Unsupported or FileError for a target that no capture image of ours can reach on any machine."""
    if target.kind is TargetKind.FTP:
        raise Unsupported("writing by FTP", instead="take an account for ssh or SFTP")
    if target.kind is TargetKind.SSH and target.password:
        raise Unsupported("logging in with a password", instead="make a key: KDUMP_SSH_IDENTITY")
    if target.kind is TargetKind.CIFS:
        _require_login(target)


def _require_login(target: Target) -> None:
    if not target.user or not target.password:
        raise FileError(
            f"the share {target.address} has no user, or no password, to log in with after a crash",
            hint="write cifs://USER:PASSWORD@HOST/SHARE/FOLDER",
        )
    # The kernel would take it doubled, but busybox's mount makes one of two.
    if "," in target.password or not target.password.isprintable():
        raise FileError(
            f"the password for {target.address} has a comma or an unprintable character in it,"
            " with which nothing in the capture system can mount a share",
            hint="change it",
        )


def way_of(target: Target) -> Transport | None:
    """Return the way to a configured server; None for what is no server, or one that no image can reach."""
    servers = {TargetKind.NFS: Transport.NFS, TargetKind.CIFS: Transport.SMB, TargetKind.SSH: _shell(target)}
    return servers.get(target.kind)


def _shell(target: Target) -> Transport:
    # openSUSE's URL says so; others' accounts run commands.
    return Transport.SFTP if ("protocol", "sftp") in target.options else Transport.SSH


def local(path: str, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Destination:
    """Return the destination for a folder of the running system, which need not exist.

    Raises PykexecError.
    """
    mount, real = mounts.below_overlays(os.path.realpath(path), mounts.read(proc), mounts.is_seen_through)
    if mount is None:
        raise MachineError(f"no mount of /proc/self/mountinfo holds {path}")
    inside = real[len(mount.point.rstrip("/")) :]
    folder = "/" + f"{mount.top}/{inside}".replace("//", "/").strip("/")
    _require_no_deployment(path, folder)
    if mount.type in nfs.TYPES:
        return _nfs(Target(TargetKind.NFS, mount.source), inside, _options(mount), sys)
    require_mountable(path, mount.type, mount.source)
    if mount.type in share.KINDS:
        return _shared(share.find(mount.type, mount.source, mount.options, sys), folder)
    device = blockdevice.describe(mount.source, sys, mount.number)
    return _on_disk(device, mount.source, mount.type, folder, sys)


# Its folder cannot be changed (chattr +i), and the next deployment has another one, with another /etc.
_DEPLOYMENT = re.compile(r"/ostree/deploy/[^/]+/deploy/[^/]+(/|$)")


def _require_no_deployment(path: str, folder: str) -> None:
    """Raise Unsupported for a folder in one of ostree's deployments, which the next update leaves."""
    if _DEPLOYMENT.search(folder):
        raise Unsupported(
            f"{path} lies in a deployment of ostree ({folder}), where no dump can be written or would stay",
            instead="set path to a folder below /var",
        )


def require_mountable(path: str, kind: str, source: str) -> None:
    """Raise Unsupported for a path on a type of file system that the capture system cannot mount."""
    if kind not in (*_DISK_FILESYSTEMS, *nfs.TYPES, *share.KINDS):
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


def _filesystem(target: Target, path: str, sys: Path, proc: Path) -> Destination:
    require_type(target.filesystem)
    if target.filesystem in share.KINDS:
        return _shared(share.find(target.filesystem, target.address, sys=sys), path)
    source = blockdevice.find(target.address, sys)
    mounted = mounts.of_device(source, mounts.read(proc)) if target.filesystem == "btrfs" else None
    if mounted is not None and target.kind is TargetKind.FILESYSTEM:
        # As kdump-utils: from the subvolume that is mounted, where the running system sees the folder.
        path = str(Path(mounted.top, path.strip("/")))
    return _on_disk(blockdevice.describe(source, sys), source, target.filesystem, path, sys)


# mount(8) and systemd.mount(5): for who mounts, not for the file system.
_NOT_FOR_KERNELS = re.compile(
    r"defaults|r[ow]|(no)?auto|nofail|nobootwait|_netdev|(no)?users?|owner|group|(x-|comment=).*|"
)


def _as_dracut(target: Target, path: str, sys: Path, proc: Path) -> Destination:
    """Return the destination that dracut's --mount names. The path counts from what would be mounted."""
    given = dict(target.options).get("mount", "")
    if target.filesystem in nfs.TYPES:
        return _nfs(target, path, nfs.parse(given, target.filesystem), sys)
    if not target.filesystem:
        raise FileError(
            f"--mount in dracut_args names no type for {target.address}",
            hint='write "DEVICE MOUNTPOINT TYPE"',
        )
    found = _filesystem(target, path, sys, proc)
    options = [each for each in given.split(",") if not _NOT_FOR_KERNELS.fullmatch(each)]
    for each in [each for each in options if each.startswith(("subvol=", "subvolid="))]:
        options.remove(each)
        name, _, volume = each.partition("=")
        if name != "subvol":
            raise Unsupported(
                f"mounting {target.address} by {each} (dracut_args)", instead="name it: subvol=PATH"
            )
        found = replace(found, folder=str(Path("/", volume.strip("/"), path.strip("/"))))
    return replace(found, options=",".join(filter(None, (found.options, *options))))


def _on_disk(device: BlockDevice, source: str, wanted: str, folder: str, sys: Path) -> Destination:
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
    way = _way_to_servers(device, sys)
    return Destination(Transport.DISK, folder, device, superblock, options, network=way)


def _way_to_servers(device: BlockDevice, sys: Path) -> Network | None:
    """Return the way to the servers that have the device's disks; None for disks of this machine.

    Raises Unsupported where they are not all reached in the same way.
    """
    ways = [network.route_to(disk.server, disk.port, sys) for disk in device.stack.remote]
    if len({(way.links, way.address, way.gateway) for way in ways}) > 1:
        servers = ", ".join(dict.fromkeys(way.server for way in ways))
        raise Unsupported(f"reaching the servers that have {device.name} in different ways: {servers}")
    return ways[0] if ways else None


def _shared(found: Share, folder: str) -> Destination:
    options = share.KINDS[found.type].options
    return Destination(Transport.SHARE, folder, options=options, remote=found.tag, share=found)


def _options(mount: Mount) -> NfsOptions:
    return nfs.parse(mount.options, mount.type)


def _mounted(address: str, mounts: Sequence[Mount]) -> NfsOptions:
    """Return the options with which the running system has mounted an export, if it has."""
    same = (each for each in mounts if each.type in nfs.TYPES and each.source == address.rstrip("/"))
    return next(map(_options, same), NfsOptions())


def _nfs(target: Target, path: str, mounted: NfsOptions, sys: Path) -> Destination:
    export = NfsExport(target.address)
    port = target.port or int(mounted.port or 0)
    way = network.route_to(mounted.server or export.host.bare, port or NFS_PORT, sys)
    told = dict(target.options)
    # nfs(5): its own defaults, by which a server that does not answer is given up after three minutes.
    words = [f"timeo={told.get('NFS_TIMEO', '600')}", f"retrans={told.get('NFS_RETRANS', '2')}"]
    words += [*mounted.more, *([f"port={port}"] if port else [])]
    return Destination(
        Transport.NFS,
        "/" + path.strip("/"),
        options=",".join(words),
        remote=export.folder,
        network=way,
        nfs_versions=mounted.versions,
    )


def _ssh(target: Target, path: str, sys: Path) -> Destination:
    login = Login(target.address)
    keys = [target.ssh_key] if target.ssh_key else _SSH_KEYS
    key = next((each for each in keys if Path(each).is_file()), None)
    if key is None:
        raise FileError(
            f"the ssh key {' or '.join(keys)} does not exist",
            hint="make one with ssh-keygen and bring it to the server with ssh-copy-id, or name another one:"
            " sshkey (kdump.conf), SSH_KEY (kdump-tools), KDUMP_SSH_IDENTITY (openSUSE)",
        )
    server = sshconfig.ask(login.host.bare, login.user, target.port)
    jump = sshconfig.jump_of(server)
    first = jump or server
    way = network.route_to(first.host, first.port, sys)
    if jump and ipaddress.ip_address(way.server).is_link_local:
        raise Unsupported(
            f"reaching {server.host} through {jump.host} at {way.server}, which names no link (ProxyJump)",
            instead="name the server to go through by another address there",
        )
    return Destination(
        _shell(target),
        path,
        remote=login.user,
        network=way,
        ssh_key=key,
        port=server.port,
        known_as=server.known_as,
        jump=jump and replace(jump, keys=(next(filter(os.path.isfile, jump.keys), key),)),
        behind=server.host if jump else "",
    )


def _smb(target: Target, path: str, sys: Path) -> Destination:
    share = SmbShare(target.address)
    domain, backslash, user = target.user.rpartition("\\")
    words = [f"username={user}", f"password={target.password}"]
    words += [f"domain={domain}"] if backslash else []
    return Destination(
        Transport.SMB,
        "/" + path.strip("/"),
        options=f"port={target.port}" if target.port else "",
        remote=share.folder,
        network=network.route_to(share.host.bare, target.port or SMB_PORT, sys),
        credentials=",".join(words),
    )
