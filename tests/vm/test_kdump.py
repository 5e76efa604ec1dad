"""pykdump's service on real kernels: a crash leaves a dump, or at least all that could be saved."""

import datetime
import gzip
import json
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from pykexec.kdump.console import diagnosis
from pykexec.vmcore import Dump, info
from pykexec.vmcore.readers import Tools
from tests.vm import jobs, nvme_target, servers
from tests.vm.kdump import SECTOR, TEST, Kdump, copied, make_disk, partitioned, script
from tools.lab import ARM64, PANIC, X86_64, Arch, Kernel, Result
from tools.lab.arches.arm import ARCH as ARM
from tools.lab.arches.ppc64le import ARCH as PPC64LE
from tools.lab.arches.riscv64 import ARCH as RISCV64
from tools.lab.arches.s390x import ARCH as S390X
from tools.lab.debian import fetch, fetch_file

KERNELS = {X86_64: ("6.1",)}
FURTHER_KERNELS = {
    X86_64: ("5.10", "6.12", "7.2"),
    ARM64: ("5.10", "6.1"),
    RISCV64: ("6.12",),
    ARM: ("6.1",),
    PPC64LE: ("6.1",),
    S390X: ("6.1-kdump",),
}

_AFTER = """
pykdump status > "$OUT/state" || true
pykdump start > "$OUT/start" 2>&1
pykdump status > "$OUT/state-armed"
cd /var/crash/127.0.0.1-*
"""


def kernel_6_1() -> Kernel:
    return Kernel.get("6.1", X86_64)


def pykdump(*words: str | Path) -> str:
    """What the program says on this machine."""
    command = [sys.executable, "-m", "pykexec.kdump", *words]
    return subprocess.run(command, check=True, capture_output=True).stdout.decode(errors="replace")


def dmesg(dump: Path, *options: str) -> str:
    return pykdump("dmesg", *options, dump)


def messages(console: str) -> list[str]:
    """What the capture system says, in order."""
    return re.findall(r"^pykdump: (.*)$", console, re.MULTILINE)


def without_callers(log: str) -> str:
    """The lines of makedumpfile 1.7.5 and later without who wrote them, as those before have them.

    A text's further lines begin below its first.
    """
    without = re.sub(r"^(\[ *\d+\.\d{6}\] )\[ *[CT]\d+\] ", r"\1", log, flags=re.MULTILINE)
    return without if without == log else re.sub(r"^ {11}(?= {15})", "", without, flags=re.MULTILINE)


@pytest.mark.parametrize(("arch", "version"), jobs.cases("dump", KERNELS, FURTHER_KERNELS))
def test_a_dump_is_there_after_the_crash(arch: Arch, version: str, tmp_path: Path) -> None:
    """With openEuler's settings; makedumpfile reads the dump, and finds the log that was saved.

    On x86_64's 6.1, whose symbols are to be had, crash and drgn open it, too.
    """
    kdump = Kdump(tmp_path, Kernel.get(version, arch))
    crash = kdump.crash(armed="pykdump status", command=TEST)
    assert "armed:    yes, but unproven: no pykdump test has been made" in crash.stage("first").log
    compare = f'{_AFTER}\nmakedumpfile --dump-dmesg vmcore "$OUT/makedumpfile.txt"'
    stage, dump = kdump.next_boot(compare).stage("first"), kdump.dump()

    assert sorted(each.name for each in dump.iterdir()) == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
    log = (dump / "vmcore-dmesg.txt").read_text(errors="replace")
    assert "sysrq: Trigger a crash" in log
    assert log == stage.read("makedumpfile.txt")
    assert dmesg(dump / "vmcore", "--style", "makedumpfile") == without_callers(log)
    own = (dump / "kexec-dmesg.log").read_text(errors="replace")
    assert "Linux version" in own
    assert "pykdump: saving vmcore complete" in own
    assert "sysrq: Trigger a crash" not in own

    status = stage.read("state")
    assert status.startswith("armed:    no: no capture kernel is loaded")
    (line,) = (each for each in status.splitlines() if "127.0.0.1-" in each)
    assert re.fullmatch(r" +127\.0\.0\.1-\d{4}(-\d\d){2}-\d\d:\d\d:\d\d  \d+\.\d MiB", line)
    assert len(status.splitlines()) <= 10
    assert "armed:    yes, and proven: a test passed" in stage.read("state-armed")
    found = pykdump("info", dump / "vmcore")
    assert re.search(r"^panic +Kernel panic - not syncing: sysrq triggered crash", found, re.M)
    # That of this machine.
    assert re.search(r"^makedumpfile +can read it", found, re.M) or arch is not X86_64
    if (arch, version) == (X86_64, "6.1"):
        _opened_by_crash_and_drgn(kdump, dump / "vmcore")


def test_an_arm64_dump(tmp_path: Path) -> None:
    """The log that makedumpfile found in memory is the one that is in the dump."""
    kdump = Kdump(tmp_path, Kernel.get("6.1", ARM64))
    kdump.crash()
    dump = kdump.dump()
    assert sorted(each.name for each in dump.iterdir()) == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
    log = (dump / "vmcore-dmesg.txt").read_text(errors="replace")
    assert "sysrq: Trigger a crash" in log
    assert dmesg(dump / "vmcore", "--style", "makedumpfile") == log


@jobs.FURTHER  # crash is emulated, and takes longer than the machines do
def test_an_arm64_dump_is_opened_by_crash_and_drgn(tmp_path: Path) -> None:
    kdump = Kdump(tmp_path, Kernel.get("6.1", ARM64))
    kdump.crash()
    _opened_by_crash_and_drgn(kdump, kdump.dump() / "vmcore")


@pytest.mark.parametrize(("arch", "version"), jobs.cases("dump", {}, {ARM64: ["7.2"]}))
def test_a_dump_that_makedumpfile_cannot_make(arch: Arch, version: str, tmp_path: Path) -> None:
    """The log is found by another program; the memory is copied as it is, where there is room for it."""
    kdump = Kdump(tmp_path, Kernel.get(version, arch))
    failed = kdump.crash()
    assert "all of memory is copied instead" in failed.stage("first").log
    assert "saving vmcore-dmesg.txt complete" in messages(failed.console)
    assert messages(failed.console)[-2:] == ["the dump was not saved: reboot", "rebooting"]
    look = 'pykdump status > "$OUT/state" || true\ncat /var/crash/*/vmcore-dmesg.txt > "$OUT/log"'
    stage = kdump.next_boot(f"{look}\nrm -r /var/crash/*").stage("first")
    assert "sysrq: Trigger a crash" in stage.read("log")
    assert re.search(r"127\.0\.0\.1-\S+  INCOMPLETE, .* with the log$", stage.read("state"), re.M)

    disk = make_disk(tmp_path / "big", "mkfs.ext4", "1200M")
    disk.replace(kdump.disk)
    copied = kdump.crash(name="copy")
    assert messages(copied.console)[-2:] == ["saving vmcore complete", "rebooting"]
    stage = kdump.next_boot(f'{_AFTER}\nvmcore-dmesg vmcore > "$OUT/c.txt"', "look").stage("first")
    dump = kdump.dump()
    assert dmesg(dump / "vmcore") == stage.read("c.txt")
    assert (dump / "vmcore-dmesg.txt").read_text(errors="replace") == stage.read("c.txt")


_KERNEL_THREADS = """
grep -l "^PPid:[[:space:]]*2$" /proc/[0-9]*/status | sed s/status/comm/ | xargs cat > "$OUT/threads"
"""


@jobs.FURTHER  # what start does then is plain; this shows why
def test_a_makedumpfile_that_does_not_know_the_kernel(tmp_path: Path) -> None:
    """Debian 12's on Debian 13's kernel: start says so, and crash and drgn find all tasks in the dump.

    With the level that is configured some of them are missing, and nobody but info says so.
    """
    kdump = Kdump(tmp_path, Kernel.get("6.12", X86_64))
    crash = kdump.crash(_KERNEL_THREADS)
    armed = crash.stage("first").log
    assert "makedumpfile 1.7.2 is too old for this kernel (Linux 6.10: slab became a type of page" in armed
    assert "so only pages of zeros are left out (-d 1)" in armed
    dump = kdump.dump() / "vmcore"
    found = info.gather(Dump.open(dump), tools=Tools(None, None, "x86_64"))
    assert (found.dump_level, found.damage) == (1, ())
    vmlinux = _vmlinux(kdump, "trixie")
    tasks = _tasks_by_drgn(dump, vmlinux)
    # Workers come and go, and so does ext4lazyinit; /proc has more of a thread's name than task_struct.
    before = {name[:15] for name in crash.stage("first").read("threads").splitlines()}
    lasting = {name for name in before if not name.startswith(("kworker", "ext4lazyinit"))}
    assert len(lasting) > 20
    assert lasting <= set(tasks)
    assert len(_tasks_by_crash(dump, vmlinux)) == len(tasks) > 50

    bad = tmp_path / "bad"
    command: list[str | Path] = ["makedumpfile", "-l", "-d", "31", dump, bad]
    subprocess.run(command, check=True, capture_output=True)
    lost = info.gather(Dump.open(bad), tools=Tools(None, None, "x86_64"))
    assert any("pages that are needed are missing" in each for each in lost.damage), lost.slabs
    assert len(_tasks_by_crash(bad, vmlinux)) < len(tasks)


@jobs.FURTHER  # beside the subvolume
@pytest.mark.parametrize(("mkfs", "size"), [("mkfs.xfs", "320M"), ("mkfs.btrfs", "256M")])
def test_other_file_systems(mkfs: str, size: str, tmp_path: Path) -> None:
    """Not mounted when the service starts, found by label or UUID, in a folder that does not exist yet."""
    name = mkfs.removeprefix("mkfs.")
    disk = make_disk(tmp_path / "dumps", mkfs, size, "-L", "dumps")
    kdump = Kdump(
        tmp_path,
        kernel_6_1(),
        conf=f"{name} LABEL=dumps\npath deep/er\nfinal_action poweroff",
        disks=(disk,),
        modules=(name,),
    )
    crash = kdump.crash()
    assert messages(crash.console)[-1] == "powering off"
    mount = f'modprobe {name}\nmkdir /d\nmount -t {name} /dev/vdb /d\nfind /d > "$OUT/found"'
    stage = kdump.next_boot(f'{mount}\npykdump status > "$OUT/state" || true').stage("first")
    assert re.search(r"^/d/deep/er/127\.0\.0\.1-\S+/vmcore$", stage.read("found"), re.M)
    assert re.search(r"^dumps: +1 in /d/deep/er$", stage.read("state"), re.M)


def test_a_subvolume_of_btrfs(tmp_path: Path) -> None:
    """Mounted where dumps go; the capture system counts its folder from the top of all subvolumes."""
    disk = make_disk(tmp_path / "dumps", "mkfs.btrfs", "256M")
    kdump = Kdump(
        tmp_path,
        kernel_6_1(),
        conf="path /d/crash",
        disks=(disk,),
        modules=("btrfs",),
        packages=("btrfs-progs", "libblkid1", "libudev1", "libuuid1"),
        files={"/etc/localtime": _time_zone(hours=14)},
    )
    make = "modprobe btrfs; mkdir /top /d; mount -t btrfs /dev/vdb /top; btrfs subvolume create /top/@dumps"
    crash = kdump.crash(f"{make}; mount -t btrfs -o subvol=@dumps /dev/vdb /d")
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    command: list[str | Path] = ["btrfs", "restore", "--snapshots", disk, tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    (dump,) = (tmp_path / "@dumps/crash").iterdir()
    assert (dump / "vmcore").exists()
    name = dump.name.removeprefix("127.0.0.1-")
    there = datetime.datetime.strptime(name, "%Y-%m-%d-%H:%M:%S").replace(tzinfo=datetime.UTC)
    passed = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=14) - there
    assert datetime.timedelta() < passed < datetime.timedelta(hours=1)


_OVERLAY = """
modprobe overlay
mkdir -p /disk /rw /lower/crash /data
mount -t ext4 /dev/vdb /disk
mkdir -p /disk/deploy/var
mount --bind /disk/deploy/var /rw
mkdir -p /rw/upper /rw/work
mount -t overlay overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work /data
"""


@jobs.FURTHER
def test_a_dump_below_an_overlay(tmp_path: Path) -> None:
    """Its upper folder is seen through a bind mount, and has no folder for dumps yet."""
    disk = make_disk(tmp_path / "dumps", "mkfs.ext4", "256M")
    kdump = Kdump(tmp_path, kernel_6_1(), conf="path /data/crash", disks=(disk,), modules=("overlay",))
    crash = kdump.crash(_OVERLAY)
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    look = 'pykdump status > "$OUT/state" || true\nls /data/crash/*/vmcore > "$OUT/found"'
    stage = kdump.next_boot(f"{_OVERLAY}{look}").stage("first")
    assert re.search(r"^dumps: +1 in /data/crash$", stage.read("state"), re.M)
    assert stage.read("found").startswith("/data/crash/127.0.0.1-")


@pytest.mark.parametrize(
    ("size", "is_saved"), [("16M", False), pytest.param("64M", True, marks=jobs.FURTHER)]
)
def test_a_disk_that_is_too_small(size: str, is_saved: bool, tmp_path: Path) -> None:
    """For the dump as configured: with fewer pages it may fit. The log does in any case."""
    disk = make_disk(tmp_path / "dumps", "mkfs.ext4", size, "-L", "dumps")
    conf = "ext4 LABEL=dumps\npath /crash\ncore_collector makedumpfile -l -d 1"
    crash = Kdump(tmp_path, kernel_6_1(), conf=conf, disks=(disk,)).crash()
    said = messages(crash.console)
    free = int(size[:-1]) << 10
    needs = [each for each in said if each.startswith("No space left on device: there are ")]
    assert len(needs) == (1 if is_saved else 2)
    assert all(free // 2 < int(re.findall(r"\d+", each)[0]) < free for each in needs)
    assert "leaving out more pages: -d 31" in said
    assert said[-1] == "rebooting"
    (dump,) = copied(disk, "/crash", tmp_path / "copy").iterdir()
    names = sorted(each.name for each in dump.iterdir())
    partial = "vmcore" if is_saved else "vmcore-incomplete"
    assert names == sorted(["kexec-dmesg.log", partial, "vmcore-dmesg.txt"])
    assert "sysrq: Trigger a crash" in (dump / "vmcore-dmesg.txt").read_text(errors="replace")
    assert needs[-1] in (dump / "kexec-dmesg.log").read_text(errors="replace")
    cause = diagnosis.diagnose(diagnosis.parse(crash.console)).cause
    assert is_saved or cause == "the target has no space left for the dump"
    assert not is_saved or "sysrq: Trigger a crash" in dmesg(dump / partial)


@jobs.FURTHER
def test_a_btrfs_on_two_disks(tmp_path: Path) -> None:
    """Neither of which the kernel mounts without being told of the other."""
    disks = (tmp_path / "one", tmp_path / "two")
    for disk in disks:
        subprocess.run(["truncate", "-s", "256M", disk], check=True)
    make: list[str | Path] = ["mkfs.btrfs", "-q", "-L", "dumps", "-d", "raid1", "-m", "raid1", *disks]
    subprocess.run(make, check=True)
    kdump = Kdump(
        tmp_path, kernel_6_1(), conf="btrfs LABEL=dumps\npath /crash", disks=disks, modules=("btrfs",)
    )
    crash = kdump.crash()
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    for disk in disks:
        copy = tmp_path / f"{disk.name}-copy"
        copy.mkdir()
        subprocess.run(["btrfs", "restore", disk, copy], check=True, capture_output=True)
        (dump,) = (copy / "crash").iterdir()
        assert (dump / "vmcore").exists()


def _time_zone(hours: int) -> bytes:
    """A file of tzfile(5) with one kind of local time, and no change of it."""
    header = struct.pack(">4sc15x6l", b"TZif", b"\0", 0, 0, 0, 0, 1, 4)
    return header + struct.pack(">lBB4s", hours * 3600, 0, 0, b"LAB\0")


def test_a_bare_partition(tmp_path: Path) -> None:
    """The dump is written as a stream, to the partition and nowhere else; the next start takes it over."""
    disk = tmp_path / "dumps"
    start = partitioned(disk, 3, sectors=200 << 11)
    before = disk.read_bytes()[:start]
    kdump = Kdump(tmp_path, kernel_6_1(), conf="raw /dev/vdb3", disks=(disk,))
    kdump.crash(command=TEST)
    assert disk.read_bytes()[:start] == before
    flat = tmp_path / "flat"
    flat.write_bytes(disk.read_bytes()[start:])
    whole, log = tmp_path / "vmcore", tmp_path / "log"
    with flat.open("rb") as stream:
        subprocess.run(["makedumpfile", "-R", whole], stdin=stream, check=True, capture_output=True)
    subprocess.run(["makedumpfile", "--dump-dmesg", whole, log], check=True, capture_output=True)
    assert "sysrq: Trigger a crash" in log.read_text(errors="replace")
    job = 'pykdump start\npykdump status > "$OUT/state"\ncat /var/crash/*/vmcore-dmesg.txt > "$OUT/log"\n'
    stage = kdump.next_boot(f'{job}cp /var/crash/*/vmcore "$OUT/vmcore"').stage("first")
    assert stage.read("state").startswith("armed:    yes, and proven")
    assert stage.read("log") == log.read_text(errors="replace")
    assert (stage.folder / "vmcore").read_bytes() == whole.read_bytes()
    assert disk.read_bytes()[start : start + SECTOR] == bytes(SECTOR)


_LVM_PACKAGES = (
    "dmsetup", "libaio1", "libblkid1", "libbsd0", "libcap2", "libdevmapper-event1.02.1", "libedit2",
    "libdevmapper1.02.1", "libgcrypt20", "libgpg-error0", "liblz4-1", "libmd0", "libpcre2-8-0",
    "libselinux1", "libsystemd0", "libtinfo6", "libudev1", "lvm2", "mdadm",
)  # fmt: skip
_WITHOUT_UDEV = b"activation { udev_sync=0 udev_rules=0 }\ndevices { obtain_device_list_from_udev=0 }\n"
_MAKE_VOLUME = """
modprobe raid1; modprobe dm_mod
mkdir -p /run/lock/lvm /d
mdadm --create /dev/md0 --run --level 1 --raid-devices 2 --assume-clean /dev/vdb /dev/vdc
lvm pvcreate /dev/md0
lvm vgcreate my-group /dev/md0
lvm lvcreate -n the-volume -L 200M my-group
mke2fs /dev/dm-0
mount -t ext2 /dev/dm-0 /d
"""


def _with_two_disks(folder: Path, conf: str, *modules: str) -> Kdump:
    disks = (folder / "one", folder / "two")
    for disk in disks:
        subprocess.run(["truncate", "-s", "256M", disk], check=True)
    return Kdump(
        folder,
        kernel_6_1(),
        conf=conf,
        disks=disks,
        modules=modules,
        packages=_LVM_PACKAGES,
        files={"/etc/lvm/lvm.conf": _WITHOUT_UDEV},
    )


@pytest.mark.parametrize("disks", [jobs.further(2, id="2"), 1])
def test_a_volume_on_an_array(disks: int, tmp_path: Path) -> None:
    """LVM on RAID 1: all of it, and with a disk that is gone when the machine crashes."""
    kdump = _with_two_disks(tmp_path, "path /d/crash\nfailure_action poweroff", "raid1", "dm_mod")
    # The array's description is overwritten behind its back, once the array has no reason to write it again:
    # it does so when writes begin, and safe_mode_delay (0.2 s) after the last.
    lose = "sync; sleep 2; dd if=/dev/zero of=/dev/vdc bs=1M count=1 conv=fsync;" if disks == 1 else ""
    crash = kdump.crash(_MAKE_VOLUME, command=f"{lose} {PANIC}")
    said = messages(crash.console)
    assert any(line.startswith("putting together md:") for line in said)
    assert f"active with {disks} out of 2 mirrors" in crash.console
    assert "putting together lvm:my-group/the-volume" in said
    assert said[-2:] == ["saving vmcore complete", "rebooting"]
    disk = kdump.disks[0]
    (dump,) = copied(Path(f"{disk}?offset={_file_system(disk)}"), "/crash", tmp_path / "copy").iterdir()
    assert (dump / "vmcore").exists()


# IMSM has the disks' serial numbers in it, and is made here as if a controller of the firmware's allowed it.
_MAKE_CONTAINER = """
modprobe virtio_scsi; modprobe sd_mod; modprobe raid1
for _ in $(seq 50); do [ -b /dev/sdb ] && break; sleep 0.1; done
mkdir -p /run/mdadm /d
export IMSM_NO_PLATFORM=1
mdadm --create /dev/md127 --run --metadata KIND --raid-devices 2 /dev/sda /dev/sdb
mdadm --create /dev/md126 --run --level 1 --raid-devices 2 --assume-clean /dev/md127
unset IMSM_NO_PLATFORM
mke2fs -q /dev/md126
mount -t ext2 /dev/md126 /d
"""


def _with_scsi_disks(folder: Path, names: Sequence[str], *modules: str) -> Kdump:
    devices = ["-device", "virtio-scsi-pci,id=card"]
    for name in names:
        subprocess.run(["truncate", "-s", "256M", folder / name], check=True)
        devices += ["-drive", f"file={folder / name},format=raw,if=none,id={name}"]
        devices += ["-device", f"scsi-hd,bus=card.0,drive={name},serial=SERIAL-{name}"]
    return Kdump(
        folder,
        kernel_6_1(),
        conf="path /d/crash\nfailure_action poweroff",
        modules=("virtio_scsi", "sd_mod", *modules),
        packages=_LVM_PACKAGES,
        devices=tuple(devices),
    )


@pytest.mark.parametrize("kind", [jobs.further(each, id=each) for each in ("ddf", "imsm")])
def test_an_array_of_the_firmware_s(kind: str, tmp_path: Path) -> None:
    """A container, and an array in it: metadata that a program writes, in the capture system, too."""
    kdump = _with_scsi_disks(tmp_path, ("one", "two"), "raid1")
    crash = kdump.crash(_MAKE_CONTAINER.replace("KIND", kind))
    said = messages(crash.console)
    assert any(line.startswith("putting together container:") for line in said)
    assert said[-2:] == ["saving vmcore complete", "rebooting"]
    for name in ("one", "two"):
        (dump,) = copied(tmp_path / name, "/crash", tmp_path / f"copy-{name}").iterdir()
        assert "sysrq: Trigger a crash" in dmesg(dump / "vmcore")


_MAKE_RAID5 = """
modprobe virtio_scsi; modprobe sd_mod; modprobe raid456
for _ in $(seq 50); do [ -b /dev/sdd ] && break; sleep 0.1; done
mkdir /d
mdadm --create /dev/md0 --run --level 5 --raid-devices 3 --assume-clean --write-journal /dev/sdd /dev/sd[abc]
mke2fs -q /dev/md0
mount -t ext2 /dev/md0 /d
"""


@jobs.FURTHER
def test_an_array_with_a_journal(tmp_path: Path) -> None:
    """RAID 5, which has no hole after a crash: what is written goes to a disk of its own first."""
    kdump = _with_scsi_disks(tmp_path, ("one", "two", "three", "journal"), "raid456")
    crash = kdump.crash(_MAKE_RAID5, armed='cat /sys/block/md0/md/consistency_policy > "$OUT/policy"')
    assert crash.stage("first").read("policy") == "journal\n"
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]


def _file_system(disk: Path) -> int:
    """Where an ext2 file system begins on a disk; what lies below it aligns it to 64 KiB or more.

    fs/ext2/ext2.h: the superblock is 1024 bytes behind the beginning, and has its magic number at 56.
    """
    with disk.open("rb") as file:
        for at in range(0, disk.stat().st_size, 64 << 10):
            file.seek(at + 1024 + 56)
            if file.read(2) == b"\x53\xef":
                return at
    raise AssertionError(f"no ext2 file system on {disk}")


_MAKE_GROUP = """
mkdir -p /run/lock/lvm /d
lvm pvcreate /dev/vdb /dev/vdc
lvm vgcreate group /dev/vdb /dev/vdc
"""
_MIRROR = "lvm lvcreate --type raid1 --mirrors 1 --nosync -n volume -L 200M group"
# Without thin_check; nobody reads the pool's metadata in the capture system either.
_THIN = """
lvm lvcreate --type thin-pool -L 200M -n pool group
lvm lvcreate --thin -V 300M -n volume group/pool
"""
# In which what is written stays at first.
_CACHE = """
lvm lvcreate -n volume -L 200M group /dev/vdb
lvm lvcreate --type cache-pool -L 100M -n pool group /dev/vdc
lvm lvconvert --yes --type cache --cachemode writeback --cachepool group/pool group/volume
"""


@pytest.mark.parametrize(
    ("modules", "make"),
    [
        jobs.further(("dm_raid", "raid1"), _MIRROR, id="mirror"),
        jobs.further(("dm_thin_pool",), _THIN, id="thin"),
        jobs.further(("dm_cache", "dm_cache_smq"), _CACHE, id="cache"),
    ],
)
def test_a_volume_of_volumes(modules: Sequence[str], make: str, tmp_path: Path) -> None:
    """LVM's own RAID 1, whose module the kernel asks for by name, and nobody answers; thin; with a cache."""
    kdump = _with_two_disks(tmp_path, "path /d/crash", "dm_mod", *modules)
    load = "".join(f"modprobe {each}\n" for each in modules)
    mount = "mke2fs /dev/mapper/group-volume\nmount -t ext2 /dev/mapper/group-volume /d"
    crash = kdump.crash(f"{load}{_MAKE_GROUP}{make}\n{mount}", command=PANIC)
    said = messages(crash.console)
    assert "putting together lvm:group/volume" in said
    assert said[-2:] == ["saving vmcore complete", "rebooting"]


# One disk behind two controllers, with one serial number.
_TWO_PATHS = """
modprobe virtio_scsi; modprobe sd_mod; modprobe dm_multipath; modprobe dm_service_time
for _ in $(seq 50); do [ -b /dev/sdb ] && break; sleep 0.1; done
# As multipathd makes it, which finds nothing without udev.
dmsetup create mpatha --noudevsync --uuid mpath-0QEMU_QEMU_HARDDISK_LUN1 --table \
    "0 $(cat /sys/block/sda/size) multipath 1 queue_if_no_path 0 1 1 service-time 0 2 1 8:0 1 8:16 1"
"""
_ON_THE_MAP = """
mkdir /d
mke2fs /dev/dm-0
mount -t ext2 /dev/dm-0 /d
"""
# kpartx(8) names a partition so.
_ON_ITS_PARTITION = """
mkdir /d
dmsetup create mpatha-part1 --noudevsync --uuid part1-mpath-0QEMU_QEMU_HARDDISK_LUN1 \
    --table "0 409600 linear /dev/dm-0 4096"
mke2fs /dev/dm-1
mount -t ext2 /dev/dm-1 /d
"""
_CUT_BEFORE = "echo 1 > /sys/block/sdb/device/delete"
_CUT_DURING = """(
while ! ls /mnt/crash/*/vmcore-incomplete; do usleep 20000; done
echo offline > /sys/block/sda/device/state
) > /dev/null 2>&1 &
"""


@pytest.mark.parametrize(
    ("cut", "make", "left", "at"),
    [
        pytest.param(_CUT_DURING, _ON_THE_MAP, "8:0 F 1 .* 8:16 A 0", 0, id="during"),
        jobs.further(_CUT_BEFORE, _ON_ITS_PARTITION, "8:0 A 0", 4096, id="before"),
    ],
)
def test_a_path_that_is_cut(cut: str, make: str, left: str, at: int, tmp_path: Path) -> None:
    """A file system on a multipath map, and on a partition of one; the other path brings the dump there."""
    disk = tmp_path / "lun"
    subprocess.run(["truncate", "-s", "256M", disk], check=True)
    drive = f"file.driver=file,file.filename={disk},file.locking=off,driver=raw,cache.direct=off"
    devices = ["-blockdev", f"{drive},node-name=lun"]
    for number in range(2):
        devices += ["-device", f"virtio-scsi-pci,id=path{number}"]
        devices += ["-device", f"scsi-hd,bus=path{number}.0,drive=lun,serial=LUN1,share-rw=on"]
    kdump = Kdump(
        tmp_path,
        kernel_6_1(),
        conf="path /d/crash\nkdump_pre /cut\nkdump_post /look\nfailure_action poweroff",
        modules=("virtio_scsi", "sd_mod", "dm_multipath", "dm_service_time"),
        packages=_LVM_PACKAGES,
        devices=tuple(devices),
        files={"/cut": script(cut), "/look": script("dmsetup status --target multipath")},
    )
    crash = kdump.crash(f"chmod 755 /cut /look\n{_TWO_PATHS}{make}")
    said = messages(crash.console)
    assert "saving vmcore complete" in said
    assert said[-1] == "rebooting"
    assert re.search(f"^pykdump-1: .* {left}", crash.console, re.M)
    (dump,) = copied(Path(f"{disk}?offset={at * SECTOR}"), "/crash", tmp_path / "copy").iterdir()
    assert (dump / "vmcore").exists()


_CRYPT_PACKAGES = (
    "cryptsetup-bin", "dmsetup", "libargon2-1", "libblkid1", "libcryptsetup12", "libdevmapper1.02.1",
    "libjson-c5", "libpcre2-8-0", "libpopt0", "libselinux1", "libssl3", "libudev1", "libuuid1",
)  # fmt: skip
_CRYPT_MODULES = ("dm_crypt", "xts", "ecb", "algif_skcipher")
_UNLOCK = f"""
for each in {" ".join(_CRYPT_MODULES)}; do modprobe $each; done
export DM_DISABLE_UDEV=1
mkdir -p /d /run/cryptsetup
printf secret > /passphrase
"""
_MAKE_LUKS = f"""{_UNLOCK}
cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/vdb /passphrase
cryptsetup open --key-file /passphrase /dev/vdb dumps
mke2fs -q /dev/mapper/dumps
mount -t ext2 /dev/mapper/dumps /d
! pykdump start 2> "$OUT/not-allowed"
echo PYKDUMP_HAND_OVER_KEYS=yes >> /etc/sysconfig/kdump
! pykdump start 2> "$OUT/in-the-keyring"
cryptsetup refresh --disable-keyring --key-file /passphrase dumps
"""
_WHAT_SAYS_IT = """
dmsetup table --showkeys dumps | cut -d " " -f 5 > "$OUT/key"
pykdump status > "$OUT/state"
pykdump doctor > "$OUT/doctor" || true
cat /run/pykdump/*.json > "$OUT/receipt"
gzip -dc /var/lib/pykdump/*.img > "$OUT/image"
"""


@jobs.FURTHER
def test_an_encrypted_volume(tmp_path: Path) -> None:
    """Its key is in memory alone, once the configuration allows it and the volume's table has it."""
    disk = tmp_path / "luks"
    subprocess.run(["truncate", "-s", "256M", disk], check=True)
    kdump = Kdump(
        tmp_path,
        kernel_6_1(),
        conf="path /d/crash",
        disks=(disk,),
        modules=_CRYPT_MODULES,
        packages=_CRYPT_PACKAGES,
    )
    crash = kdump.crash(_MAKE_LUKS, armed=_WHAT_SAYS_IT)
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    first = crash.stage("first")
    assert "PYKDUMP_HAND_OVER_KEYS=yes" in first.read("not-allowed")
    assert "cryptsetup refresh --disable-keyring dumps" in first.read("in-the-keyring")
    assert "encrypted, with its key in the image in memory" in " ".join(first.read("state").split())
    key = first.read("key").strip()
    assert len(key) == 128
    for name in ("state", "doctor", "receipt", "image"):
        content = (first.folder / name).read_bytes()
        assert key.encode() not in content
        assert bytes.fromhex(key) not in content
    assert key not in crash.console
    look = "cryptsetup open --key-file /passphrase /dev/vdb dumps\nmount -t ext2 /dev/mapper/dumps /d"
    stage = kdump.next_boot(f'{_UNLOCK}\n{look}\ncp /d/crash/*/vmcore-dmesg.txt "$OUT/dmesg"').stage("first")
    assert "sysrq: Trigger a crash" in stage.read("dmesg")


_KEYS = "/sys/kernel/config/crash_dm_crypt_keys"
_MAKE_LUKS_FOR_THE_KERNEL = f"""{_UNLOCK}
cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/vdb /passphrase
cryptsetup open --key-file /passphrase /dev/vdb dumps
mke2fs -q /dev/mapper/dumps
mount -t ext2 /dev/mapper/dumps /d
! pykdump start 2> "$OUT/not-offered"
mount -t configfs configfs /sys/kernel/config
! pykdump start 2> "$OUT/no-key"
name=cryptsetup:$(cryptsetup luksUUID /dev/vdb)
# As `cryptsetup open --link-vk-to-keyring` does it from 2.7 on.
cryptsetup luksDump -q --dump-volume-key --volume-key-file /key --key-file /passphrase /dev/vdb
keyctl padd logon "$name" @u < /key
"""
# From a session that has none of the user's keys, and from one of a user who has them no longer.
_LOAD_AGAIN = f"""
mkdir {_KEYS}/theirs
! pykdump start 2> "$OUT/theirs"
rmdir {_KEYS}/theirs
keyctl session - pykdump start > "$OUT/session" 2>&1
keyctl clear @u
! keyctl search @u logon "$name" 2> "$OUT/search"
pykdump start > "$OUT/reused" 2>&1
cat {_KEYS}/count {_KEYS}/reuse > "$OUT/keys"
cp /key "$OUT/key"
pykdump status > "$OUT/state"
pykdump status --json > "$OUT/json"
pykdump doctor > "$OUT/doctor" || true
cat /run/pykdump/*.json > "$OUT/receipt"
gzip -dc /var/lib/pykdump/*.img > "$OUT/image"
dmesg > "$OUT/log"
"""


@jobs.FURTHER
def test_an_encrypted_volume_whose_key_the_kernel_hands_over(tmp_path: Path) -> None:
    """No program has it, and nothing allows that one does; what has left the keyring stays loaded."""
    disk = tmp_path / "luks"
    subprocess.run(["truncate", "-s", "256M", disk], check=True)
    kdump = Kdump(
        tmp_path,
        Kernel.get("7.2-dmcrypt", X86_64),
        conf="path /d/crash",
        disks=(disk,),
        modules=_CRYPT_MODULES,
        packages=(*_CRYPT_PACKAGES, "keyutils", "libkeyutils1"),
    )
    crash = kdump.crash(_MAKE_LUKS_FOR_THE_KERNEL, armed=_LOAD_AGAIN)
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    first = crash.stage("first")
    assert "PYKDUMP_HAND_OVER_KEYS=yes" in first.read("not-offered")
    assert "--link-vk-to-keyring" in first.read("no-key")
    assert first.read("keys") == "1\n0\n"
    assert f"rmdir {_KEYS}/theirs" in first.read("theirs")
    assert "encrypted, with its key handed over by the kernel" in " ".join(first.read("state").split())
    key = (first.folder / "key").read_bytes()
    assert len(key) == 64
    for name in ("session", "reused", "state", "json", "doctor", "receipt", "image", "log"):
        content = (first.folder / name).read_bytes()
        assert key.hex().encode() not in content
        assert key not in content
    assert key.hex() not in crash.console
    look = "cryptsetup open --key-file /passphrase /dev/vdb dumps\nmount -t ext2 /dev/mapper/dumps /d"
    stage = kdump.next_boot(f'{_UNLOCK}\n{look}\ncp /d/crash/*/vmcore-dmesg.txt "$OUT/dmesg"').stage("first")
    assert "sysrq: Trigger a crash" in stage.read("dmesg")


# As Debian and openSUSE ship them, less their comments, and with a limit on old dumps.
_DEBIAN = """
USE_KDUMP=1
KDUMP_SYSCTL="kernel.panic_on_oops=1"
KDUMP_COREDIR="/var/crash"
KDUMP_NUM_DUMPS=1
KDUMP_COMPRESSION=gzip
"""
_SUSE = """
KDUMP_KERNELVER=""
KDUMP_CPUS=1
KDUMP_COMMANDLINE=""
KDUMP_COMMANDLINE_APPEND=""
KEXEC_OPTIONS=""
MAKEDUMPFILE_OPTIONS=""
KDUMP_IMMEDIATE_REBOOT="yes"
KDUMP_TRANSFER=""
KDUMP_SAVEDIR="file:///var/crash"
KDUMP_KEEP_OLD_DUMPS=-1
KDUMP_FREE_DISK_SIZE=64
KDUMP_VERBOSE=0
KDUMP_DUMPLEVEL=31
KDUMP_DUMPFORMAT="compressed"
KDUMP_CONTINUE_ON_ERROR="true"
KDUMP_NETCONFIG="auto"
"""


@pytest.mark.parametrize(
    ("path", "text", "dump"),
    [
        jobs.further("/etc/default/kdump-tools", _DEBIAN, "vmcore.flat.gz", id="debian"),
        jobs.further("/etc/sysconfig/kdump", _SUSE, "vmcore", id="suse"),
    ],
)
def test_other_configurations(path: str, text: str, dump: str, tmp_path: Path) -> None:
    kdump = Kdump(tmp_path, kernel_6_1(), configuration={path: text})
    kdump.crash("mkdir /var/crash/127.0.0.1-2024-01-01-00:00:00", command=TEST)
    job = 'cp /proc/sys/kernel/panic_on_oops /tmp/before\npykdump start\npykdump status > "$OUT/state"'
    look = 'cat /tmp/before /proc/sys/kernel/panic_on_oops > "$OUT/oops"\nfind /var/crash > "$OUT/found"'
    stage = kdump.next_boot(f"{job}\n{look}").stage("first")
    assert stage.read("state").startswith("armed:    yes, and proven")
    names = sorted(Path(each).name for each in stage.read("found").split()[1:])
    assert set(names[1:]) == {"kexec-dmesg.log", dump, "vmcore-dmesg.txt"}
    assert names[0] != "127.0.0.1-2024-01-01-00:00:00"
    assert stage.read("oops").split() == ["0", "1" if path == "/etc/default/kdump-tools" else "0"]


# Failures


def test_a_full_disk(tmp_path: Path) -> None:
    """The log is saved, and what there is room for of the memory; the configured action follows."""
    disk = make_disk(tmp_path / "dumps", "mkfs.ext4", "16M")
    kdump = Kdump(tmp_path, kernel_6_1(), conf="ext4 /dev/vdb\nfailure_action poweroff", disks=(disk,))
    crash = kdump.crash()
    said = messages(crash.console)
    assert "saving vmcore-dmesg.txt complete" in said
    assert said[-3:] == ["saving vmcore failed", "the dump was not saved: poweroff", "powering off"]
    assert any(line.startswith("No space left on device: there are ") for line in said)
    assert "No space left on device" in crash.console
    assert _diagnosis(crash.console) == "S3"
    (dump,) = copied(disk, "/var/crash", tmp_path / "copy").iterdir()
    assert "sysrq: Trigger a crash" in (dump / "vmcore-dmesg.txt").read_text(errors="replace")
    assert {"vmcore-incomplete", "kexec-dmesg.log"} <= {each.name for each in dump.iterdir()}


def test_a_target_that_is_gone(tmp_path: Path) -> None:
    """failure_action dump_to_rootfs: the dump goes to the file system that path lies on."""
    disk = make_disk(tmp_path / "dumps", "mkfs.ext4", "64M")
    kdump = Kdump(
        tmp_path,
        kernel_6_1(),
        conf="ext4 /dev/vdb\nfailure_action dump_to_rootfs\nkdump_post /usr/bin/it's a hook",
        disks=(disk,),
        # The name of the hook is quoted on its way into the capture system.
        files={"/usr/bin/it's a hook": script("echo hook-says $1")},
    )
    hook = 'chmod 755 "/usr/bin/it\'s a hook"'
    crash = kdump.crash(hook, command=f"dd if=/dev/zero of=/dev/vdb bs=1M count=1\nsync\n{PANIC}")
    said = messages(crash.console)
    assert any("does not exist: no disk has it" in line for line in said)
    assert "the dump was not saved: dump_to_rootfs" in said
    assert "hook-says 1" in crash.console
    assert said[-2:] == ["saving vmcore complete", "rebooting"]
    assert (kdump.dump() / "vmcore").exists()


_KILL = """
while ! ls /mnt/crash/*/vmcore-incomplete; do usleep 20000; done > /dev/null 2>&1
echo the killer strikes
killall -9 makedumpfile
"""
_STARVE = """
while ! ls /mnt/crash/*/vmcore-incomplete; do usleep 20000; done > /dev/null 2>&1
echo 1000 > /proc/$(pidof makedumpfile)/oom_score_adj
tail /dev/zero
"""


def test_makedumpfile_is_killed(tmp_path: Path) -> None:
    """The log was saved before, the hook after the dump learns of the failure, and the machine reboots."""
    makedumpfile_dies(tmp_path, _KILL)


@jobs.FURTHER
def test_makedumpfile_is_starved(tmp_path: Path) -> None:
    """The same; doctor and the next boot's status say what happened."""
    kdump, crash = makedumpfile_dies(tmp_path, _STARVE)
    assert _diagnosis(crash.console) == "O4"
    job = 'chmod 755 /before /after\npykdump start\npykdump status > "$OUT/state" || true'
    stage = kdump.next_boot(job).stage("first")
    assert "the last pykdump test left no whole dump\nnext:     pykdump doctor: " in stage.read("state")


def makedumpfile_dies(folder: Path, what: str) -> tuple[Kdump, Result]:
    kdump = Kdump(
        folder,
        kernel_6_1(),
        conf="core_collector makedumpfile -c -d 1\nkdump_pre /before\nkdump_post /after",
        files={
            "/before": script(f"({what}) &"),
            "/after": script("echo after: $1; cat /sys/module/virtio_blk/parameters/*"),
            "/etc/modprobe.d/virtio.conf": b"options virtio-blk queue_depth=32\n",
        },
    )
    hooks = "chmod 755 /before /after"
    told = "sed -i 's/irqpoll/& virtio-blk.num_request_queues=1/' /etc/sysconfig/kdump"
    crash = kdump.crash(f"{hooks}\n{told}", command=TEST)
    said = messages(crash.console)
    assert said[-4:] == [
        "saving vmcore failed",
        "running /after",
        "the dump was not saved: reboot",
        "rebooting",
    ]
    assert "after: 1\n1\n" in crash.console
    assert "\n32\n" in crash.console.partition("after: 1\n")[2]
    assert "sysrq: Trigger a crash" in (kdump.dump() / "vmcore-dmesg.txt").read_text(errors="replace")
    return kdump, crash


@jobs.FURTHER
def test_a_watchdog_that_runs(tmp_path: Path) -> None:
    """It would reset the machine long before the dump is there; -no-reboot makes that the end of it."""
    kdump = Kdump(
        tmp_path,
        Kernel.get("6.12", X86_64),  # Debian's 6.1 for clouds has no driver for what QEMU has
        conf="kdump_pre /before\ncore_collector makedumpfile -l -d 31 --num-threads 1",
        modules=("i6300esb",),
        packages=("libgcc-s1",),
        files={"/before": script("sleep 70")},
        devices=("-device", "i6300esb", "-action", "watchdog=reset"),
    )
    crash = kdump.crash(
        "chmod 755 /before\nmodprobe i6300esb\nbusybox watchdog -T 60 -t 5 /dev/watchdog0",
    )
    assert "keeping /dev/watchdog0 quiet" in messages(crash.console)
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]


def _diagnosis(console: str) -> str:
    return diagnosis.diagnose(diagnosis.parse(console)).finding


# What is kept


@jobs.FURTHER
def test_old_dumps_go_when_a_new_one_is_there(tmp_path: Path) -> None:
    folders = [f"127.0.0.1-2024-0{month}-01-00:00:00" for month in (1, 2, 3)]
    kdump = Kdump(tmp_path, kernel_6_1(), conf="keep_old_dumps 2\ncore_collector makedumpfile -l -d 31")
    kdump.crash("cd /var/crash\nmkdir notes " + " ".join(folders))
    names = sorted(
        Path(each).name
        for each in kdump.next_boot('find /var/crash > "$OUT/found"').stage("first").read("found").split()
        if Path(each).parent == Path("/var/crash")
    )
    assert names[:2] == folders[1:]
    assert names[3:] == ["notes"]


@jobs.FURTHER
def test_nothing_lost_by_a_configuration_that_is_wrong(tmp_path: Path) -> None:
    """What is loaded stays loaded, and an image that is there stays there."""
    kdump = Kdump(tmp_path, kernel_6_1())
    tmp_path.mkdir(exist_ok=True)
    job = """
pykdump start
sha256sum /var/lib/pykdump/*.img > "$OUT/image"
fails() { "$@" > "$OUT/$name" 2>&1; echo "$?" >> "$OUT/$name"; }
set +e
name=unknown-key; echo faliure_action shell > /etc/kdump.conf; fails pykdump restart
name=gone; echo "ext4 UUID=1234" > /etc/kdump.conf; fails pykdump restart
echo > /etc/kdump.conf
name=arguments; echo "KEXEC_ARGS=--frobnicate" > /etc/sysconfig/kdump; fails pykdump restart
name=unload; echo "KEXEC_ARGS=-u" > /etc/sysconfig/kdump; fails pykdump restart
sha256sum -c "$OUT/image"
cat /sys/kernel/kexec_crash_loaded > "$OUT/loaded"
name=stop; fails pykdump stop
name=state; fails pykdump status
"""
    make_disk(kdump.disk, "mkfs.ext4", "100M")
    stage = kdump.next_boot(job).stage("first")
    first = {name: stage.read(name).splitlines() for name in ("unknown-key", "gone", "arguments", "unload")}
    assert first["unknown-key"][0] == "pykdump: /etc/kdump.conf:1: unknown key 'faliure_action'"
    assert first["gone"][0] == "pykdump: no block device has the UUID=1234 of the dump target"
    assert "KEXEC_ARGS (KEXEC_OPTIONS) '--frobnicate'" in first["arguments"][0]
    assert "KEXEC_ARGS (KEXEC_OPTIONS) '-u'" in first["unload"][0]
    assert all(len(lines) == 3 and lines[2] == "1" for lines in first.values()), first
    assert stage.read("loaded").strip() == "1"
    assert stage.read("stop").splitlines()[-1] == "0"
    assert stage.read("state").splitlines()[-1] == "3"


def test_reload_when_something_has_changed(tmp_path: Path) -> None:
    kdump = Kdump(tmp_path, kernel_6_1())
    make_disk(kdump.disk, "mkfs.ext4", "100M")
    job = """
pykdump reload > "$OUT/first"
cp /run/pykdump/*.json "$OUT"
pykdump reload > "$OUT/same"
cp /etc/kdump.conf /tmp/kdump.conf
echo faliure_action shell > /etc/kdump.conf
! pykdump restart 2> "$OUT/wrong"
cat /sys/kernel/kexec_crash_loaded > "$OUT/still-loaded"
cp /tmp/kdump.conf /etc/kdump.conf
echo "core_collector makedumpfile -c -d 31" > /etc/kdump.conf
pykdump reload > "$OUT/image"
sed -i 's/panic=10/panic=11/' /etc/sysconfig/kdump
pykdump reload > "$OUT/line"
pykexec -p -u
ls /run/pykdump > "$OUT/left"
"""
    stage = kdump.next_boot(job).stage("first")
    changed = {name: stage.read(name).splitlines()[0] for name in ("first", "same", "image", "line")}
    assert changed == {
        "first": "pykdump: changed: nothing was loaded",
        "same": "pykdump: nothing has changed",
        "image": "pykdump: changed: the capture image",
        "line": "pykdump: changed: the command line",
    }
    assert "unknown key 'faliure_action'" in stage.read("wrong")
    assert stage.read("still-loaded") == "1\n"
    assert "loaded.json" not in stage.read("left").split()
    receipt, plan = (json.loads(stage.read(name)) for name in ("loaded.json", "plan.json"))
    assert (plan["system_call"], plan["kernel"], plan["initrd"], plan["command_line"]) == (
        receipt["system_call"], receipt["kernel"], receipt["initrd"], receipt["command_line"],
    )  # fmt: skip


@jobs.FURTHER
def test_what_is_in_an_image(tmp_path: Path) -> None:
    """What is listed is there; the same configuration makes the same image."""
    tool, hook = "/usr/bin/tool", "/etc/kdump/pre.d/hook"
    files = {tool: b"#!/usr/bin/awk -f\n", hook: script("")}
    kdump = Kdump(tmp_path, kernel_6_1(), modules=("xfs",), files=files)
    make_disk(kdump.disk, "mkfs.ext4", "100M")
    job = """
ln -s /bin/busybox /usr/bin/awk
printf 'extra_bins /usr/bin/tool\nextra_modules xfs\n' > /etc/kdump.conf
chmod 755 /usr/bin/tool /etc/kdump/pre.d/*
pykdump mkinitrd --list > "$OUT/list"
pykdump mkinitrd --output "$OUT/output" > "$OUT/made"
pykdump mkinitrd > /dev/null
cmp "$OUT/output" /var/lib/pykdump/*.img
"""
    stage = kdump.next_boot(job).stage("first")
    listed = stage.read("list").split()
    # The interpreter of a script comes with it.
    assert {tool, hook, "/usr/bin/awk", "/lib/modules/xfs.ko", "/init", "/etc/pykdump.conf"} <= set(listed)
    archive = gzip.decompress((stage.folder / "output").read_bytes())
    held = subprocess.run(["cpio", "-t", "--quiet"], input=archive, capture_output=True, check=True).stdout
    assert set(listed) <= {f"/{name}" for name in held.decode().split()}


@pytest.mark.parametrize(
    ("version", "told"),
    [
        jobs.further("6.1", "changed: memory or CPUs", id="6.1"),
        jobs.further("6.12", "nothing has changed", id="6.12"),
    ],
)
def test_memory_that_the_kernel_follows_itself(version: str, told: str, tmp_path: Path) -> None:
    """Since 6.6 it says that it does, if what is loaded lets it; by either system call that is so."""
    kdump = Kdump(tmp_path, Kernel.get(version, X86_64))
    make_disk(kdump.disk, "mkfs.ext4", "100M")
    job = """
sed '/^00100000-/s/.fff : System RAM/0fff : System RAM/' /proc/iomem > /tmp/less
test "$(cmp /tmp/less /proc/iomem | wc -l)" = 1
for call in s c; do
    sed -i "s/^KEXEC_ARGS=.*/KEXEC_ARGS=-$call/" /etc/sysconfig/kdump
    pykdump start
    cat /sys/devices/system/*/crash_hotplug > "$OUT/says-$call" || true
    mount --bind /tmp/less /proc/iomem
    pykdump reload | head -n 1 > "$OUT/told-$call"
    umount /proc/iomem
done
"""
    stage = kdump.next_boot(job).stage("first")
    for call in "sc":
        assert stage.read(f"told-{call}") == f"pykdump: {told}\n"
        assert stage.read(f"says-{call}").split() == ([] if version == "6.1" else ["1", "1"])


# Servers

_NETWORK = f"""
modprobe virtio_net
ip link set eth0 up
ip address add {servers.GUEST} dev eth0
"""
SSH_PACKAGES = (
    "libcom-err2", "libgssapi-krb5-2", "libk5crypto3", "libkeyutils1", "libkrb5-3", "libkrb5support0",
    "libpcre2-8-0", "libselinux1", "openssh-client",
)  # fmt: skip


def _to_ssh(tmp_path: Path, keys: servers.Ssh, server: servers.Ssh, conf: str) -> Kdump:
    """A machine that knows the key of one server, and finds another one, or the same."""
    return Kdump(
        tmp_path,
        kernel_6_1(),
        conf=f"ssh root@{servers.ADDRESS}\nsshkey /root/key\n{conf}",
        modules=("virtio_net",),
        packages=SSH_PACKAGES,
        devices=servers.network(22, server.program),
        files={
            "/root/key": (keys.folder / "client").read_bytes(),
            "/root/.ssh/known_hosts": keys.known_hosts,
        },
    )


def test_a_dump_over_ssh(tmp_path: Path) -> None:
    """A folder with a blank and a quote in its name; the server keeps what makedumpfile streams."""
    ssh = servers.Ssh.make(tmp_path / "ssh")
    folder = tmp_path / "the dumps' place"
    kdump = _to_ssh(tmp_path, ssh, ssh, f"path {folder}")
    crash = kdump.crash(_NETWORK)
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    (dump,) = folder.glob("10.0.2.15-*")
    names = ["kexec-dmesg.log", "vmcore-dmesg.txt", "vmcore.flat"]
    assert sorted(each.name for each in dump.iterdir()) == names
    assert "sysrq: Trigger a crash" in (dump / "vmcore-dmesg.txt").read_text(errors="replace")
    with (dump / "vmcore.flat").open("rb") as stream:
        command: list[str | Path] = ["makedumpfile", "-R", tmp_path / "vmcore"]
        subprocess.run(command, stdin=stream, check=True, capture_output=True)


@jobs.FURTHER
def test_a_dump_over_ssh_is_looked_for_by_people(tmp_path: Path) -> None:
    """The next boot cannot tell whether the test's dump came there."""
    ssh = servers.Ssh.make(tmp_path / "ssh")
    kdump = _to_ssh(tmp_path, ssh, ssh, f"path {tmp_path}/dumps")
    kdump.crash(_NETWORK, command=TEST)
    job = f'{_NETWORK}\npykdump start\npykdump status > "$OUT/state"\npykdump test --passed\n'
    stage = kdump.next_boot(f'{job}pykdump status > "$OUT/passed"').stage("first")
    assert "yes, but unproven: the last test's dump cannot be seen from here" in stage.read("state")
    assert "next:     pykdump test --passed: " in stage.read("state")
    assert stage.read("passed").startswith("armed:    yes, and proven")


@jobs.FURTHER
def test_an_ssh_server_that_is_another_one(tmp_path: Path) -> None:
    """Its key has changed since: nothing is given to it."""
    ssh, other = servers.Ssh.make(tmp_path / "ssh"), servers.Ssh.make(tmp_path / "other")
    conf = f"path {tmp_path}/dumps\nfailure_action poweroff"
    crash = _to_ssh(tmp_path, ssh, other, conf).crash(_NETWORK)
    assert "Host key verification failed" in crash.console
    assert messages(crash.console)[-2:] == ["the dump was not saved: poweroff", "powering off"]
    assert _diagnosis(crash.console) == "S1"
    assert not (tmp_path / "dumps").exists()


def test_a_dump_over_nfs(tmp_path: Path) -> None:
    # The server gives out handles of files, which not every file system has.
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as export,
        servers.nfs(tmp_path / "nfs", Path(export)) as port,
    ):
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            conf=f"nfs {servers.ADDRESS}:/export\npath from/here",
            modules=("virtio_net", "nfs", "nfsv4"),
            devices=servers.network(2049, servers.to_local(port)),
        )
        crash = kdump.crash(_NETWORK)
        assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
        (dump,) = Path(export, "from/here").glob("10.0.2.15-*")
        names = sorted(each.name for each in dump.iterdir())
        assert names == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
        command: list[str | Path] = ["makedumpfile", "--dump-dmesg", dump / "vmcore", tmp_path / "log"]
        subprocess.run(command, check=True, capture_output=True)
    assert "sysrq: Trigger a crash" in (tmp_path / "log").read_text(errors="replace")


@pytest.mark.parametrize(
    ("arch", "kind"), [jobs.further(X86_64, "virtiofs", id="virtiofs"), jobs.further(PPC64LE, "9p", id="9p")]
)
def test_a_folder_that_the_host_shares(arch: Arch, kind: str, tmp_path: Path) -> None:
    """Of Debian's kernels those for clouds have no 9P."""
    shared = tmp_path / "shared"
    shared.mkdir()
    modules = {"virtiofs": ("virtiofs",), "9p": ("9p", "9pnet_virtio")}[kind]
    load = "".join(f"modprobe {each}\n" for each in modules)
    mount = {"virtiofs": "", "9p": "-o trans=virtio,version=9p2000.L"}[kind]
    with servers.shared(kind, tmp_path / "socket", shared) as devices:
        kdump = Kdump(
            tmp_path, Kernel.get("6.1", arch), conf="path /d/crash", modules=modules, devices=devices
        )
        crash = kdump.crash(f"{load}mkdir /d\nmount -t {kind} {mount} dumps /d")
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    (dump,) = (shared / "crash").iterdir()
    assert sorted(each.name for each in dump.iterdir()) == ["kexec-dmesg.log", "vmcore", "vmcore-dmesg.txt"]
    assert "sysrq: Trigger a crash" in dmesg(dump / "vmcore")


@jobs.FURTHER
def test_a_disk_that_a_server_has_by_nvme(tmp_path: Path) -> None:
    disk, name = make_disk(tmp_path / "remote", "mkfs.ext4", "256M"), "nqn.2026-01.lab:dump"
    connect = f"""{_NETWORK}
modprobe nvme_tcp
echo "transport=tcp,traddr={servers.ADDRESS},trsvcid=4420,nqn={name}" > /dev/nvme-fabrics
for _ in $(seq 50); do [ -b /dev/nvme0n1 ] && break; sleep 0.1; done
mkdir /d
mount -t ext4 /dev/nvme0n1 /d
"""
    with nvme_target.serve(disk, name) as port:
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            conf="path /d/crash",
            modules=("virtio_net", "nvme_tcp"),
            devices=servers.network(4420, servers.to_local(port)),
        )
        crash = kdump.crash(connect)
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    (dump,) = copied(disk, "/crash", tmp_path / "copy").glob("127.0.0.1-*")
    assert "sysrq: Trigger a crash" in dmesg(dump / "vmcore")


ISCSI_PACKAGES = (
    "libblkid1", "libisns0", "libkmod2", "liblzma5", "libmount1", "libopeniscsiusr", "libpcre2-8-0",
    "libselinux1", "libssl3", "libsystemd0", "libuuid1", "libzstd1", "open-iscsi",
)  # fmt: skip


@jobs.FURTHER
def test_a_disk_that_a_server_has_by_iscsi(tmp_path: Path) -> None:
    """With CHAP: the secret is the running session's, and nothing but the image has it."""
    disk, name = make_disk(tmp_path / "remote", "mkfs.ext4", "256M"), "iqn.2026-01.lab:dump"
    user, secret = "a-user", "not-for-everybody"
    log_in = f"""{_NETWORK}
modprobe iscsi_tcp; modprobe sd_mod
iscsistart -i iqn.2026-01.lab:guest -t {name} -g 1 -a {servers.ADDRESS} -p 3260 -u {user} -w {secret}
for _ in $(seq 50); do [ -b /dev/sda ] && break; sleep 0.1; done
mkdir /d
mount -t ext4 /dev/sda /d
"""
    armed = 'cat /run/pykdump/*.json > "$OUT/receipt"; stat -c %a /var/lib/pykdump/*.img > "$OUT/mode"'
    with servers.iscsi(tmp_path / "tgt", disk, name, user, secret) as port:
        kdump = Kdump(
            tmp_path,
            kernel_6_1(),
            conf="path /d/crash",
            modules=("virtio_net", "iscsi_tcp", "sd_mod"),
            packages=ISCSI_PACKAGES,
            devices=servers.network(3260, servers.to_local(port)),
        )
        crash = kdump.crash(log_in, armed=armed)
    assert messages(crash.console)[-2:] == ["saving vmcore complete", "rebooting"]
    first = crash.stage("first")
    assert first.read("mode") == "600\n"
    assert secret not in first.read("receipt")
    assert secret not in crash.console
    (dump,) = copied(disk, "/crash", tmp_path / "copy").glob("127.0.0.1-*")
    assert "sysrq: Trigger a crash" in dmesg(dump / "vmcore")


# What people do with a dump

# Not prog.crashed_thread(): on arm64 this version takes CPU 0's for it.
_DRGN = """
for thread in prog.threads():
    if thread.object.comm.string_() == b"python3":
        for frame in thread.stack_trace():
            print(frame.name)
"""


_TASKS = """
from drgn.helpers.linux.pid import for_each_task
for task in for_each_task(prog):
    print(task.comm.string_().decode())
"""


def _vmlinux(kdump: Kdump, suite: str) -> Path:
    """The kernel with its debugging information."""
    release = kdump.kernel.release
    file = f"usr/lib/debug/boot/vmlinux-{release}"
    return fetch_file(suite, kdump.arch.debian, f"linux-image-{release}-dbg", file)


def _tasks_by_drgn(dump: Path, vmlinux: Path) -> Sequence[str]:
    """The names of all tasks."""
    script = dump.with_name("tasks.py")
    script.write_text(_TASKS)
    command: list[str | Path] = ["drgn", "--quiet", "-c", dump, "-s", vmlinux, script]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _tasks_by_crash(dump: Path, vmlinux: Path) -> Sequence[str]:
    """What Debian 13's crash lists, without the processors' idle tasks."""
    names = ("crash", "libc6", "libgcc-s1", "libstdc++6", "libncursesw6", "libtinfo6", "liblzo2-2")
    packages = fetch(
        "trixie", "amd64", [*names, "libsnappy1v5", "libzstd1", "zlib1g", "libmpfr6", "libgmp10"]
    )
    folders = {str(path.parent) for each in packages for path in each.rglob("lib*.so.*")}
    loader = next(packages[1].rglob("ld-linux-x86-64.so.2"))
    commands = dump.with_name("ps")
    commands.write_text("ps\nquit\n")
    command: list[str | Path] = [loader, "--library-path", ":".join(sorted(folders))]
    command += [packages[0] / "usr/bin/crash", "-s", "-i", commands, vmlinux, dump]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    lines = re.findall(r"^>?\s+(\d+)\s+\d+\s+\d+\s+[0-9a-f]{16}\s.*$", done.stdout, re.M)
    return [pid for pid in lines if pid != "0"]


def _opened_by_crash_and_drgn(kdump: Kdump, dump: Path) -> None:
    """Both walk the crashed task's stack, which takes its registers, page tables and the right symbols."""
    arch, folder = kdump.arch, kdump.folder
    vmlinux = _vmlinux(kdump, "bookworm")
    (folder / "commands").write_text("bt\nquit\n")
    (folder / "stack.py").write_text(_DRGN)
    commands: dict[str, list[str | Path]] = {
        "drgn": ["drgn", "--quiet", "-c", dump, "-s", vmlinux, folder / "stack.py"],
    }
    commands["crash"] = [*_crash(arch), "-s", "-i", folder / "commands", vmlinux, dump]
    for name, command in commands.items():
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert "sysrq_handle_crash" in done.stdout, (name, done.stdout, done.stderr)
        assert "write_sysrq_trigger" in done.stdout, (name, done.stdout)


def _crash(arch: Arch) -> list[str | Path]:
    """Debian's crash, which reads the dumps of its own architecture only: arm64's is emulated."""
    if arch is X86_64:
        return ["crash"]
    names = ("crash", "libc6", "libgcc-s1", "libstdc++6", "libncursesw6", "libtinfo6", "liblzo2-2")
    packages = fetch("bookworm", arch.debian, [*names, "libsnappy1v5", "libzstd1", "zlib1g"])
    folders = {str(path.parent) for each in packages for path in each.rglob("lib*.so.*")}
    library_path = f"LD_LIBRARY_PATH={':'.join(sorted(folders))}"
    return ["qemu-aarch64-static", "-L", packages[1], "-E", library_path, packages[0] / "usr/bin/crash"]
