"""The capture image's parts: what finds the dump target again, and what is told to the capture system."""

import gzip
import os
import re
import shlex
import subprocess
import uuid
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.errors import FileError, MachineError, PykexecError
from pykexec.initramfs import inspect
from pykexec.kdump import mounts
from pykexec.kdump.capture import (
    Contents,
    Destination,
    Entry,
    Transport,
    blockdevice,
    build,
    destination,
    image,
    init_settings,
    layers,
    login,
    sshconfig,
    watchdog,
)
from pykexec.kdump.capture import network as networks
from pykexec.kdump.capture.blockdevice import BlockDevice, Superblock
from pykexec.kdump.capture.errors import Unsupported
from pykexec.kdump.capture.layers import Layer
from pykexec.kdump.capture.links import Card, Links
from pykexec.kdump.capture.modules import Index
from pykexec.kdump.capture.network import Network
from pykexec.kdump.config import debian, fedora, suse
from pykexec.kdump.config.settings import (
    Action,
    Collector,
    CommandLinePolicy,
    Dialect,
    DracutArguments,
    Hooks,
    Settings,
    Target,
    TargetKind,
)
from pykexec.memory import MIB

# Devices

_PCI = "devices/pci0000:00/0000:00:05.0"
_CARD = "pci0000:00/0000:00:06.0"


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A virtio disk with a partition, a logical volume on it, and a bus driver built into the kernel."""
    sys = tmp_path / "sys"
    disk = sys / _PCI / "virtio2/block/vdb"
    (disk / "vdb3").mkdir(parents=True)
    (disk / "size").write_text("409600\n")
    (disk / "vdb3/size").write_text("2048\n")
    (disk / "vdb3/partition").write_text("3\n")
    _on_bus(disk, "bus/virtio")
    volume = sys / "devices/virtual/block/dm-0/dm"
    volume.mkdir(parents=True)
    (volume / "uuid").write_text("LVM-abc\n")
    (volume / "name").write_text("my--group-root--2\n")
    _link(volume.parent / "slaves/vdb3", disk / "vdb3")
    _link(sys / "dev/block/254:16", disk)
    _link(sys / "dev/block/254:19", disk / "vdb3")
    _link(sys / "dev/block/253:0", volume.parent)
    for name, driver in (("virtio2", "virtio_blk"), ("", "virtio_pci")):
        folder = sys / "bus/drivers" / driver
        (sys / "module" / driver).mkdir(parents=True)
        _link(folder / "module", sys / "module" / driver)
        _link(sys / _PCI / name / "driver", folder)
    return sys


def _on_bus(disk: Path, bus: str) -> None:
    """A disk in sysfs is of the device that it is below, which is on that bus."""
    sys = next(each for each in disk.parents if each.name == "devices").parent
    _link(disk / "device", disk.parent.parent)
    _link(disk.parent.parent / "subsystem", sys / bus)


def _link(path: Path, to: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)


def test_a_partition_is_known_by_what_does_not_change(sysfs: Path) -> None:
    found = blockdevice.describe("/dev/root", sysfs, "254:19")
    # The number of the virtio device is one of the order of discovery; the PCI address is not.
    assert (found.name, found.location, found.partition, found.sectors) == ("vdb3", f"/{_PCI}", 3, 2048)
    assert found.drivers == ("virtio_blk", "virtio_pci")
    assert found.stack.layers == ()
    assert blockdevice.describe("/dev/root", sysfs, "254:16").partition == 0


def test_what_supplies_a_device(sysfs: Path) -> None:
    """A regulator, which hangs on an I2C bus, and itself is fed through the device's bus."""
    regulator = sysfs / "devices/platform/i2c/regulator"
    regulator.mkdir(parents=True)
    for device, driver in ((regulator, "fan53555"), (regulator.parent, "i2c_rk3x")):
        (sysfs / "module" / driver).mkdir()
        _link(device / "driver/module", sysfs / "module" / driver)
    for consumer, supplier in (("0000:00:05.0", regulator), ("regulator", sysfs / _PCI)):
        link = sysfs / "devices/virtual/devlink" / f"for-{consumer}"
        _link(link / "supplier", supplier)
        holder = sysfs / _PCI if consumer != "regulator" else regulator
        _link(holder / f"supplier:{supplier.name}", link)
    found = blockdevice.describe("/dev/root", sysfs, "254:19").drivers
    assert found == ("virtio_blk", "virtio_pci", "fan53555", "i2c_rk3x")


def test_a_volume_on_a_partition(sysfs: Path) -> None:
    found = blockdevice.describe("/dev/mapper/x", sysfs, "253:0")
    assert found.stack.layers == (Layer("lvm", "my-group/root-2"),)
    assert found.drivers == ("virtio_blk", "virtio_pci")
    assert found.stack.modules == ("dm_mod",)
    with pytest.raises(Unsupported, match="a raw dump to dm-0, which has to be put together first"):
        destination.raw(found, ())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vg-lv", "vg/lv"),
        ("a--b-c--d", "a-b/c-d"),
        ("openeuler-root", "openeuler/root"),
        ("vg----x-y", "vg--x/y"),
    ],
)
def test_names_of_volumes(name: str, expected: str) -> None:
    assert layers.volume_name(name) == expected


def _refused(sysfs: Path, number: str, why: str) -> None:
    """It is refused in one line: what it is, where, and what would do instead."""
    with pytest.raises(Unsupported, match=why) as caught:
        blockdevice.describe("/dev/root", sysfs, number)
    assert "\n" not in caught.value.what
    assert str(caught.value.hint).startswith("name another file system as target, or use the distribution's")


# As cryptsetup, LVM, kpartx, dmraid, vdo and stratisd name devices; and what nobody knows.
@pytest.mark.parametrize(
    ("uuid", "what"),
    [
        ("CRYPT-VERITY-0f0f-root", "which is dm-verity"),
        ("CRYPT-INTEGRITY-dumps", "which is dm-integrity"),
        ("CRYPT-PLAIN-dumps", "which is plain dm-crypt"),
        ("CRYPT-TCRYPT-dumps", "which is a TrueCrypt or VeraCrypt volume"),
        ("CRYPT-BITLK-dumps", "which is a BitLocker volume"),
        ("CRYPT-LUKS2-abc", "which the device mapper calls 'CRYPT-LUKS2-abc'"),
        ("DMRAID-isw_abc_Volume0", "which is firmware's RAID"),
        ("VDO-123", "which is a VDO volume"),
        ("LVM-abcdef-vpool", "which is a VDO pool"),
        ("stratis-1-private-0f", "which is a Stratis pool"),
        ("part1-mpath-36000", "which the device mapper calls 'part1-mpath-36000'"),
        ("new-kind", "which the device mapper calls 'new-kind'"),
        ("", "which the device mapper calls ''"),
    ],
)
def test_what_nothing_puts_together(uuid: str, what: str, sysfs: Path) -> None:
    """A mapped device, and a volume on it."""
    dm = sysfs / "devices/virtual/block/dm-0/dm"
    (dm / "uuid").write_text(f"{uuid}\n")
    _refused(sysfs, "253:0", f"putting together my--group-root--2, {what}")
    above = sysfs / "devices/virtual/block/dm-1"
    (above / "dm").mkdir(parents=True)
    (above / "dm/uuid").write_text("LVM-def\n")
    (above / "dm/name").write_text("above-it\n")
    _link(above / "slaves/dm-0", dm.parent)
    _link(sysfs / "dev/block/253:1", above)
    _refused(sysfs, "253:1", f"putting together my--group-root--2, {what}")


# Where sysfs of Linux 6.12 has them.
@pytest.mark.parametrize(
    ("place", "bus", "what"),
    [
        ("virtual/block/loop0", "", "which is a file on another file system"),
        ("virtual/block/nbd0", "", "which is a server's disk by NBD"),
        ("virtual/block/drbd1000", "", "which is a DRBD device"),
        ("virtual/block/bcache0", "", "which is a bcache device"),
        ("virtual/block/zd16", "", "which is a ZFS volume"),
        ("virtual/block/zram0", "", "which is memory"),
        ("virtual/block/etherd!e0.0", "", "which is a server's disk by ATA over Ethernet"),
        ("virtual/ublk-char/ublkc0/block/ublkb0", "class/ublk-char", "which is a disk of a program"),
        ("rbd/0/block/rbd0", "bus/rbd", r"which is a Ceph image \(RBD\)"),
        ("pseudo_0/adapter0/host3/target3:0:0/3:0:0:0/block/sda", "bus/scsi", "which is memory"),
        (f"{_CARD}/host4/target4:0:0/4:0:0:0/block/sda", "bus/scsi", r"which is a server's disk by RDMA"),
        (
            f"{_CARD}/net/eth2/ctlr_0/host7/rport-7:0-1/target7:0:1/7:0:1:0/block/sda",
            "bus/scsi",
            "which is a server's disk by FCoE",
        ),
        ("x/block/strange0", "bus/strange", "and cannot tell what that is on"),
        ("virtual/block/strange0", "", "and cannot tell what that is on"),
    ],
)
def test_disks_that_nobody_finds_again(place: str, bus: str, what: str, sysfs: Path) -> None:
    disk = sysfs / "devices" / place
    disk.mkdir(parents=True)
    if bus:
        _on_bus(disk, bus)
    for host, driver in (("host3", "scsi_debug"), ("host4", "ib_srp"), ("host7", "(null)")):
        _link(sysfs / f"class/scsi_host/{host}", sysfs / host)
        (sysfs / host).mkdir()
        (sysfs / host / "proc_name").write_text(f"{driver}\n")
    _link(sysfs / "dev/block/9:9", disk)
    _refused(sysfs, "9:9", f"finding {re.escape(disk.name)} again, {what}")


# Of the laboratory's machines, and of others' listings.
@pytest.mark.parametrize(
    ("place", "bus"),
    [
        (f"{_CARD}/virtio0/block/vda", "bus/virtio"),
        (f"{_CARD}/ata1/host0/target0:0:0/0:0:0:0/block/sda", "bus/scsi"),
        (f"{_CARD}/host1/rport-1:0-2/target1:0:0/1:0:0:0/block/sda", "bus/scsi"),
        (f"{_CARD}/nvme/nvme0/nvme0n1", "class/nvme"),
        ("virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "class/nvme-subsystem"),
        ("platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0", "bus/mmc"),
        ("css0/0.0.0001/0.0.0120/block/dasda", "bus/ccw"),
        ("vbd-51712/block/xvda", "bus/xen"),
    ],
)
def test_disks_that_are_found_again(place: str, bus: str, sysfs: Path) -> None:
    disk = sysfs / "devices" / place
    disk.mkdir(parents=True)
    _link(disk / "device/subsystem", sysfs / bus)
    _link(sysfs / "dev/block/9:9", disk)
    assert blockdevice.describe("/dev/root", sysfs, "9:9").stack.disks == (disk,)


def test_a_device_that_is_not_there(sysfs: Path) -> None:
    with pytest.raises(FileError, match="/dev/nothing: no such block device"):
        blockdevice.describe("/dev/nothing", sysfs)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [("metadata", "clustered", "a cluster's"), ("location", "file", "in a file elsewhere")],
)
def test_arrays_that_take_more_than_their_disks(name: str, value: str, what: str, sysfs: Path) -> None:
    """Documentation/admin-guide/md.rst: what the files of md/bitmap say."""
    array = sysfs / "devices/virtual/block/md0"
    (array / "md/bitmap").mkdir(parents=True)
    (array / "md/bitmap" / name).write_text(f"{value}\n")
    _link(sysfs / "dev/block/9:0", array)
    _refused(sysfs, "9:0", f"putting together md0, whose bitmap is {what}")


_MDADM = """#!/bin/sh
case $* in
    "--detail --export /dev/md126") echo MD_CONTAINER=/dev/md/ddf0; echo MD_UUID=8d:24:15:ef ;;
    "--detail --export /dev/md127") echo MD_LEVEL=container; echo MD_UUID=89:b2:8c:a5 ;;
    *) exit 1 ;;
esac
"""


@pytest.mark.programs
@pytest.mark.parametrize("metadata", ["external:/md127/0", "external:-md127/0"])
def test_an_array_in_a_container(
    metadata: str, sysfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """md.rst: where the kernel does not write it, metadata_version tells the container and who does."""
    program = tmp_path / "mdadm"
    program.write_text(_MDADM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    array = sysfs / "devices/virtual/block/md126"
    (array / "md").mkdir(parents=True)
    (array / "md/level").write_text("raid1\n")
    (array / "md/metadata_version").write_text(f"{metadata}\n")
    _link(array / "slaves/vdb", sysfs / _PCI / "virtio2/block/vdb")
    _link(sysfs / "dev/block/9:126", array)
    found = blockdevice.describe("/dev/root", sysfs, "9:126")
    assert found.stack.layers == (Layer("container", "89:b2:8c:a5,8d:24:15:ef"),)
    assert (found.stack.modules, found.drivers) == (("raid1",), ("virtio_blk", "virtio_pci"))
    to = Destination(Transport.DISK, "/d", found, Superblock("ext4", "", ""))
    assert {"container", "layers"} <= {part.name for part in image.more_of_init([to])}
    needed = image.program_names(Settings(Dialect.FEDORA), ways=[], assemblers=["container"])
    assert {"mdadm", "mdmon"} <= set(needed)


def test_volumes_in_circles(sysfs: Path) -> None:
    """No kernel has them; a snapshot may."""
    dm = sysfs / "devices/virtual/block/dm-0"
    _link(dm / "slaves/dm-0", dm)
    with pytest.raises(Unsupported, match="more than 8 devices"):
        blockdevice.describe("/dev/mapper/x", sysfs, "253:0")


@given(st.binary(max_size=2048))
def test_no_superblock_in_anything_else(start: bytes) -> None:
    found = blockdevice.parse_superblock(start)
    assert found is None or start[:4] == b"XFSB" or start[0x438:0x43A] == b"\x53\xef"


def test_file_systems_by_tag(tmp_path: Path) -> None:
    id = str(uuid.UUID(int=7))
    for name in ("vda", "vdb", "vdc"):
        (tmp_path / "sys/class/block" / name).mkdir(parents=True)
        (tmp_path / "dev").mkdir(exist_ok=True)
        label = b"twice" if name != "vdc" else b"once"
        start = bytearray(66 << 10)
        start[:4] = b"XFSB"
        start[0x20:0x30] = uuid.UUID(int=ord(name[-1])).bytes
        start[0x6C : 0x6C + len(label)] = label
        (tmp_path / "dev" / name).write_bytes(start)
    dev, sys = tmp_path / "dev", tmp_path / "sys"
    assert blockdevice.find("LABEL=once", sys, dev) == str(dev / "vdc")
    assert blockdevice.find(f"UUID={uuid.UUID(int=ord('b'))}", sys, dev) == str(dev / "vdb")
    assert blockdevice.find("/dev/sda1", sys, dev) == "/dev/sda1"
    with pytest.raises(FileError, match=r"vda, .*vdb all have the LABEL=twice"):
        blockdevice.find("LABEL=twice", sys, dev)
    with pytest.raises(FileError, match=f"no block device has the UUID={id}"):
        blockdevice.find(f"UUID={id}", sys, dev)


@pytest.mark.parametrize(
    ("tag", "link"),
    [
        ("PARTUUID=0fc63daf-01", "by-partuuid/0fc63daf-01"),
        ('PARTLABEL="dumps"', "by-partlabel/dumps"),
        ("PARTLABEL=my/dumps", r"by-partlabel/my\x2fdumps"),
        ("PARTLABEL=für_alle", "by-partlabel/für_alle"),
    ],
)
def test_partitions_by_tag(tag: str, link: str, tmp_path: Path) -> None:
    """By udev's links, whose names have what is no plain character as a number (udev(7))."""
    _link(tmp_path / "disk" / link, tmp_path / "vda1")
    with pytest.raises(FileError, match="no block device has the PART"):
        blockdevice.find(tag, tmp_path, tmp_path)
    (tmp_path / "vda1").touch()
    assert blockdevice.find(tag, tmp_path, tmp_path) == str(tmp_path / "vda1")


def test_a_file_system_on_several_devices(
    sysfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a tag that all of them have, with the layers and drivers of all; not with one missing."""
    start = bytearray(66 << 10)
    start[0x10040:0x10048] = b"_BHRfS_M"
    start[0x10088] = 2
    start[0x1012B:0x1012F] = b"both"
    (tmp_path / "dev").mkdir()
    numbers = {"vdb": "254:16", "dm-0": "253:0"}
    for name, number in numbers.items():
        _link(sysfs / "class/block" / name, (sysfs / "dev/block" / number).resolve())
        (tmp_path / "dev" / name).write_bytes(start)
    dev = tmp_path / "dev"
    monkeypatch.setattr(blockdevice, "_number", lambda path: numbers[Path(path).name])
    assert blockdevice.find("LABEL=both", sysfs, dev) == str(dev / "dm-0")
    superblock = blockdevice.superblock_of(dev / "vdb")
    assert superblock is not None
    whole = blockdevice.describe_all(superblock, sysfs, dev)
    assert whole.stack.layers == (Layer("lvm", "my-group/root-2"),)
    assert whole.drivers == ("virtio_blk", "virtio_pci")
    (dev / "dm-0").unlink()
    with pytest.raises(FileError, match=r"on 2 devices, of which these are there: \S+/vdb$"):
        blockdevice.describe_all(superblock, sysfs, dev)


def test_watchdogs_that_run(sysfs: Path) -> None:
    """One may say that it does not; not every one says which device it is."""
    assert watchdog.running(sysfs) == ()
    device = sysfs / _PCI / "wdt"
    device.mkdir()
    _link(device / "driver/module", sysfs / "module/virtio_blk")
    folder = sysfs / "class/watchdog/watchdog0"
    _link(folder / "device", device)
    other = sysfs / "class/watchdog/watchdog1"
    other.mkdir()
    (other / "state").write_text("active\n")
    assert watchdog.running(sysfs) == (folder, other)
    assert list(watchdog.drivers((folder, other), sysfs)) == ["virtio_blk", "virtio_pci"]
    (folder / "state").write_text("inactive\n")
    assert watchdog.running(sysfs) == (other,)


def test_modules_by_folder(tmp_path: Path) -> None:
    folder = tmp_path / "lib/modules/6.1"
    folder.mkdir(parents=True)
    (folder / "modules.dep").write_text(
        "kernel/drivers/watchdog/i6300esb.ko.xz: kernel/drivers/watchdog/watchdog.ko\n"
        "kernel/drivers/watchdog/watchdog.ko:\nkernel/drivers/misc/mei/mei.ko:\n"
    )
    assert Index("6.1", tmp_path).below("drivers/watchdog") == {"i6300esb", "watchdog"}


def test_what_volumes_ask_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume that is RAID 1, beside one that is a cache, on a machine that has a bcache built in."""
    folder = tmp_path / "lib/modules/6.1"
    folder.mkdir(parents=True)
    names = ("dm-mod", "dm-raid", "raid1", "raid10", "dm-cache-smq", "persistent-data/dm-persistent-data")
    (folder / "modules.dep").write_text(
        "".join(f"kernel/drivers/md/{name}.ko:\n" for name in names)
        + "kernel/drivers/net/e1000.ko:\nkernel/fs/ext4/ext4.ko:\n"
    )
    monkeypatch.setattr(
        image, "_loaded", lambda: {"dm_mod", "dm_raid", "raid1", "dm_cache_smq", "bcache", "e1000"}
    )
    index = Index("6.1", tmp_path)

    def modules(to: Destination) -> set[str]:
        wanted, optional = image._wanted_modules(Settings(Dialect.FEDORA), [to], index)
        return {module.name for module in index.closure(wanted, optional=optional)}

    assert _DISK.device is not None
    volume = replace(
        _DISK.device, stack=layers.Stack((Layer("lvm", "vg/lv"),), ("dm_mod",), layers._VOLUME_MODULES)
    )
    assert modules(replace(_DISK, device=volume)) == {"dm_mod", "dm_raid", "raid1", "dm_cache_smq", "ext4"}
    assert modules(_DISK) == {"ext4"}


@pytest.mark.parametrize(
    ("dracut", "line", "found"),
    [
        (DracutArguments(), "", {"a", "b", "c"}),
        (DracutArguments(omitted_drivers=("b",)), "", {"a"}),
        (DracutArguments(drivers=("d", "none")), "", {"a", "b", "c", "d"}),
        (DracutArguments(), "quiet rd.driver.blacklist=c,b", {"a"}),
        (DracutArguments(), "modprobe.blacklist=c", {"a", "b"}),
        (DracutArguments(omitted_drivers=("a-x",)), "", None),
        (DracutArguments(omitted_drivers=("e",)), "", {"a", "b", "c"}),
    ],
)
def test_modules_that_are_left_out(
    dracut: DracutArguments,
    line: str,
    found: set[str] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What needs one of them goes, too; the dump target's modules cannot. c needs b, a needs a_x."""
    folder = tmp_path / "lib/modules/6.1"
    folder.mkdir(parents=True)
    files = {"a": "a_x", "a_x": "", "b": "", "c": "b", "d": "", "e": ""}
    for name in files:
        (folder / f"{name}.ko").write_bytes(b"\x7fELF")
    lines = (f"{name}.ko: {f'{needed}.ko' if needed else ''}\n" for name, needed in files.items())
    (folder / "modules.dep").write_text("".join(lines))
    monkeypatch.setattr(image, "Index", lambda release: Index(release, tmp_path))
    monkeypatch.setattr(
        image, "_wanted_modules", lambda settings, *_: (["a"], ["b", "c", *settings.dracut.drivers])
    )
    settings = Settings(Dialect.FEDORA, dracut=dracut, command_line=CommandLinePolicy(append=line))

    def modules() -> set[str]:
        entries = image._module_entries(settings, "6.1", [], (), ())
        return {each.path.rpartition("/")[2] for each in entries} - {"order"}

    if found is None:
        with pytest.raises(FileError, match="the dump needs the module a_x, which"):
            modules()
    else:
        assert modules() == {f"{name}.ko" for name in (*found, "a_x")}


def test_files_that_dracut_would_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder/deep").mkdir(parents=True)
    for name, mode in {"file": 0o640, "tool": 0o755, "folder/deep/one": 0o600}.items():
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(mode)
    dracut = DracutArguments(
        programs=(f"{tmp_path}/file", f"{tmp_path}/tool"),
        files=((f"{tmp_path}/file", "/etc/other"), (f"{tmp_path}/folder", "/etc/here/")),
    )
    found = {each.path: (each.data(), each.mode) for each in image._files(dracut)}
    assert found == {
        f"{tmp_path}/file": (b"file", 0o644),
        "/etc/other": (b"file", 0o640),
        "/etc/here/deep/one": (b"folder/deep/one", 0o600),
    }
    monkeypatch.setattr(image, "_FILES_MAX", 1)
    with pytest.raises(FileError, match="folder has more than 1 files"):
        list(image._files(dracut))
    with pytest.raises(FileError, match="--include: /none is not there"):
        list(image._files(DracutArguments(files=(("/none", "/x"),))))


@pytest.mark.parametrize(
    ("kind", "given", "folder", "options"),
    [
        ("ext4", "", "/crash", ""),
        (
            "ext4",
            "defaults,noatime,nofail,x-systemd.device-timeout=5,data=journal",
            "/crash",
            "noatime,data=journal",
        ),
        ("btrfs", "rw,subvol=/@dumps/", "/@dumps/crash", "subvolid=5"),
        ("btrfs", "subvol=@dumps,compress=zstd", "/@dumps/crash", "subvolid=5,compress=zstd"),
    ],
)
def test_a_mount_for_dracut(
    kind: str, given: str, folder: str, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder for dumps counts from what is mounted. What mount(8) keeps to itself no kernel takes."""
    target = Target(TargetKind.DRACUT, "/dev/vda", filesystem=kind, options=(("mount", given),))
    plain = replace(_DISK, folder="/crash", options="subvolid=5" if kind == "btrfs" else "")
    monkeypatch.setattr(destination, "_filesystem", lambda *_: plain)
    found = destination.resolve(Settings(Dialect.FEDORA, target=target, path="/crash"))
    assert (found.folder, found.options) == (folder, options)


def test_a_mount_for_dracut_that_says_too_little() -> None:
    target = Target(TargetKind.DRACUT, "/dev/vda")
    with pytest.raises(FileError, match="names no type for /dev/vda"):
        destination.resolve(Settings(Dialect.FEDORA, target=target))


# Mounts

_MOUNTS = r"""
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:5 / /dev rw - devtmpfs udev rw
30 22 254:17 / /var/my\040dumps rw - xfs /dev/vdb1 rw
31 22 0:40 /@var /var rw master:1 - btrfs /dev/vdc rw,subvol=/@var
32 31 0:41 / /var/tmp rw - tmpfs tmpfs rw
33 22 0:50 / /srv rw - nfs4 server.example:/exports/a rw,addr=192.0.2.1
34 22 0:51 /of/this /host rw - virtiofs my\040tag rw
35 22 0:52 / /qemu rw - 9p share rw,sync,dirsync,access=client,trans=virtio
36 22 0:53 / /plan9 rw - 9p 192.0.2.1 rw,access=client,trans=tcp
"""


@pytest.mark.parametrize(
    ("path", "point", "type"),
    [
        ("/var/crash", "/var", "btrfs"),
        ("/var/my dumps/x", "/var/my dumps", "xfs"),
        ("/var/my", "/var", "btrfs"),
        ("/variable", "/", "ext4"),
        ("/", "/", "ext4"),
        ("/srv", "/srv", "nfs4"),
    ],
)
def test_which_mount_holds_a_folder(path: str, point: str, type: str) -> None:
    found = mounts.innermost(path, mounts.parse_mounts(_MOUNTS.strip()))
    assert found is not None
    assert (found.point, found.type) == (point, type)


@pytest.mark.parametrize("line", ["x", "1 2 3", "22 1 254:1 / / rw", "22 1 254:1 / / rw - ext4"])
def test_mounts_that_are_none(line: str) -> None:
    with pytest.raises(MachineError, match="mountinfo"):
        mounts.parse_mounts(line)


# What any user can make of a mount of FUSE in a folder of theirs: the kernel escapes only blank, tab,
# newline and backslash (fs/proc_namespace.c, mangle()).
_USERS_FOLDERS = ["x\ry", "x\x0cy", "x\x1cy", "x\x85y", "x\u2028y", "x\u3000y"]
_USERS_FOLDERS += [f"x{end}36\u200335\u20030:9\u2003/\u2003/var/crash\u2003rw" for end in "\r\x1e\u2029"]


@pytest.mark.parametrize("name", _USERS_FOLDERS, ids=ascii)
def test_no_user_s_mount_is_taken_for_another(tmp_path: Path, name: str) -> None:
    line = f"99 1 0:40 / /home/user/{name} rw,nosuid - fuse.mine mine rw,user_id=1000\n"
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_bytes(f"{_MOUNTS.strip()}\n{line}".encode())
    with pytest.raises(Unsupported, match=r"/var/tmp/x lies on tmpfs"):
        destination.local("/var/tmp/x", tmp_path / "sys", tmp_path / "proc")
    found = mounts.read(tmp_path / "proc")
    assert found[:-1] == mounts.parse_mounts(_MOUNTS.strip())
    assert found[-1].point == f"/home/user/{name}"


def test_a_folder_that_a_crash_does_not_leave(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(_MOUNTS.strip())
    with pytest.raises(Unsupported, match=r"/var/tmp/x lies on tmpfs") as error:
        destination.local("/var/tmp/x", tmp_path / "sys", tmp_path / "proc")
    assert "pykdump start --initrd FILE" in str(error.value)


def test_a_folder_that_the_host_shares(sysfs: Path, tmp_path: Path) -> None:
    """Mounted, or named by the configuration; one that comes over a network is another thing."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(_MOUNTS.replace(r"my\040tag", "tag").strip())
    for driver in ("virtiofs", "9pnet_virtio"):
        _link(sysfs / "bus/virtio/drivers" / driver / "virtio2", sysfs / _PCI / "virtio2")
    found = destination.local("/host/crash", sysfs, tmp_path / "proc")
    assert (found.way, found.folder, found.remote) == (Transport.SHARE, "/of/this/crash", "tag")
    assert found.drivers == ("virtio_blk", "virtio_pci")
    assert str(found) == "/of/this/crash on virtiofs tag"
    configured = Settings(Dialect.FEDORA, target=Target(TargetKind.FILESYSTEM, "tag", filesystem="virtiofs"))
    assert destination.resolve(configured, sysfs, tmp_path / "proc") == replace(found, folder="/var/crash")
    qemu = destination.local("/qemu", sysfs, tmp_path / "proc")
    assert "trans=virtio" in qemu.options
    assert [part.name for part in image.more_of_init([found, qemu])] == ["share"]
    assert image._host(configured, found) == os.uname().nodename
    with pytest.raises(Unsupported, match=r"mounting 9P \(192\.0\.2\.1\) by another way than virtio"):
        destination.local("/plan9", sysfs, tmp_path / "proc")


def test_a_tag_that_is_no_word(sysfs: Path, tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(_MOUNTS.strip())
    with pytest.raises(FileError, match="takes the tag of a shared folder"):
        destination.local("/host", sysfs, tmp_path / "proc")


@pytest.mark.programs
def test_a_raw_dump_overwrites_nothing_that_is_mounted(sysfs: Path) -> None:
    mounted = mounts.parse_mounts(_MOUNTS.strip())
    assert destination.raw(blockdevice.describe("/dev/root", sysfs, "254:19"), mounted).way is Transport.RAW
    used = replace(blockdevice.describe("/dev/root", sysfs, "254:19"), number="254:17")
    with pytest.raises(FileError, match="would overwrite vdb3, which is mounted on /var/my dumps"):
        destination.raw(used, mounted)
    (sysfs / "vdb3").write_bytes(bytes(0x10000))
    unused = replace(used, number="254:19")
    assert destination.raw(unused, mounted, sysfs).way is Transport.RAW
    subprocess.run(["mkfs.ext4", "-q", "-F", sysfs / "vdb3", "512"], check=True)
    with pytest.raises(FileError, match="would overwrite the ext4 file system on vdb3"):
        destination.raw(unused, mounted, sysfs)


def test_a_device_that_cannot_be_read(sysfs: Path, tmp_path: Path) -> None:
    """That is no reason to make a file system there."""
    (tmp_path / "proc/self").mkdir(parents=True)
    device = tmp_path / "gone"
    (tmp_path / "proc/self/mountinfo").write_text(f"22 1 254:19 / / rw - ext4 {device} rw\n")
    with pytest.raises(FileError, match=r"cannot read /dev/vdb3: ") as error:
        destination.local("/var/crash", sysfs, tmp_path / "proc")
    assert "make" not in str(error.value)


# Network


def test_a_server_that_is_nowhere() -> None:
    with pytest.raises(Exception, match=r"the dump target's server no\.such\.host\.invalid"):
        networks.route_to("no.such.host.invalid", 22)


@pytest.mark.parametrize("host", ["a..example", f"{'a' * 64}.example", ".example"])
def test_a_server_that_cannot_be(host: str) -> None:
    with pytest.raises(PykexecError, match=f"{re.escape(host)}: no host can have this name"):
        networks.route_to(host, 22)


# Modules


@pytest.fixture
def index(tmp_path: Path) -> Index:
    folder = tmp_path / "lib/modules/6.1"
    (folder / "kernel").mkdir(parents=True)
    for name in ("ext4", "jbd2", "crc16", "crc32c_generic", "crc32c-intel", "nic"):
        data = (
            b"module "
            + name.encode()
            + b"\0firmware=nic/fw.bin\0firmware=../../etc/shadow\0firmware=/etc/passwd\0"
        )
        (folder / f"kernel/{name}.ko.gz").write_bytes(gzip.compress(data, mtime=0))
    (folder / "modules.dep").write_text(
        "kernel/ext4.ko.gz: kernel/jbd2.ko.gz kernel/crc16.ko.gz\n"
        "kernel/jbd2.ko.gz: kernel/crc16.ko.gz\nkernel/crc16.ko.gz:\nkernel/crc32c_generic.ko.gz:\n"
        "kernel/crc32c-intel.ko.gz:\nkernel/nic.ko.gz:\n"
    )
    (folder / "modules.softdep").write_text(
        "# x\nsoftdep ext4 pre: crc32c nowhere\nsoftdep jbd2 pre: ext4\n"
    )
    (folder / "modules.alias").write_text(
        "alias crc32c crc32c_intel\nalias crc32c crc32c_generic\nalias pci:v*d* nic\nalias fs-ext3 ext4\n"
    )
    (folder / "modules.builtin").write_text("kernel/virtio-pci.ko\n")
    return Index("6.1", tmp_path)


def test_modules_come_after_what_they_need(index: Index) -> None:
    names = [module.name for module in index.closure(["ext4", "virtio_pci"])]
    assert names.index("crc16") < names.index("jbd2") < names.index("ext4")
    assert {"crc32c_intel", "crc32c_generic"} <= set(names[: names.index("ext4")])
    assert "virtio_pci" not in names
    assert len(set(names)) == len(names)
    assert index.closure(["fs_ext3"])[-1].name == "ext4"
    assert index.closure(["ext4"])[0].read().startswith(b"module ")


def test_a_module_that_is_missing(index: Index, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"Linux 6\.1 has no module zfs, neither as a file nor built in"):
        index.closure(["zfs"])
    assert index.closure([], optional=["zfs"]) == ()
    with pytest.raises(FileError, match=r"modules\.dep is missing"):
        Index("6.2", tmp_path)


def test_a_modules_dep_that_makes_no_sense(index: Index, tmp_path: Path) -> None:
    """Without what a module needs it would not load after the crash, and nobody would have been told."""
    table = tmp_path / "lib/modules/6.1/modules.dep"
    chain = "".join(f"m{number}.ko: m{number + 1}.ko\n" for number in range(5000))
    for text, message in (
        ("ext4.ko: jbd2.ko\n", "ext4 needs jbd2"),
        (f"ext4.ko: m0.ko\n{chain}", "without end"),
    ):
        table.write_text(text)
        with pytest.raises(FileError, match=message):
            Index("6.1", tmp_path).closure(["ext4"])


def test_firmware_that_is_there(index: Index, tmp_path: Path) -> None:
    (nic,) = index.closure(["nic"])
    assert list(index.firmware(nic.read())) == []
    for folder in ("lib/firmware/nic", "etc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/shadow").write_text("secret")
    (tmp_path / "lib/firmware/nic/fw.bin.xz").write_text("x")
    assert list(index.firmware(nic.read())) == [Path("lib/firmware/nic/fw.bin.xz")]


# What the capture system is told

_DISK = Destination(
    Transport.DISK,
    "/crash",
    BlockDevice("vda", "/devices/x", 0, 5, ()),
    Superblock("ext4", "1234-5678", ""),
)
_NASTY = "a 'quoted' $(reboot) `name` \\ * é"


def told(settings: Settings, to: Destination = _DISK) -> dict[str, str]:
    """What a shell that reads the file has in its variables afterwards."""
    text = init_settings.render(settings, "6.1", to, None, "127.0.0.1")
    done = subprocess.run(
        ["sh", "-uc", f"set -a\n{text}\nset +a\nexec env -0"],
        capture_output=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    pairs = (each.partition("=") for each in done.stdout.decode().split("\0") if each)
    return {name: value for name, _, value in pairs}


@hypothesis.settings(deadline=None)  # it starts programs
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=30))
def test_no_value_is_taken_for_a_command(text: str) -> None:
    hooks = Hooks(before=f"/x{text}")
    settings = Settings(Dialect.FEDORA, hooks=hooks, failure_command=text)
    assert told(settings)["HOOK_BEFORE"] == f"/x{text}"
    assert told(settings)["FAILURE_COMMAND"] == text


def test_what_is_told() -> None:
    settings = Settings(Dialect.FEDORA, failure_action=Action.DUMP_TO_ROOTFS, free_space=64 * MIB)
    found = told(settings, replace(_DISK, folder=f"/{_NASTY}"))
    expected = {
        "WAY": "disk", "FOLDER": f"/{_NASTY}", "UUID": "1234-5678", "FILESYSTEM": "ext4", "LOCATION": "",
        "FREE_KIB": "65536", "KEEP_OLD": "", "FAILURE_ACTION": "dump_to_rootfs", "FINAL_ACTION": "reboot",
        "VMCORE": "vmcore", "SAVE_LOG": "1", "SAVE_DUMP": "1",
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


_WAY = Network("192.0.2.1", Links((Card("52:54:00:00:00:01", "/devices/x"),)), "192.0.2.7/24")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server is in the same network."""
    monkeypatch.setattr(networks, "route_to", lambda *_: _WAY)
    monkeypatch.setattr(sshconfig, "ask", lambda host, user, port: sshconfig.Server(host, port or 22, user))


@pytest.mark.usefixtures("here")
def test_a_jump_over_an_address_of_one_link_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capture system's ssh would have to name the link, which has another name there."""
    key = tmp_path / "key"
    key.touch()
    ssh = suse.read(f"KDUMP_SAVEDIR=ssh://u@h/d\nKDUMP_SSH_IDENTITY={key}\n")
    through = sshconfig.Server("h", jump="j")
    monkeypatch.setattr(
        sshconfig, "ask", lambda host, *_: through if host == "h" else sshconfig.Server(host, user="j")
    )
    assert destination.resolve(ssh).behind == "h"
    link_local = replace(_WAY, server="fe80::1", address="fe80::7/64")
    monkeypatch.setattr(networks, "route_to", lambda *_: link_local)
    with pytest.raises(Unsupported, match="fe80::1"):
        destination.resolve(ssh)


@pytest.mark.usefixtures("here")
def test_how_a_server_is_reached(tmp_path: Path) -> None:
    """A port, and how long to try: kdump-config's attempts are three seconds apart."""
    key = tmp_path / "key"
    key.touch()
    ssh = suse.read(f"KDUMP_SAVEDIR=ssh://u@h:2222/d\nKDUMP_SSH_IDENTITY={key}\nKDUMP_NET_TIMEOUT=90\n")
    found = told(ssh, destination.resolve(ssh))
    assert (found["PORT"], found["HOST_KEY_ALIAS"], found["PATIENCE"]) == ("2222", "[h]:2222", "90")
    ssh = debian.read(f"USE_KDUMP=1\nSSH=u@h\nSSH_KEY={key}\nSSH_KDUMP_RETRY=100\n")
    found = told(ssh, destination.resolve(ssh))
    assert (found["PORT"], found["HOST_KEY_ALIAS"], found["PATIENCE"]) == ("22", "h", "300")
    nfs = debian.read("USE_KDUMP=1\nNFS=h:/d\nNFS_TIMEO=7\nNFS_RETRANS=8\nNFS_MOUNT_RETRY=9\n")
    found = told(nfs, destination.resolve(nfs))
    assert (found["OPTIONS"], found["PATIENCE"]) == ("timeo=7,retrans=8", "60")
    nfs = suse.read("KDUMP_SAVEDIR=nfs://h:4049/d\n")
    assert told(nfs, destination.resolve(nfs))["OPTIONS"].endswith(",port=4049")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("ssh://u:secret@h/d", "logging in with a password"),
        ("sftp://u:secret@h/d", "logging in with a password"),
        ("cifs://h/share/d", "has no user, or no password"),
        ("cifs://u@h/share/d", "has no user, or no password"),
        ("cifs://u:a%0Ab@h/share/d", "has a comma or an unprintable character in it"),
        ("ssh://u@h/d", r"the ssh key .*/id_ed25519 or .*/id_rsa does not exist"),
    ],
)
def test_logins_that_are_refused(
    url: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tuple(f"{tmp_path}/id_{kind}" for kind in ("ed25519", "rsa"))
    monkeypatch.setattr(destination, "_SSH_KEYS", keys)
    with pytest.raises(PykexecError, match=what):
        destination.resolve(suse.read(f"KDUMP_SAVEDIR={url}\n"))


@pytest.mark.usefixtures("here")
def test_a_missing_ssh_key_is_told_with_the_setting_that_names_it(tmp_path: Path) -> None:
    for settings, name in (
        (fedora.read(f"ssh u@h\nsshkey {tmp_path}/no\n", ""), "sshkey"),
        (debian.read(f"USE_KDUMP=1\nSSH=u@h\nSSH_KEY={tmp_path}/no\n"), "SSH_KEY"),
        (suse.read(f"KDUMP_SAVEDIR=ssh://u@h/d\nKDUMP_SSH_IDENTITY={tmp_path}/no\n"), "KDUMP_SSH_IDENTITY"),
    ):
        with pytest.raises(FileError, match=f"the ssh key {tmp_path}/no does not exist") as raised:
            destination.resolve(settings)
        assert f" {name} (" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("dialect", "kept", "old"),
    [
        (Dialect.FEDORA, 0, ""),
        (Dialect.FEDORA, 3, "3"),
        (Dialect.SUSE, -1, "0"),
        (Dialect.SUSE, 2, "2"),
        (Dialect.DEBIAN, 1, "0"),
        (Dialect.DEBIAN, 3, "2"),
    ],
)
def test_how_many_old_dumps_stay(dialect: Dialect, kept: int, old: str) -> None:
    assert told(Settings(dialect, keep_old_dumps=kept))["KEEP_OLD"] == old


_RAW = Destination(Transport.RAW, "", BlockDevice("vdb3", "/devices/pci/x", 3, 2048, ()))
_SSH = Destination(Transport.SSH, "/d", network=_WAY, remote="u")


@pytest.mark.parametrize(
    ("collector", "to", "name", "command"),
    [
        (Collector(("makedumpfile", "-d", "31")), _DISK, "vmcore", "makedumpfile -d 31 IN OUT"),
        (Collector(("cp",)), _DISK, "vmcore", "cp IN OUT"),
        (Collector(("dd",)), _DISK, "vmcore", "cp IN OUT"),
        (Collector(("/sbin/makedumpfile", "-l")), _DISK, "vmcore", "makedumpfile -l IN OUT"),
        (Collector(("makedumpfile", "-F", "-l")), _DISK, "vmcore", "makedumpfile -l IN OUT"),
        (Collector(("my tool", "-x")), _DISK, "vmcore", "my tool -x IN OUT"),
        (
            Collector(("makedumpfile", "--message-level", "1")),
            _DISK,
            "vmcore",
            "makedumpfile --message-level 1 --message-level 7 IN OUT",
        ),
        (
            Collector(("makedumpfile", "--message-level=31")),
            _DISK,
            "vmcore",
            "makedumpfile --message-level=31 IN OUT",
        ),
        (Collector(("makedumpfile", "-F")), _SSH, "vmcore.flat", "makedumpfile -F IN"),
        (Collector(("makedumpfile", "-l")), _RAW, "vmcore.flat", "makedumpfile -l -F IN"),
        (Collector(("scp",)), _SSH, "vmcore", "cat IN"),
        (Collector(("makedumpfile",), compress_with="xz"), _DISK, "vmcore.flat.xz", "makedumpfile -F IN|xz"),
    ],
)
def test_the_collector(collector: Collector, to: Destination, name: str, command: str) -> None:
    settings = Settings(Dialect.FEDORA, collector=collector)
    text = init_settings.render(settings, "6.1", to, None, "h")
    assert f"VMCORE={name}\n" in text
    streams = to.way is not Transport.DISK or bool(collector.compress_with)
    function = "collect_stream" if streams else "collect"
    (body,) = (line for line in text.splitlines() if line.startswith(f"{function}() "))
    words = shlex.split(body.partition("{ ")[2].removesuffix("; }"))
    said = " ".join(
        "IN OUT" if word == "$@" and not streams else "IN" if word == "$@" else word for word in words
    )
    through = told(settings, to)["COMPRESS"]
    assert said + (f"|{through}" if through else "") == command


@pytest.mark.parametrize("libc", ["libc.so.6", "libc.musl-x86_64.so.1"])
def test_the_library_that_ends_threads(libc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """glibc does not list it, and aborts without it; musl has no need of it."""
    monkeypatch.setattr(image, "libraries_of", lambda _: [tmp_path / libc])
    is_glibc = libc == "libc.so.6"
    assert image._libraries({}, threads=False) == [tmp_path / libc]
    with pytest.raises(FileError, match="libgcc_s") if is_glibc else nullcontext():
        assert image._libraries({}, threads=True) == [tmp_path / libc]
    (tmp_path / "libgcc_s.so.1").touch()
    names = [each.name for each in image._libraries({}, threads=True)]
    assert names == [libc, *(["libgcc_s.so.1"] if is_glibc else [])]


@pytest.mark.parametrize(
    ("collector", "size", "smaller"),
    [
        (Collector(("makedumpfile", "-d", "1"), has_limit=True, has_smaller=True), "limited", "-d 31"),
        (Collector(("makedumpfile", "-d", "31"), has_limit=True), "limited", ""),
        (Collector(("makedumpfile", "-d", "31")), "", ""),
        (Collector(("makedumpfile",), compress_with="xz", has_limit=True), "", ""),
        (Collector(("cp",)), "memory", ""),
        (Collector(("mytool",)), "", ""),
    ],
)
def test_what_is_known_of_the_size(collector: Collector, size: str, smaller: str) -> None:
    found = told(Settings(Dialect.FEDORA, collector=collector), _DISK)
    assert (found["DUMP_SIZE"], found["SMALLER"]) == (size, smaller)


@pytest.mark.parametrize(
    ("collector", "to", "what"),
    [
        (Collector((), command="cat > x"), _DISK, "KDUMP_TRANSFER"),
        (Collector(("mytool",)), _SSH, "core_collector mytool writes no stream"),
    ],
)
def test_collectors_that_are_refused(collector: Collector, to: Destination, what: str) -> None:
    with pytest.raises(Exception, match=what):
        init_settings.render(Settings(Dialect.FEDORA, collector=collector), "6.1", to, None, "h")


# Logins


def _key(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return path


def _hashed(text: str, path: Path) -> str:
    path.write_text(text)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    assert text.split()[0] not in path.read_text()
    return path.read_text()


@pytest.mark.programs
@pytest.mark.parametrize(
    ("host", "port", "known", "hashed", "accepted"),
    [
        ("h.example", None, "h.example KEY", False, True),
        ("H.Example", 22, "h.example KEY", False, True),
        ("h.example", None, "h.example KEY", True, True),
        ("h.example", 2222, "[h.example]:2222 KEY", True, True),
        ("h.example", None, "# none\n@cert-authority *.example KEY", False, True),
        ("192.0.2.7", None, "h.example,192.0.2.* KEY", False, True),
        ("h.example", None, "other.example KEY", False, False),
        ("h.example", None, "other.example KEY", True, False),
        ("h.example", 2222, "h.example KEY", False, False),
        ("h.example", None, "", False, False),
    ],
)
def test_servers_that_are_known(
    host: str,
    port: int | None,
    known: str,
    hashed: bool,
    accepted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """sshd(8): with a port of its own a server has another name. HostKeyAlias does without the bare one."""
    key = _key(tmp_path / "key")
    text = known.replace("KEY", (tmp_path / "key.pub").read_text())
    (tmp_path / "second").write_text(_hashed(text, tmp_path / "hashed") if hashed else text)
    (tmp_path / "first").write_text(f"third.example {(tmp_path / 'key.pub').read_text()}".rstrip())
    monkeypatch.setattr(login, "KNOWN_HOSTS", tuple(str(tmp_path / name) for name in ("first", "second")))
    target = Target(TargetKind.SSH, f"u@{host}", port=port)
    to = replace(_SSH, ssh_key=str(key))
    if not accepted:
        with pytest.raises(FileError, match=r"there is none of \[?h\.example.* in .*/first") as error:
            list(image._ssh_files(target, to))
        assert error.value.hint == f"log in once: ssh -i {key}{' -p 2222' if port else ''} u@h.example"
        return
    (taken,) = (entry for entry in image._ssh_files(target, to) if entry.path.endswith("/known_hosts"))
    (tmp_path / "taken").write_bytes(taken.data())
    for name in ("third.example", login.known_as(target).lower()):
        assert login.is_known(name, [tmp_path / "taken"])


@pytest.mark.programs
@pytest.mark.parametrize("port", [None, 2222])
def test_a_server_whose_key_is_configured(
    port: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """openSUSE's KDUMP_HOST_KEY; its * does not take the check away."""
    key = _key(tmp_path / "key")
    monkeypatch.setattr(login, "KNOWN_HOSTS", (str(tmp_path / "none"),))
    told = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    target = Target(TargetKind.SSH, "u@H.example", port=port, options=(("host_key", told),))
    to = replace(_SSH, ssh_key=str(key))
    (taken,) = (entry for entry in image._ssh_files(target, to) if entry.path.endswith("/known_hosts"))
    (tmp_path / "taken").write_bytes(taken.data())
    assert login.is_known(login.known_as(target), [tmp_path / "taken"])
    assert suse.read(f"KDUMP_SAVEDIR=ssh://h/x\nKDUMP_HOST_KEY='{told}'\n").target.options[1] == (
        "host_key",
        told,
    )
    with pytest.raises(FileError, match="the server's host key is not known"):
        list(image._ssh_files(replace(target, options=(("host_key", "*"),)), to))


@pytest.mark.programs
def test_keys_that_ask(tmp_path: Path) -> None:
    """How a file may be accessed here says nothing of the image; what cannot be judged is let pass."""
    key = _key(tmp_path / "key")
    key.chmod(0o644)
    assert login.is_usable(key)
    assert not login.is_usable(_key(tmp_path / "asks", "secret"))
    assert not login.is_usable(tmp_path / "asks.pub")
    with pytest.raises(FileError, match=r"cannot read .*gone"):
        login.is_usable(tmp_path / "gone")


@pytest.mark.programs
def test_logins_that_nothing_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "key").touch()
    assert login.is_known("h", [tmp_path / "key"])
    assert login.is_usable(tmp_path / "key")


# The image


@pytest.mark.parametrize(
    ("first", "brought"),
    [
        (b"#!/bin/sh\n", set()),
        (b"#! /usr/bin/env sh\n", set()),
        (b"#!/usr/bin/env python3\n", {"/usr/bin/python3"}),
        (b"#!/usr/bin/env -S LANG=C python3 -u\n", {"/usr/bin/python3"}),
        (b"\x7fELF", set()),
    ],
)
def test_what_runs_a_hook_comes_with_it(first: bytes, brought: set[str], tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_bytes(first)
    assert set(image._interpreters([hook])) == brought


def test_the_same_contents_give_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_bytes(b"tool")
    what = Contents(_DISK, (Entry("/init", b"#!/bin/sh\n", 0o755), Entry("/usr/bin/tool", source, 0o755)))
    shown: list[str] = []
    for name in ("one", "two"):
        build(what, tmp_path / name, shown.append)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert shown[:2] == ["/init", "/usr/bin/tool"]
    assert inspect(memoryview((tmp_path / "one").read_bytes())).warning is None
    before = what.fingerprint
    source.write_bytes(b"another tool")
    assert what.fingerprint != before


def test_an_image_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    output = tmp_path / "image"
    output.write_text("before")
    with pytest.raises(FileError, match=r"cannot read .*gone"):
        build(Contents(_DISK, (Entry("/init", tmp_path / "gone"),)), output)
    assert output.read_text() == "before"
    with pytest.raises(FileError, match="cannot write"):
        build(Contents(_DISK, ()), tmp_path / "image" / "below a file")
