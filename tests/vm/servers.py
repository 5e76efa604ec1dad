"""Servers for guests, behind QEMU's own network: each connection is handed to a program on the host."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.lab.debian import architecture, fetch

ADDRESS = "10.0.2.100"
GUEST = "10.0.2.15/24"
"""What QEMU's network expects the guest to have."""

_GANESHA = """
NFS_CORE_PARAM {{
    Protocols = 4; NFS_Port = {port}; Bind_addr = {address};
    Enable_NLM = false; Enable_RQUOTA = false; Plugins_Dir = /usr/lib/x86_64-linux-gnu/ganesha;
}}
NFSv4 {{ Graceless = true; RecoveryBackend = fs; RecoveryRoot = {state}; Minor_Versions = 0, 1, 2; }}
EXPORT {{
    Export_Id = 1; Path = {export}; Pseudo = /export;
    Access_Type = RW; Squash = No_Root_Squash; SecType = sys;
    FSAL {{ Name = VFS; }}
}}
"""
HOST = "10.0.2.2"
"""Where QEMU's network has this machine's 127.0.0.1, unless it is restricted."""
HOST_V6 = "fec0::2"
"""Where QEMU's network has this machine's ::1."""

_SSHD = """
HostKey {folder}/host
AuthorizedKeysFile {folder}/client.pub
StrictModes no
UsePAM no
PermitRootLogin yes
PidFile none
"""


_SMBD = """
[global]
security = user
passdb backend = tdbsam:{folder}/passdb.tdb
private dir = {folder}
lock directory = {folder}
state directory = {folder}
cache directory = {folder}
pid directory = {folder}
ncalrpc dir = {folder}/ncalrpc
log file = {folder}/log
interfaces = 127.0.0.1
bind interfaces only = yes
smb ports = {port}
disable spoolss = yes
load printers = no

[crash]
path = {share}
writable = yes
"""
_SAMBA = (
    "samba", "samba-common-bin", "samba-libs", "libwbclient0",
    "libldb2", "libtalloc2", "libtdb1", "libtevent0",
)  # fmt: skip


def network(port: int, program: str) -> tuple[str, ...]:
    """QEMU options for a card, behind which that program answers at `ADDRESS` and that port."""
    forward = f"guestfwd=tcp:{ADDRESS}:{port}-cmd:{program}"
    return ("-netdev", f"user,id=net,restrict=on,{forward}", "-device", "virtio-net-pci,netdev=net")


@dataclass(frozen=True, slots=True)
class Ssh:
    """A server that runs for one connection, and the keys of both sides."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Ssh":
        folder.mkdir()
        for name in ("host", "client"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name]
            subprocess.run(command, check=True)
        (folder / "sshd_config").write_text(_SSHD.format(folder=folder))
        Path("/run/sshd").mkdir(exist_ok=True)  # where it leaves its privileges
        return cls(folder)

    @property
    def program(self) -> str:
        return f"/usr/sbin/sshd -i -f {self.folder}/sshd_config -E {self.folder}/log"

    @property
    def known_hosts(self) -> bytes:
        return self.known_as(ADDRESS)

    def known_as(self, name: str) -> bytes:
        """A line of known_hosts."""
        return b"%s %s" % (name.encode(), (self.folder / "host.pub").read_bytes())

    @contextmanager
    def listening(self, address: str = "::1", *, options: str = "") -> Iterator[int]:
        """The port at which the server takes connections while the block runs."""
        port = _free_port(address)
        config = self.folder / f"sshd_config-{port}"
        config.write_text(f"{(self.folder / 'sshd_config').read_text()}{options}\n")
        where = f"ListenAddress={_in_url(address)}:{port}"
        command: list[str | Path] = [
            "/usr/sbin/sshd",
            "-D",
            "-f",
            config,
            "-o",
            where,
            "-E",
            self.folder / "log",
        ]
        with subprocess.Popen(command) as server:
            try:
                _wait_for(port, server, self.folder / "log", address)
                yield port
            finally:
                server.terminate()


@contextmanager
def nfs(folder: Path, export: Path, address: str = "127.0.0.1") -> Iterator[int]:
    """An NFS server in user space; its port."""
    folder.mkdir()
    port = _free_port(address)
    config = folder / "ganesha.conf"
    config.write_text(_GANESHA.format(address=address, port=port, state=folder, export=export))
    log = folder / "log"
    command: list[str | Path] = [
        "ganesha.nfsd",
        "-F",
        "-f",
        config,
        "-L",
        log,
        "-p",
        folder / "pid",
        "-N",
        "NIV_EVENT",
    ]
    with subprocess.Popen(command) as server:
        try:
            _wait_for(port, server, log, address)
            yield port
        finally:
            server.terminate()


@contextmanager
def smb(folder: Path, share: Path, password: str) -> Iterator[int]:
    """A server with the share "crash" for root; its port."""
    folder.mkdir()
    packages = fetch("bookworm", architecture(), _SAMBA)
    libraries = {str(file.parent) for package in packages for file in package.rglob("lib*.so*")}
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(libraries))}
    smbd, smbpasswd = (
        next(packages[at].rglob(name)) for at, name in ((0, "sbin/smbd"), (1, "bin/smbpasswd"))
    )
    port, config, log = _free_port("127.0.0.1"), folder / "smb.conf", folder / "log"
    config.write_text(_SMBD.format(folder=folder, share=share, port=port))
    told = f"{password}\n" * 2
    command: list[str | Path] = [smbpasswd, "-c", config, "-s", "-a", "root"]
    subprocess.run(command, input=told, text=True, check=True, capture_output=True, env=environment)
    command = [smbd, "--foreground", "--no-process-group", "-s", config]
    # It ends with all of its process group.
    with subprocess.Popen(command, env=environment, start_new_session=True) as server:
        try:
            _wait_for(port, server, log, "127.0.0.1")
            yield port
        finally:
            server.terminate()


@contextmanager
def shared(kind: str, socket: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    """QEMU options that share a folder by virtiofs or 9P, with the tag "dumps"; for one run of a machine."""
    if kind == "9p":
        yield ("-virtfs", f"local,path={folder},mount_tag=dumps,security_model=mapped-xattr")
        return
    options: list[str | Path] = [f"--socket-path={socket}", "-o", f"source={folder}", "-o", "sandbox=chroot"]
    # It ends with the machine. Where it writes to is the machine's memory, which has to be a file for that.
    with subprocess.Popen(["/usr/lib/qemu/virtiofsd", *options], stderr=subprocess.DEVNULL) as server:
        while not socket.exists():
            assert server.poll() is None
            time.sleep(0.1)
        try:
            yield (
                *("-object", "memory-backend-memfd,id=memory,size=1G,share=on"),
                *("-machine", "memory-backend=memory"),
                *("-chardev", f"socket,id=shared,path={socket}"),
                *("-device", "vhost-user-fs-pci,chardev=shared,tag=dumps"),
            )
        finally:
            server.terminate()


@contextmanager
def iscsi(
    folder: Path, disk: Path, target: str, user: str, secret: str, address: str = "127.0.0.1"
) -> Iterator[int]:
    """An iSCSI target with CHAP, in user space; its port."""
    folder.mkdir()
    port = _free_port(address)
    # Where it is managed: other targets of this machine are managed elsewhere.
    environment = {**os.environ, "TGT_IPC_SOCKET": str(folder / "socket")}
    Path("/run/tgtd").mkdir(exist_ok=True)

    def tell(words: str, **options: str | Path) -> None:
        more = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        subprocess.run(["tgtadm", "--lld", "iscsi", *words.split(), *more], check=True, env=environment)

    log = folder / "log"
    command = ["tgtd", "-f", "--iscsi", f"portal={_in_url(address)}:{port}"]
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stderr=output) as server:
        try:
            _wait_for(port, server, log, address)
            tell("--op new --mode target --tid 1", targetname=target)
            tell("--op new --mode logicalunit --tid 1 --lun 1", backing_store=disk)
            tell("--op new --mode account", user=user, password=secret)
            tell("--op bind --mode account --tid 1", user=user)
            tell("--op bind --mode target --tid 1", initiator_address="ALL")
            yield port
        finally:
            server.kill()  # it ends by nothing else


def to_local(port: int) -> str:
    """The program that connects to a server of this machine."""
    return f"busybox nc 127.0.0.1 {port}"


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as free:
        return int(free.getsockname()[1])


def _wait_for(port: int, server: "subprocess.Popen[bytes]", log: Path, address: str) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            socket.create_connection((address, port)).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"the server does not answer: {log.read_text()}")
