"""Dumps over networks as servers have them: IPv6, bonds, VLANs, bridges, and the servers on them."""

import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.vm import ibft, jobs, nvme_target, servers, stalling
from tests.vm.kdump import Kdump, copied, make_disk
from tests.vm.switch import PROVIDER_TAG, Switch, mac, running
from tests.vm.test_kdump import ISCSI_PACKAGES, SSH_PACKAGES, dmesg, kernel_6_1, messages
from tools.lab import PANIC

_CARD = ("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net")
_MODULES = ("virtio_net", "bonding", "8021q", "bridge")
_LOAD = "".join(f"modprobe {each}\n" for each in _MODULES)
_LACP_BOND = """
cd /sys/class/net/bond0/bonding
echo 802.3ad > mode
echo fast > lacp_rate
echo 100 > miimon
for each in eth0 eth1; do echo +$each > slaves; done
cd /
ip link set bond0 mtu 9000
ip link set bond0 up
"""
_VLAN_AND_BRIDGE = """
ip link add link bond0 name bond0.5 type vlan id 5
ip link add br0 type bridge
echo 0 > /sys/class/net/br0/bridge/forward_delay
ip link set bond0.5 mtu 1500 up
ip link set bond0.5 master br0
ip link set br0 up
"""


def _address_v6(interface: str) -> str:
    """A guest's job that gives an interface an address of QEMU's network at once."""
    return f"""
echo 0 > /proc/sys/net/ipv6/conf/{interface}/accept_dad
echo 0 > /proc/sys/net/ipv6/conf/{interface}/accept_ra
ip link set {interface} up
ip address add fec0::15/64 dev {interface}
"""


_NETWORK_V4 = f"""
modprobe virtio_net
ip link set eth0 up
ip address add {servers.GUEST} dev eth0
"""


def _suse(url: str, more: str = "") -> dict[str, str]:
    line = 'KDUMP_COMMANDLINE_APPEND="panic=10"\n'
    return {"/etc/sysconfig/kdump": f'KDUMP_SAVEDIR="{url}"\nKDUMP_FREE_DISK_SIZE=0\n{line}{more}\n'}


def _ssh_files(ssh: servers.Ssh, name: str) -> dict[str, bytes]:
    return {"/root/key": (ssh.folder / "client").read_bytes(), "/root/.ssh/known_hosts": ssh.known_as(name)}


_IDENTITY = "KDUMP_SSH_IDENTITY=/root/key"


def _is_whole(stream: Path, to: Path) -> None:
    with stream.open("rb") as file:
        subprocess.run(["makedumpfile", "-R", to], stdin=file, check=True, capture_output=True)


def test_a_vlan_on_a_bond_below_a_bridge(tmp_path: Path) -> None:
    """The capture system agrees with the switch by LACP again, though one of the cards is dead, and reaches
    an ssh server by IPv6. The switch takes only frames of the VLAN, of a card that it has agreed with."""
    ssh = servers.Ssh.make(tmp_path / "ssh")
    with ssh.listening() as port, running(Switch(dead=1, vlan=5, lacp=True)) as switch:
        name = f"[{servers.HOST_V6}]:{port}"
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            configuration=_suse(f"ssh://root@{name}{tmp_path}/dumps", _IDENTITY),
            modules=_MODULES,
            packages=SSH_PACKAGES,
            devices=switch.options,
            files=_ssh_files(ssh, name),
        )
        network = f"{_LOAD}{_LACP_BOND}{_VLAN_AND_BRIDGE}{_address_v6('br0')}"
        crash = kdump.crash(network, armed="cat /proc/net/bonding/bond0")
        assert "52:54:00:00:00:02" in crash.stage("first").log
        assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
        assert switch.partners == {"card2": bytes.fromhex(mac(1).replace(":", ""))}
        assert switch.agreements == 2
    (dump,) = (tmp_path / "dumps").iterdir()
    assert "sysrq: Trigger a crash" in (dump / "vmcore-dmesg.txt").read_text(errors="replace")
    _is_whole(dump / "vmcore.flat", tmp_path / "vmcore")


# The card that is dead has a carrier: only answers tell. 10.0.2.2 is QEMU's own network.
_BACKUP_BOND = f"""
modprobe virtio_net
modprobe bonding
cd /sys/class/net/bond0/bonding
echo active-backup > mode
echo 200 > arp_interval
echo +{servers.HOST} > arp_ip_target
for each in eth0 eth1; do echo +$each > slaves; done
cd /
ip link set bond0 up
ip address add {servers.GUEST} dev bond0
"""


@jobs.FURTHER
def test_a_bond_that_asks_its_neighbour(tmp_path: Path) -> None:
    """The server's name has an IPv6 address, too, at which nobody is."""
    ssh = servers.Ssh.make(tmp_path / "ssh")
    with ssh.listening("127.0.0.1") as port, running(Switch(dead=1)) as switch:
        name = f"[dumps]:{port}"
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            configuration=_suse(f"ssh://root@dumps:{port}{tmp_path}/dumps", _IDENTITY),
            modules=("virtio_net", "bonding"),
            packages=SSH_PACKAGES,
            devices=switch.options,
            files={
                **_ssh_files(ssh, name),
                "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
                "/etc/nsswitch.conf": b"hosts: files\n",
                "/etc/host.conf": b"multi on\n",
                "/etc/hosts": f"fec0::dead dumps\n{servers.HOST} dumps\n".encode(),
            },
        )
        crash = kdump.crash(f"{_BACKUP_BOND}{_address_v6('bond0')}sleep 2")
        assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    (dump,) = (tmp_path / "dumps").iterdir()
    _is_whole(dump / "vmcore.flat", tmp_path / "vmcore")


_TEAMD = (
    "libteam-utils", "libteam5", "libteamdctl0", "libdaemon0", "libdbus-1-3", "libjansson4", "libnl-3-200",
    "libnl-cli-3-200", "libnl-genl-3-200", "libnl-nf-3-200", "libnl-route-3-200", "libsystemd0", "libcap2",
    "libgcrypt20", "libgpg-error0", "liblz4-1", "liblzma5", "libzstd1",
)  # fmt: skip
_TEAM_CONFIG = (
    '{"device": "team0", "runner": {"name": "lacp", "active": true, "fast_rate": true},'
    ' "link_watch": {"name": "ethtool"}, "ports": {"eth0": {}, "eth1": {}}}'
)
_TEAM = f"""
modprobe virtio_net
modprobe team
modprobe team_mode_loadbalance
mkdir -p /var/run/teamd
teamd -d -N -c '{_TEAM_CONFIG}'
ip link set team0 up
ip address add {servers.GUEST} dev team0
sleep 5
"""


@jobs.FURTHER
def test_a_team_goes_on_as_a_bond(tmp_path: Path) -> None:
    """The switch does not see the difference: both speak LACP."""
    ssh = servers.Ssh.make(tmp_path / "ssh")
    with ssh.listening("127.0.0.1") as port, running(Switch(dead=1, lacp=True)) as switch:
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            configuration=_suse(f"ssh://root@{servers.HOST}:{port}{tmp_path}/dumps", _IDENTITY),
            modules=("virtio_net", "bonding", "team", "team_mode_loadbalance"),
            packages=(*SSH_PACKAGES, *_TEAMD),
            devices=switch.options,
            files=_ssh_files(ssh, f"[{servers.HOST}]:{port}"),
        )
        crash = kdump.crash(_TEAM, armed="teamdctl team0 state")
        assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
        assert switch.agreements == 2
    (dump,) = (tmp_path / "dumps").iterdir()
    _is_whole(dump / "vmcore.flat", tmp_path / "vmcore")


def test_a_cluster_is_told(tmp_path: Path) -> None:
    """While the dump goes to a disk, by a network that only that takes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
        node.bind(("127.0.0.1", 0))
        node.settimeout(0.1)
        port = node.getsockname()[1]
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            conf=f"path /var/crash\nfence_kdump_nodes {servers.HOST}\nfence_kdump_args -p {port} -i 1\n",
            modules=("virtio_net",),
            packages=("fence-agents",),
            devices=_CARD,
        )
        crash = kdump.crash(_NETWORK_V4)
        said = messages(crash.console)
        # The others are about /init itself.
        assert said[-2:] == ["saving vmcore complete", "rebooting"]
        assert f"telling the cluster's nodes {servers.HOST}" in said
        told = node.recv(64)
    # message.h of fence-agents: a magic number, and the version.
    assert struct.unpack("<II", told) == (0x1B302A40, 1)
    assert (kdump.dump() / "vmcore").exists()


@jobs.FURTHER
def test_a_cluster_is_told_by_the_way_of_the_dump(tmp_path: Path) -> None:
    """The card is set up for the nodes, and then once more for the server."""
    ssh = servers.Ssh.make(tmp_path / "ssh")
    with (
        ssh.listening("127.0.0.1") as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node,
    ):
        node.bind(("127.0.0.1", 0))
        node.settimeout(0.1)
        script = f"/usr/libexec/fence-agents/fence_kdump_send -p {node.getsockname()[1]} {servers.HOST}"
        more = f'{_IDENTITY}\nKDUMP_POSTSCRIPT="{script}"\n'
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            configuration=_suse(f"ssh://root@{servers.HOST}:{server}{tmp_path}/dumps", more),
            modules=("virtio_net",),
            packages=(*SSH_PACKAGES, "fence-agents"),
            devices=_CARD,
            files=_ssh_files(ssh, f"[{servers.HOST}]:{server}"),
        )
        said = messages(kdump.crash(_NETWORK_V4).console)
        assert said[-2:] == ["saving vmcore complete", "rebooting"]
        told = f"telling the cluster's nodes {servers.HOST}"
        assert said.index(told) < said.index("saving vmcore")
        assert node.recv(64)
    (dump,) = (tmp_path / "dumps").iterdir()
    _is_whole(dump / "vmcore.flat", tmp_path / "vmcore")


_BRIDGE_PACKAGES = ("iproute2", "libbpf1", "libcap2", "libelf1", "libmnl0", "zlib1g")
# Its own packets are of VLAN 5, and have no tag there; at the port they have one, of a provider (802.1ad).
_FILTERING_BRIDGE = f"""
modprobe virtio_net
modprobe bridge
ip link add br0 type bridge
cd /sys/class/net/br0/bridge
echo 0 > forward_delay
echo 0x88a8 > vlan_protocol
echo 5 > default_pvid
echo 1 > vlan_filtering
cd /
ip link set eth0 master br0
bridge vlan add dev eth0 vid 5
bridge vlan add dev eth0 vid 100-200
ip link set eth0 up
ip link set br0 up
ip address add {servers.GUEST} dev br0
"""


@jobs.FURTHER
def test_a_bridge_that_filters_vlans(tmp_path: Path) -> None:
    """The switch takes only frames with the tag that the bridge's port gives them."""
    ssh = servers.Ssh.make(tmp_path / "ssh")
    with ssh.listening("127.0.0.1") as port, running(Switch(vlan=5, tag=PROVIDER_TAG)) as switch:
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            configuration=_suse(f"ssh://root@{servers.HOST}:{port}{tmp_path}/dumps", _IDENTITY),
            modules=("virtio_net", "bridge", "8021q"),
            packages=(*SSH_PACKAGES, *_BRIDGE_PACKAGES),
            devices=switch.options,
            files=_ssh_files(ssh, f"[{servers.HOST}]:{port}"),
        )
        crash = kdump.crash(_FILTERING_BRIDGE, armed='bridge vlan > "$OUT/vlans"')
        assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    (dump,) = (tmp_path / "dumps").iterdir()
    _is_whole(dump / "vmcore.flat", tmp_path / "vmcore")


@jobs.FURTHER
def test_a_dump_over_nfs_by_ipv6(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as export,
        servers.nfs(tmp_path / "nfs", Path(export), "::1") as port,
    ):
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            configuration=_suse(f"nfs://[{servers.HOST_V6}]:{port}/export"),
            modules=("virtio_net", "nfs", "nfsv4"),
            devices=_CARD,
        )
        crash = kdump.crash(f"modprobe virtio_net\n{_address_v6('eth0')}")
        assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
        (dump,) = Path(export).iterdir()
        command: list[str | Path] = ["makedumpfile", "--dump-dmesg", dump / "vmcore", tmp_path / "log"]
        subprocess.run(command, check=True, capture_output=True)
    assert "sysrq: Trigger a crash" in (tmp_path / "log").read_text(errors="replace")


@jobs.FURTHER
def test_a_dump_to_a_server_that_runs_no_commands(tmp_path: Path) -> None:
    """It takes files by SFTP alone."""
    ssh = servers.Ssh.make(tmp_path / "ssh")
    options = "Subsystem sftp internal-sftp\nForceCommand internal-sftp"
    with ssh.listening("127.0.0.1", options=options) as port:
        name = f"[{servers.HOST}]:{port}"
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            configuration=_suse(f"sftp://root@{servers.HOST}:{port}{tmp_path}/dumps", _IDENTITY),
            modules=("virtio_net", "fuse"),
            packages=(*SSH_PACKAGES, "sshfs", "libfuse3-3", "libglib2.0-0"),
            devices=_CARD,
            files=_ssh_files(ssh, name),
        )
        crash = kdump.crash(_NETWORK_V4)
        assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    (dump,) = (tmp_path / "dumps").iterdir()
    command: list[str | Path] = ["makedumpfile", "--dump-dmesg", dump / "vmcore", tmp_path / "log"]
    subprocess.run(command, check=True, capture_output=True)
    assert "sysrq: Trigger a crash" in (tmp_path / "log").read_text(errors="replace")


@jobs.FURTHER
def test_a_dump_through_a_jump_host(tmp_path: Path) -> None:
    """Where the dump goes, only the server in front of it can reach; each takes a key of its own."""
    front, behind = servers.Ssh.make(tmp_path / "front"), servers.Ssh.make(tmp_path / "behind")
    with front.listening("127.0.0.1") as first, behind.listening("127.0.0.1") as second:
        config = f"""
Host dumps
  HostName 127.0.0.1
  Port {second}
  ProxyJump root@{servers.HOST}:{first}
Host {servers.HOST}
  IdentityFile /root/front
"""
        known = [front.known_as(f"[{servers.HOST}]:{first}"), behind.known_as(f"[127.0.0.1]:{second}")]
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            conf=f"ssh root@dumps\nsshkey /root/key\npath {tmp_path}/dumps",
            modules=("virtio_net",),
            packages=SSH_PACKAGES,
            devices=_CARD,
            files={
                "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
                "/root/.ssh/config": config.encode(),
                "/root/.ssh/known_hosts": b"".join(known),
                "/root/key": (behind.folder / "client").read_bytes(),
                "/root/front": (front.folder / "client").read_bytes(),
            },
        )
        crash = kdump.crash(_NETWORK_V4)
        assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    (dump,) = (tmp_path / "dumps").iterdir()
    _is_whole(dump / "vmcore.flat", tmp_path / "vmcore")


@jobs.FURTHER
def test_a_dump_to_a_share(tmp_path: Path) -> None:
    """The kernel mounts it without mount.cifs, and nothing tells the password."""
    share = tmp_path / "share"
    share.mkdir()
    with servers.smb(tmp_path / "smb", share, "hush hush") as port:
        kernel = kernel_6_1()
        ciphers = ("ccm", "cmac", "ctr", "ecb", "gcm", "ghash_generic", "sha512_generic")
        kdump = Kdump(
            tmp_path,
            kernel,
            configuration=_suse(f"cifs://root:hush%20hush@{servers.HOST}:{port}/crash/from/here"),
            modules=("virtio_net", "cifs", *ciphers),
            devices=_CARD,
        )
        crash = kdump.crash(_NETWORK_V4)
        assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
        told = crash.stage("first").log
        assert f"the password for //{servers.HOST}/crash is in the capture image" in told
        assert "hush" not in told + crash.console
    (dump,) = (share / "from/here").iterdir()
    command: list[str | Path] = ["makedumpfile", "--dump-dmesg", dump / "vmcore", tmp_path / "log"]
    subprocess.run(command, check=True, capture_output=True)
    assert "sysrq: Trigger a crash" in (tmp_path / "log").read_text(errors="replace")


# Disks that servers have

_NQN, _IQN = "nqn.2026-01.lab:dump", "iqn.2026-01.lab:dump"
_USER, _SECRET = "a-user", "secretsecret"


def _mounted(disk: str) -> str:
    """A guest's job that mounts a disk when it is there."""
    return f"""
for _ in $(seq 50); do [ -b {disk} ] && break; sleep 0.1; done
mkdir /d
mount -t ext4 {disk} /d
"""


def _mounted_by_nvme(address: str, port: int) -> str:
    told = f"transport=tcp,traddr={address},trsvcid={port},nqn={_NQN}"
    return f"modprobe nvme_tcp\necho {told} > /dev/nvme-fabrics\n{_mounted('/dev/nvme0n1')}"


def _mounted_by_iscsi(address: str, port: int) -> str:
    login = f"-i iqn.2026-01.lab:guest -t {_IQN} -g 1 -a {address} -p {port} -u {_USER} -w {_SECRET}"
    return f"modprobe iscsi_tcp; modprobe sd_mod\niscsistart {login}\n{_mounted('/dev/sda')}"


@contextmanager
def _nvme(folder: Path, address: str = "127.0.0.1") -> Iterator[int]:
    with nvme_target.serve(make_disk(folder / "remote", "mkfs.ext4", "256M"), _NQN, address) as port:
        yield port


@contextmanager
def _iscsi(folder: Path, address: str = "127.0.0.1") -> Iterator[int]:
    disk = make_disk(folder / "remote", "mkfs.ext4", "256M")
    with servers.iscsi(folder / "tgt", disk, _IQN, _USER, _SECRET, address) as port:
        yield port


@pytest.mark.parametrize("kind", [jobs.further("nvme", id="nvme"), jobs.further("iscsi", id="iscsi")])
def test_a_server_s_disk_by_ipv6(kind: str, tmp_path: Path) -> None:
    start, mounted, modules = {
        "nvme": (_nvme, _mounted_by_nvme, ("nvme_tcp",)),
        "iscsi": (_iscsi, _mounted_by_iscsi, ("iscsi_tcp", "sd_mod")),
    }[kind]
    with start(tmp_path, "::1") as port:
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            conf="path /d/crash",
            modules=("virtio_net", *modules),
            packages=ISCSI_PACKAGES if kind == "iscsi" else (),
            devices=_CARD,
        )
        network = f"modprobe virtio_net\n{_address_v6('eth0')}"
        crash = kdump.crash(f"{network}{mounted(servers.HOST_V6, port)}")
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    _is_on_ext4(tmp_path)


def _is_on_ext4(folder: Path) -> None:
    """The dump is on the server's disk."""
    (dump,) = copied(folder / "remote", "/crash", folder / "copy").glob("127.0.0.1-*")
    assert "sysrq: Trigger a crash" in dmesg(dump / "vmcore")


_BOOTED_BY_ISCSI = f"""
modprobe virtio_net
modprobe iscsi_tcp; modprobe sd_mod; modprobe iscsi_ibft
iscsistart -N
iscsistart -b
{_mounted("/dev/sda")}
"""


@jobs.FURTHER
def test_a_disk_that_the_firmware_has_booted_from(tmp_path: Path) -> None:
    """All that it told the system (iBFT) the capture system has from the session: it needs no table."""
    with _iscsi(tmp_path) as port:
        boot = ibft.Boot(
            "iqn.2026-01.lab:firmware", servers.GUEST, mac(1), servers.HOST, servers.HOST, port,
            _IQN, _USER, _SECRET,
        )  # fmt: skip
        table = tmp_path / "ibft"
        table.write_bytes(boot.table())
        card = ("-netdev", "user,id=net", "-device", f"virtio-net-pci,netdev=net,mac={mac(1)}")
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            conf="path /d/crash",
            modules=("virtio_net", "iscsi_tcp", "sd_mod", "iscsi_ibft"),
            packages=ISCSI_PACKAGES,
            devices=(*card, "-acpitable", f"file={table}"),
        )
        crash = kdump.crash(_BOOTED_BY_ISCSI, armed='iscsistart -f > "$OUT/firmware"')
    assert _IQN in crash.stage("first").read("firmware")
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    assert "iqn.2026-01.lab:firmware" in crash.console
    _is_on_ext4(tmp_path)


# Servers that fail

_MIB = 1 << 20


@contextmanager
def _nfs(folder: Path) -> Iterator[int]:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as export,
        servers.nfs(folder / "nfs", Path(export)) as port,
    ):
        yield port


@dataclass(frozen=True)
class _Server:
    """A kind of server, and how a guest uses it."""

    start: Callable[[Path], AbstractContextManager[int]]
    port: int
    conf: str
    prepare: str
    modules: tuple[str, ...]
    packages: tuple[str, ...] = ()


_EXPORT = _Server(_nfs, 2049, f"nfs {servers.ADDRESS}:/export", _NETWORK_V4, ("nfs", "nfsv4"))
_BY_NVME = _Server(
    _nvme,
    4420,
    "path /d/crash",
    f"{_NETWORK_V4}{_mounted_by_nvme(servers.ADDRESS, 4420)}",
    ("nvme_tcp",),
)
_BY_ISCSI = _Server(
    _iscsi,
    3260,
    "path /d/crash",
    f"{_NETWORK_V4}{_mounted_by_iscsi(servers.ADDRESS, 3260)}",
    ("iscsi_tcp", "sd_mod"),
    ISCSI_PACKAGES,
)


@pytest.mark.parametrize(
    ("server", "after", "why", "minutes"),
    [
        jobs.further(_EXPORT, 0, "mount.nfs: cannot mount", 4, id="nfs-mount"),
        jobs.further(_EXPORT, 8 * _MIB, "10.0.2.100 does not answer any more", 8, id="nfs"),
        jobs.further(_BY_NVME, 8 * _MIB, "Removing controller", 8, id="nvme"),
        jobs.further(_BY_ISCSI, 8 * _MIB, "session recovery timed out", 8, id="iscsi"),
    ],
)
def test_a_server_that_stops_answering(
    server: _Server, after: int, why: str, minutes: int, tmp_path: Path
) -> None:
    """When it is to be mounted, or in the middle of the dump: the machine says why, and goes on in time."""
    with server.start(tmp_path) as behind:
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            conf=f"{server.conf}\nfailure_action poweroff",
            modules=("virtio_net", *server.modules),
            packages=server.packages,
            devices=servers.network(server.port, stalling.program(behind, after, tmp_path)),
        )
        began = time.monotonic()
        crash = kdump.crash(server.prepare, command=PANIC)
        took = time.monotonic() - began
    assert (tmp_path / "stalled").exists()
    assert why in crash.console
    said = messages(crash.console)
    assert ("saving vmcore failed" in said) == (after > 0)
    assert said[-2:] == ["the dump was not saved: poweroff", "powering off"]
    assert took < minutes * 60


def _end_when_said(text: str, console: Path, server: ExitStack) -> None:
    while not console.exists() or text not in console.read_text(errors="replace"):
        time.sleep(0.2)
    server.close()


@jobs.FURTHER
def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """It went when the machine crashed, and nobody listens at its port."""
    with ExitStack() as server:
        behind = server.enter_context(_nvme(tmp_path))
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            conf="path /d/crash\nfailure_action poweroff",
            modules=("virtio_net", *_BY_NVME.modules),
            devices=servers.network(_BY_NVME.port, servers.to_local(behind)),
        )
        told = ("pykdump: capture system", tmp_path / "crash/console.log", server)
        ending = threading.Thread(target=_end_when_said, args=told, daemon=True)
        ending.start()
        began = time.monotonic()
        crash = kdump.crash(_BY_NVME.prepare, command=PANIC)
        took = time.monotonic() - began
        ending.join()
    said = messages(crash.console)
    assert any(_NQN in each and "does not exist: it cannot be put together" in each for each in said)
    assert said[-2:] == ["the dump was not saved: poweroff", "powering off"]
    assert took < 4 * 60


@jobs.FURTHER
def test_a_cable_that_is_pulled(tmp_path: Path) -> None:
    """In the middle of a dump to an ssh server."""
    ssh = servers.Ssh.make(tmp_path / "ssh")
    with ssh.listening("127.0.0.1") as port, running(Switch(cut_after=8 * _MIB)) as switch:
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            configuration=_suse(f"ssh://root@{servers.HOST}:{port}{tmp_path}/dumps", _IDENTITY),
            modules=("virtio_net",),
            packages=SSH_PACKAGES,
            devices=switch.options,
            files=_ssh_files(ssh, f"[{servers.HOST}]:{port}"),
        )
        began = time.monotonic()
        crash = kdump.crash(_NETWORK_V4)
        took = time.monotonic() - began
        assert switch.is_cut
    assert f"Timeout, server {servers.HOST} not responding" in crash.console
    said = messages(crash.console)
    assert "saving vmcore failed" in said
    assert said[-2:] == ["the dump was not saved: reboot", "rebooting"]
    assert took < 5 * 60
    (dump,) = (tmp_path / "dumps").iterdir()
    assert "sysrq: Trigger a crash" in (dump / "vmcore-dmesg.txt").read_text(errors="replace")
    assert (dump / "vmcore.flat-incomplete").exists()
