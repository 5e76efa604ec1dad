"""What the capture image is made of, compared with the programs of others: mkfs, modprobe, ip."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pykexec.kdump.capture import blockdevice, image
from pykexec.kdump.capture.modules import Index
from tools.lab import X86_64, Kernel

ID = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.mark.parametrize(
    ("command", "type", "size"),
    [
        (["mkfs.ext4", "-q", "-U", ID, "-L", "my label"], "ext4", "16M"),
        (["mkfs.ext4", "-q", "-O", "^extent,^64bit", "-U", ID, "-L", "my label"], "ext4", "16M"),
        (["mkfs.ext3", "-q", "-U", ID, "-L", "my label"], "ext3", "16M"),
        (["mkfs.ext2", "-q", "-U", ID, "-L", "my label"], "ext2", "16M"),
        (["mkfs.xfs", "-q", "-m", f"uuid={ID}", "-L", "my label"], "xfs", "320M"),
        (["mkfs.btrfs", "-q", "-U", ID, "-L", "my label"], "btrfs", "128M"),
    ],
)  # fmt: skip
def test_superblocks_as_mkfs_writes_them(command: list[str], type: str, size: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    subprocess.run(["truncate", "-s", size, disk], check=True)
    made = subprocess.run([*command, disk], check=False, capture_output=True, text=True)
    if "label" in made.stderr and type == "xfs":  # XFS wants no blanks
        made = subprocess.run([*command[:-1], "mylabel", disk], check=True, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    found = blockdevice.read_superblock(disk)
    assert found is not None
    told = subprocess.run(["blkid", "-p", "-o", "export", disk], check=True, capture_output=True, text=True)
    fields = dict(line.split("=", 1) for line in told.stdout.splitlines())
    assert (found.type, found.uuid) == (type, ID) == (fields["TYPE"], fields["UUID"])
    assert found.label.replace(" ", "") == "mylabel"


def test_a_file_system_on_two_disks(tmp_path: Path) -> None:
    disks = [tmp_path / name for name in ("one", "two")]
    for disk in disks:
        subprocess.run(["truncate", "-s", "128M", disk], check=True)
    subprocess.run(["mkfs.btrfs", "-q", "-d", "single", *disks], check=True, capture_output=True)
    assert [found.devices for disk in disks if (found := blockdevice.read_superblock(disk))] == [2, 2]


@pytest.mark.parametrize("name", ["ext4", "xfs", "btrfs", "nfsv4", "virtio_blk", "nvme"])
def test_modules_as_modprobe_loads_them(name: str, tmp_path: Path) -> None:
    """All that modprobe would load, and nothing after what needs it."""
    kernel = Kernel.get("6.1", X86_64)
    for path, data in kernel.module_folder(
        ["ext4", "xfs", "btrfs", "nfsv4", "virtio_blk", "nvme", "crc32c_generic"]
    ).items():
        place = tmp_path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    command: list[str | Path] = ["modprobe", "-d", tmp_path, "-S", kernel.release, "--show-depends", name]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    expected = [
        Path(line.split()[1]).stem.replace("-", "_")
        for line in told.splitlines()
        if line.startswith("insmod")
    ]
    found = [module.name for module in Index(kernel.release, tmp_path).closure([name])]
    assert set(expected) <= set(found)
    loaded: set[str] = set()
    for module in Index(kernel.release, tmp_path).closure([name]):
        needs = re.findall(rb"\0depends=([^\0]+)\0", module.read())
        assert {each for need in needs for each in need.decode().replace("-", "_").split(",")} <= loaded
        loaded.add(module.name)


_CONFIGURATION = r"""
# options ext4 a=1
options xfs   b=1	c="d e"
options nvme-core x=1 \
    y=2
options alone
  options xfs f
blacklist xfs
"""


def test_parameters_as_modprobe_tells_them(tmp_path: Path) -> None:
    """A file hides those of its name in later folders; they are read in the order of their names."""
    (tmp_path / "lib/modules/6.1").mkdir(parents=True)
    (tmp_path / "lib/modules/6.1/modules.dep").touch()
    for name, text in {
        "etc/modprobe.d/20.conf": _CONFIGURATION,
        "etc/modprobe.d/notes": "options xfs notes=1\n",
        "run/modprobe.d/20.conf": "options xfs hidden=1\n",
        "usr/lib/modprobe.d/10.conf": "options xfs early=1",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    index = Index("6.1", tmp_path)
    assert index.parameters("xfs").startswith("early=1 b=1")
    assert "hidden" not in index.parameters("xfs")
    (tmp_path / "both").mkdir()
    for name in ("etc/modprobe.d/20.conf", "etc/modprobe.d/notes", "usr/lib/modprobe.d/10.conf"):
        (tmp_path / name).rename(tmp_path / "both" / Path(name).name)
    command: list[str | Path] = ["modprobe", "-C", tmp_path / "both", "--showconfig"]
    told: dict[str, list[str]] = {}
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        words = line.split()
        if words[:1] == ["options"]:
            told.setdefault(words[1], []).extend(words[2:])
    expected = {name: told.get(name) for name in ("xfs", "nvme_core")}
    assert expected == {name: index.parameters(name).split() for name in expected}
    assert not index.parameters("ext4") + index.parameters("alone")


_NETWORKS = """
ip link set lo up
ip link add v0 type veth peer name v1
ip link add v2 type veth peer name v3
for each in v0 v1 v2 v3; do ip link set $each up; done
ip address add 192.0.2.7/24 dev v0
ip address add 192.0.2.8/24 dev v0
ip address add 198.51.100.9/25 dev v2 label v2:1
ip address add 203.0.113.1 peer 203.0.113.2/32 dev v2
ip address add 2001:db8::7/64 dev v0 nodad
ip address add 2001:db8:1::7/128 dev v2 nodad
ip route add default via 192.0.2.1 metric 300
ip route add default via 198.51.100.1 metric 200
ip route add 10.1.0.0/16 via 192.0.2.1 src 192.0.2.8 mtu 1400
ip route add 10.2.0.0/16 via 192.0.2.3 table 7
ip route add 10.3.0.0/16 via 192.0.2.3 metric 9
ip route add 10.3.0.0/16 via 192.0.2.4 metric 5
ip rule add to 10.2.0.0/17 table 7
ip -6 route add default via fe80::9 dev v2
ip -6 route add 2001:db8:2::/48 via 2001:db8::1 mtu 1300
for each in ADDRESSES; do ip -json route get $each; done
ip -json address
exec "$0" -c 'from pykexec.kdump.capture import rtnetlink
from ipaddress import ip_address
for each in "ADDRESSES".split():
    route = rtnetlink.ask_route(ip_address(each))
    print(route.interface, rtnetlink.ask_prefix(ip_address(route.source), route.interface),
        route.source, route.gateway or "-", route.mtu)'
"""
_ASKED = (
    "192.0.2.99", "198.51.100.3", "203.0.113.2", "10.1.2.3", "10.2.0.1", "10.2.200.1", "10.3.0.1", "8.8.8.8",
    "2001:db8::99", "2001:db8:2::1", "2001:db8:ffff::1",
)  # fmt: skip


def test_the_route_as_ip_tells_it() -> None:
    """With rules, metrics, source addresses, several addresses on a card, and both families."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = _NETWORKS.replace("ADDRESSES", " ".join(_ASKED))
    command = ["unshare", *user, "--net", "sh", "-ec", script, sys.executable]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    at = len(_ASKED)
    told, addresses, found = lines[:at], json.loads(lines[at]), lines[at + 1 :]
    names = {each["ifname"]: each for each in addresses}
    for line, ours in zip(told, found, strict=True):
        (route,) = json.loads(line)
        interface = names[route["dev"]]
        lengths = {each["local"]: each["prefixlen"] for each in interface["addr_info"]}
        mtu = route.get("metrics", [{}])[0].get("mtu", 0)
        source = route["prefsrc"]
        words = (interface["ifindex"], lengths[source], source, route.get("gateway", "-"), mtu)
        assert ours.split() == [str(each) for each in words]


def test_init_is_a_sound_script() -> None:
    parts = (image.INIT, *image.MORE_OF_INIT.iterdir())
    subprocess.run(["shellcheck", "-s", "sh", *parts], check=True)
    listed = subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    used = {
        "cat",
        "cut",
        "date",
        "dd",
        "df",
        "dmesg",
        "findfs",
        "grep",
        "head",
        "hexdump",
        "insmod",
        "ip",
        "mkdir",
        "mkfifo",
        "mount",
        "mv",
    }
    used |= {
        "poweroff",
        "halt",
        "reboot",
        "readlink",
        "rm",
        "sed",
        "setsid",
        "sleep",
        "sort",
        "stat",
        "sync",
        "tee",
        "timeout",
        "tr",
        "awk",
        "umount",
    }
    assert used <= set(listed)
