"""Where dumps go on systems whose root is not a disk's: ostree and bootc, snapshots of btrfs, overlays.

The tables of mounts are those of such systems, as their own tools make them.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.errors import MachineError
from pykexec.kdump import mounts
from pykexec.kdump.capture import blockdevice, destination
from pykexec.kdump.capture.blockdevice import BlockDevice, Superblock
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.config.settings import Dialect, Settings, Target, TargetKind
from pykexec.kdump.doctor import starting
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.service import state
from pykexec.machine import Machine

IS_SEEN_THROUGH = mounts.is_seen_through
_DEPLOYED = "/ostree/deploy/fedora/deploy/2c0d.0"

# ostree-prepare-root(1) without composefs: the deployment is a bind mount of its folder on the disk.
OSTREE = f"""
60 1 253:0 {_DEPLOYED} / ro,relatime shared:1 - xfs /dev/mapper/rhel-root rw
61 60 253:0 {_DEPLOYED}/etc /etc rw,relatime shared:2 - xfs /dev/mapper/rhel-root rw
62 60 253:0 /ostree/deploy/fedora/var /var rw,relatime shared:3 - xfs /dev/mapper/rhel-root rw
63 60 253:0 / /sysroot ro,relatime shared:4 - xfs /dev/mapper/rhel-root rw
64 60 252:2 / /boot ro,nosuid shared:5 - ext4 /dev/vda2 rw
"""
# bootc, Fedora CoreOS 42: the root is a composefs, an overlay that has no upper folder.
COMPOSEFS = f"""
36 1 0:31 / / ro,relatime shared:1 - overlay composefs ro,lowerdir+=/run/ostree/.private/cfsroot-lower
37 36 252:4 /ostree/deploy/fedora-coreos/var /var rw,relatime shared:2 - xfs /dev/vda4 rw,seclabel
38 36 252:4 {_DEPLOYED}/etc /etc rw,relatime shared:3 - xfs /dev/vda4 rw,seclabel
39 36 252:4 / /sysroot ro,relatime shared:4 - xfs /dev/vda4 rw,seclabel
"""
# Fedora's desktop: ostree in a subvolume, and /var in another one.
SILVERBLUE = f"""
60 1 0:33 /root{_DEPLOYED} / ro,relatime shared:1 - btrfs /dev/vda3 rw,subvolid=256,subvol=/root
61 60 0:33 /root/ostree/deploy/fedora/var /var rw shared:3 - btrfs /dev/vda3 rw,subvolid=256,subvol=/root
"""
# openSUSE MicroOS: the root is a snapshot that is read only.
MICROOS = """
64 1 0:34 /@/.snapshots/1/snapshot / ro,relatime shared:1 - btrfs /dev/vda3 ro,subvolid=266
65 64 0:34 /@/var /var rw,relatime shared:2 - btrfs /dev/vda3 rw,subvolid=258,subvol=/@/var
"""
# Ubuntu's overlayroot, with a disk for what is written.
_LAYERS = "lowerdir=/media/root-ro,upperdir=/media/root-rw/overlay,workdir=/media/root-rw/overlay-workdir/_"
OVERLAYROOT = f"""
24 1 252:1 / /media/root-ro ro,relatime shared:1 - ext4 /dev/vda1 rw
25 1 252:16 / /media/root-rw rw,relatime shared:2 - ext4 /dev/vdb rw
26 1 0:27 / / rw,relatime shared:3 - overlay overlayroot rw,{_LAYERS}
"""
# The same as a service of systemd sees it (ReadWritePaths=).
IN_A_SERVICE = f"""{OVERLAYROOT.rstrip()}
27 26 0:27 /var/crash /var/crash rw,relatime - overlay overlayroot rw,{_LAYERS}
"""
# dracut's overlayfs module, and others that keep in memory what is written.
VOLATILE = """
24 1 0:25 / /run rw - tmpfs tmpfs rw
25 1 0:26 / / rw - overlay LiveOS_rootfs rw,lowerdir=/run/base,upperdir=/run/overlayfs,workdir=/run/work
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's folder; its devices hold what is said to be mounted, each upper folder is one."""
    (tmp_path / "proc/self").mkdir(parents=True)
    monkeypatch.setattr(os.path, "realpath", lambda path: path)
    monkeypatch.setattr(mounts, "is_seen_through", lambda point, upper: True)

    def device(source: str, sys: Path, number: str | None = None) -> BlockDevice:
        return BlockDevice(source.rpartition("/")[2], "/devices/x", 0, 1, ())

    monkeypatch.setattr(blockdevice, "describe", device)
    monkeypatch.setattr(
        blockdevice, "superblock_of", lambda place: Superblock(_types(tmp_path)[place.name], "u", "")
    )
    return tmp_path


def _types(folder: Path) -> Mapping[str, str]:
    return {each.source.rpartition("/")[2]: each.type for each in mounts.read(folder / "proc")}


def local(path: str, table: str, machine: Path) -> destination.Destination:
    (machine / "proc/self/mountinfo").write_text(f"{table.strip()}\n")
    return destination.local(path, machine / "sys", machine / "proc")


@pytest.mark.parametrize(
    ("table", "path", "device", "folder"),
    [
        (OSTREE, "/var/crash", "rhel-root", "/ostree/deploy/fedora/var/crash"),
        (OSTREE, "/sysroot/crash", "rhel-root", "/crash"),
        (COMPOSEFS, "/var/crash", "vda4", "/ostree/deploy/fedora-coreos/var/crash"),
        (SILVERBLUE, "/var/crash", "vda3", "/root/ostree/deploy/fedora/var/crash"),
        (MICROOS, "/var/crash", "vda3", "/@/var/crash"),
        (OVERLAYROOT, "/var/crash", "vdb", "/overlay/var/crash"),
        (OVERLAYROOT, "/media/root-rw/x", "vdb", "/x"),
        (IN_A_SERVICE, "/var/crash", "vdb", "/overlay/var/crash"),
        (IN_A_SERVICE, "/var/crash/here", "vdb", "/overlay/var/crash/here"),
    ],
)
def test_where_the_next_boot_looks(table: str, path: str, device: str, folder: str, machine: Path) -> None:
    found = local(path, table, machine)
    assert found.device is not None
    assert (found.device.name, found.folder) == (device, folder)


@pytest.mark.parametrize(
    ("table", "kind", "folder"),
    [
        (MICROOS, "btrfs", "/@/.snapshots/1/snapshot/crash"),
        (f"{MICROOS}66 64 0:34 / /top rw - btrfs /dev/vda3 rw,subvolid=5\n", "btrfs", "/crash"),
        ("22 1 0:34 / / rw - ext4 /dev/vda1 rw\n", "btrfs", "/crash"),
        ("22 1 0:34 /sub / rw - ext4 /dev/vda3 rw\n", "ext4", "/crash"),
    ],
)
def test_a_target_that_is_mounted(
    table: str, kind: str, folder: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kdump-utils mounts it with the options it has now: a folder of btrfs counts from the subvolume."""
    (machine / "proc/self/mountinfo").write_text(table.lstrip())
    monkeypatch.setattr(blockdevice, "superblock_of", lambda place: Superblock(kind, "u", ""))
    target = Target(TargetKind.FILESYSTEM, "/dev/vda3", filesystem=kind)
    settings = Settings(Dialect.FEDORA, target=target, path="/crash")
    assert destination.resolve(settings, machine / "sys", machine / "proc").folder == folder


@pytest.mark.parametrize(
    ("table", "folder"),
    [
        (MICROOS, "/crash"),
        (SILVERBLUE.replace("btrfs", "ext4"), None),
        (OSTREE.replace("/dev/mapper/rhel-root", "/dev/vda3"), "/sysroot/crash"),
    ],
)
def test_where_status_looks(
    table: str, folder: str | None, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "read", lambda: mounts.parse_mounts(table.strip()))
    target = Target(TargetKind.FILESYSTEM, "/dev/vda3", filesystem="btrfs")
    found = state.visible_folder(Settings(Dialect.FEDORA, target=target, path="/crash"))
    assert found == (Path(folder) if folder else None)


@pytest.mark.parametrize(
    ("table", "path", "why"),
    [
        (OSTREE, "/crash", "lies in a deployment of ostree"),
        (OSTREE, "/etc/crash", "lies in a deployment of ostree"),
        (SILVERBLUE, "/crash", "lies in a deployment of ostree"),
        (COMPOSEFS, "/crash", r"/crash lies on overlay \(composefs\)"),
        (VOLATILE, "/var/crash", r"/var/crash lies on tmpfs \(tmpfs\)"),
    ],
)
def test_where_no_dump_stays(table: str, path: str, why: str, machine: Path) -> None:
    with pytest.raises(Unsupported, match=why):
        local(path, table, machine)


def test_an_upper_folder_that_is_not_seen(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is the one that an initramfs had; here something else may be there."""
    monkeypatch.setattr(mounts, "is_seen_through", IS_SEEN_THROUGH)
    with pytest.raises(Unsupported, match=r"/var/crash lies on overlay \(overlayroot\)"):
        local("/var/crash", OVERLAYROOT, machine)
    upper, other = machine / "upper", machine / "other"
    upper.mkdir()
    assert not mounts.is_seen_through(str(other), str(upper))
    other.mkdir()
    os.utime(other, ns=(0, 7))
    assert not mounts.is_seen_through(str(other), str(upper))
    assert mounts.is_seen_through(f"{upper}/.", str(upper))


def test_overlays_on_each_other(machine: Path) -> None:
    """One whose upper folder is on itself no kernel has; a snapshot may."""
    more = "28 26 0:28 / /var rw - overlay o rw,lowerdir=/a,upperdir=/srv/up,workdir=/w"
    deep = f"{OVERLAYROOT.rstrip()}\n{more}\n"
    assert local("/var/crash", deep, machine).folder == "/overlay/srv/up/crash"
    circle = "26 1 0:27 / / rw - overlay o rw,lowerdir=/a,upperdir=/up,workdir=/w\n"
    with pytest.raises(Unsupported, match="lies on overlay"):
        local("/var/crash", circle, machine)


def test_no_mounts_at_all(machine: Path) -> None:
    with pytest.raises(MachineError, match=r"no mount .* holds /var/crash"):
        local("/var/crash", "22 1 0:4 / /proc rw - proc proc rw", machine)


@pytest.mark.parametrize(
    ("table", "source"), [(OVERLAYROOT, "/dev/vdb"), (COMPOSEFS, "/dev/vda4"), (VOLATILE, "tmpfs")]
)
def test_doctor_looks_at_the_same_place(table: str, source: str, tmp_path: Path) -> None:
    """In a snapshot, which has /proc/self/mounts alone."""
    found = mounts.parse_mounts(table.strip())
    lines = (f"{each.source} {each.point} {each.type} {each.options} 0 0\n" for each in found)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mounts").write_text("".join(lines))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/kdump.conf").write_text("path /var/crash\n")
    facts = Facts(Machine.from_snapshot(tmp_path))
    assert isinstance(facts.settings, Settings)
    mount = starting.target_mount(facts, replace(facts.settings))
    assert mount is not None
    assert mount.source == source
