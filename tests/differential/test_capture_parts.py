"""What the capture image is made of, compared with the programs of others: mkfs, modprobe, ip."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pykexec.kdump.capture import blockdevice, image, network
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


def test_the_route_as_the_kernel_takes_it() -> None:
    """To a server behind the default gateway, and to one next door."""
    told = json.loads(subprocess.run(["ip", "-json", "-4", "route"], check=True, capture_output=True).stdout)
    routes = Path("/proc/net/route").read_text()
    for route in told:
        if route.get("type", "unicast") != "unicast" or "dev" not in route:
            continue
        server = "198.51.100.77" if route["dst"] == "default" else route["dst"].partition("/")[0]
        asked = ["ip", "-json", "route", "get", server]
        taken = json.loads(subprocess.run(asked, check=True, capture_output=True).stdout)[0]
        assert network.gateway(routes, taken["dev"], server) == taken.get("gateway", "")


_ADDRESSES = """
ip link set lo up
ip address add 192.0.2.7/24 dev lo
ip address add 192.0.2.8/24 dev lo
ip address add 198.51.100.9/25 dev lo
ip address add 203.0.113.1/30 dev lo label lo:1
ip -json -4 address
exec "$0" -c 'from pykexec.kdump.capture import network
for address in ("127.0.0.1", "192.0.2.7", "192.0.2.8", "198.51.100.9", "203.0.113.1"):
    print(*network.interface_with(address))'
"""


def test_the_address_as_ip_tells_it() -> None:
    """A card may have several, in several networks, and some with labels."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", *user, "--net", "sh", "-ec", _ADDRESSES, sys.executable]
    told, *found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    expected = [
        f"{interface['ifname']} {each['local']}/{each['prefixlen']}"
        for interface in json.loads(told)
        for each in interface["addr_info"]
    ]
    assert sorted(found) == sorted(expected)


def test_init_is_a_sound_script() -> None:
    parts = (image.INIT, *image.INIT.parent.glob("init-*"))
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
        "tr",
        "awk",
        "umount",
    }
    assert used <= set(listed)
