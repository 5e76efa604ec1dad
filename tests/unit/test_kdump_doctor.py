"""The doctor: each fault made in a tree of files is found, and in a healthy tree none is."""

import gzip
import hashlib
import json
import os
import random
import re
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pykexec import names
from pykexec.arch import for_machine
from pykexec.errors import FileError
from pykexec.kdump import cli, config, doctor, kernel_log
from pykexec.kdump.console.diagnosis import parse
from pykexec.kdump.console.rules import RULES, Rule
from pykexec.kdump.doctor import (
    Facts,
    Finding,
    HostFiles,
    Verdict,
    capture,
    collect,
    memory,
    target,
    trigger,
)
from pykexec.kdump.doctor.hostfiles import LISTING, RecordedFiles, descriptors
from pykexec.kdump.doctor.part import part_of
from pykexec.kdump.rehearsal import receipt as rehearsals
from pykexec.kdump.rehearsal.receipt import Rehearsed
from pykexec.machine import IDENTITY, Machine, iomem, kcore, sysfs
from pykexec.machine.root import Folder
from pykexec.machine.snapshot import write_snapshot
from pykexec.machine.sysfs import read_object
from pykexec.memory import GIB
from tests.support.arm64_image import FakeImage
from tests.support.bzimage import FakeBzImage
from tests.support.dtb import Blob, Tree
from tests.support.elf import executable
from tests.support.footprint import takes_at_most
from tests.support.machines import SNAPSHOTS, snapshot, unpacked, write
from tests.support.pe import portable_executable
from tests.support.schemas import require_valid
from tests.support.stopwatch import Stopwatch
from tests.support.uimage import uimage

Files = Mapping[str, str | bytes | None]

RELEASE = "6.1.0-50-cloud-amd64"
MIB = 1 << 20

CONFIG = "".join(
    f"CONFIG_{name}=y\n"
    for name in ("KEXEC_CORE", "KEXEC", "KEXEC_FILE", "CRASH_DUMP", "PROC_VMCORE", "RELOCATABLE", "RD_GZIP")
)
SYSCONFIG = (
    'KDUMP_COMMANDLINE_REMOVE="hugepages quiet swiotlb log_buf_len"\n'
    'KDUMP_COMMANDLINE_APPEND="irqpoll nr_cpus=1 reset_devices panic=10 novmcoredd"\n'
    'KEXEC_ARGS="-s"\n'
)
KERNEL = FakeBzImage(init_size=30 * MIB).build()


def archive(*sizes: int) -> bytes:
    """A newc archive of files of these sizes."""
    data = b""
    for number, size in enumerate(sizes):
        name = f"file{number}\0".encode()
        fields = [0] * 6 + [size] + [0] * 4 + [len(name), 0]
        head = b"070701" + b"".join(b"%08x" % each for each in fields) + name
        data += head + bytes(-len(head) % 4) + bytes(size) + bytes(-size % 4)
    return data


def large_initramfs() -> bytes:
    """Of 150 MiB, packed to a tenth: no bomb, which is another fault."""
    noise = random.Random(0).randbytes(15 * MIB)
    head = archive(15 * MIB, 135 * MIB)
    at = head.index(b"file0") + len(b"file0\0")
    return gzip.compress(head[:at] + noise + head[at + len(noise) :], 1)


BOOT = "5b1ae0a7-38a2-4b36-8d1f-0a4b1f4d8f3e"
INITRD = archive(4 * MIB, 2 * MIB)
# What SYSCONFIG makes of the running kernel's line: root= and crashkernel= go, as with kdumpctl.
CAPTURE_LINE = "console=ttyS0 irqpoll nr_cpus=1 reset_devices panic=10 novmcoredd"


def receipt(**changes: str) -> str:
    """As pykdump start leaves it."""
    return json.dumps(
        {
            "boot": BOOT,
            "kernel": f"/boot/vmlinuz-{RELEASE}",
            "kernel_sha256": hashlib.sha256(KERNEL).hexdigest(),
            "initrd": f"/boot/initramfs-{RELEASE}kdump.img",
            "initrd_sha256": hashlib.sha256(INITRD).hexdigest(),
            "command_line": CAPTURE_LINE,
            "target": "/dev/vdb1",
            "hardware": "",
            "inputs": "",
            "system_call": "kexec_load",
            "time": "2026-01-01T00:00:00Z",
            "version": "1",
            **changes,
        }
    )


HEALTHY: dict[str, str | bytes | None] = {
    "boot/config-" + RELEASE: CONFIG,
    "boot/vmlinuz-" + RELEASE: KERNEL,
    f"boot/initramfs-{RELEASE}kdump.img": INITRD,
    "etc/default/grub": 'GRUB_CMDLINE_LINUX="quiet crashkernel=256M"\n#crashkernel=1M\n',
    "etc/kdump.conf": "path /var/crash\ncore_collector makedumpfile -l --message-level 7 -d 31\n",
    "etc/sysconfig/kdump": SYSCONFIG,
    "etc/udev/rules.d/70-net.rules": "",
    "proc/cmdline": "console=ttyS0 root=/dev/vda1 quiet crashkernel=256M\n",
    "proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable:     800000 kB\n",
    "proc/modules": "ext4 800000 1 - Live 0x0\nvirtio_blk 32768 2 - Live 0x0\n",
    "proc/self/mounts": "/dev/vda1 / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb1 /var/crash xfs rw\n",
    "proc/self/status": "Name:\tpykdump\nCapEff:\t000001ffffffffff\n",
    "proc/sys/kernel/panic_on_oops": "1\n",
    "proc/sys/kernel/random/boot_id": f"{BOOT}\n",
    "run/pykdump/loaded.json": receipt(),
    "sys/devices/system/cpu/crash_hotplug": "1\n",
    "sys/kernel/kexec_crash_loaded": "1\n",
    "usr/sbin/makedumpfile": "",
    "usr/sbin/update-grub": "",
    "var/lib/dpkg/status": "Package: makedumpfile\nStatus: install ok installed\nVersion: 1:1.7.2-1\n\n",
    "var/lib/kdump/vmcore-creation.status": "success 1767225600\n",
    "var/lib/pykdump/proven.json": receipt(boot="another"),
    "var/log/audit/audit.log": 'type=AVC avc: denied { read } comm="other"\n',
    "var/log/dmesg": "[    0.0] crashkernel reserved: 0x20000000 - 0x30000000 (256 MB)\n",
}


def configuration(files: Files) -> str:
    """What receipts of rehearsals have of the configuration in these files."""
    with tempfile.TemporaryDirectory() as folder:
        for path in ("etc/kdump.conf", "etc/sysconfig/kdump"):
            write(Path(folder), path, files[path] or "")
        return rehearsals.configuration(config.required(Folder(folder)))


REHEARSED = Rehearsed(
    time="2026-12-01T00:40:12Z",
    kernel_sha256=hashlib.sha256(KERNEL).hexdigest(),
    initrd_sha256=hashlib.sha256(INITRD).hexdigest(),
    command_line=CAPTURE_LINE,
    configuration=configuration(HEALTHY),
    verdict=rehearsals.PASSED,
    cause="",
    reservation=256 * MIB,
    smallest=None,
    high_water=None,
    seconds=41.5,
    first_kernel=RELEASE,
)
NEWER = "6.1.0-58-cloud-amd64"


def rehearsed(release: str = RELEASE, **changes: Any) -> Files:
    """The receipt of a rehearsal, and the configuration of the kernel that was crashed."""
    found = replace(REHEARSED, first_kernel=release, **changes)
    return {
        f"var/lib/pykdump/rehearsed-{release}.json": json.dumps(asdict(found)),
        f"boot/config-{release}": CONFIG,
    }


OUT_OF_MEMORY = {"verdict": "out_of_memory", "cause": "there was too little"}
HEALTHY |= {**rehearsed(), **rehearsed(NEWER)}

CRASH = (
    "[    0.0] Linux version 6.1.0-50-cloud-amd64\n"
    "[    5.1] Kernel panic - not syncing: sysrq triggered crash\n"
    "[    5.1] CPU: 0 PID: 121 Comm: then Kdump: loaded Not tainted 6.1.0-50-cloud-amd64 #1\n"
)
SECOND = (
    CRASH
    + "[    0.0] Linux version 6.1.0-50\n[    0.0] Kernel command line: elfcorehdr=0x1a000000 nr_cpus=1\n"
)
# One for each rule
CONSOLE_LINES = [
    "pykdump: no progress for 600 seconds: ending it",
    "nvme 0000:00:01.0: probe with driver nvme failed with error -12",
    "Out of memory and no killable processes...",
    "Kernel panic - not syncing: x: Failed to allocate 8388608 bytes align=0x40",
    "nvme 0000:00:01.0: swiotlb buffer is full (sz: 327680 bytes), total 32768 (slots)",
    "Out of memory: Killed process 9 (cryptsetup)",
    "Out of memory: Killed process 9 (cp)",
    "Initramfs unpacking failed: write error",
    "Initramfs unpacking failed: junk within compressed archive",
    "Kernel panic - not syncing: Cannot find place for new RAMDISK of size 9",
    "Kernel panic - not syncing: Cannot allocate trampoline",
    "Kernel panic - not syncing: No working init found.",
    "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
    "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
    "Kernel panic - not syncing: Fatal exception",
    "device-mapper: thin: 253:2: switching pool to read-only mode",
    "No space left on device",
    "PAGE SIZE 0x1000 and VA Bits 52 not supported",
    "Can't get the address of system_utsname.",
    "Can't allocate memory for the cache.",
    "Kdump: vmcore not initialized",
    "open_dump_memory: Can't open the dump memory(/proc/vmcore). No such file or directory",
    "kworker/0:1: page allocation failure: order:5, mode:0xcc0(GFP_KERNEL)",
    "Host key verification failed.",
    "ssh: connect to host 192.0.2.1 port 22: No route to host",
    "pykdump: ssh: cannot log in to root@192.0.2.1, or not make /crash/1 there",
    "pykdump: mount.cifs: cannot mount //192.0.2.1/share",
    "pykdump: 192.0.2.1 does not answer any more: ending what waits for it",
    "mount.nfs: access denied by server while mounting h:/x",
    "NETDEV WATCHDOG: eth0 (igb): transmit queue 0 timed out",
    "iscsistart: initiator reported error (8 - connection timed out)",
    "Please enter passphrase for disk luks-1:",
    "ALERT!  UUID=1-2 does not exist.  Dropping to a shell!",
    "I/O error, dev vda, sector 8 op 0x1",
    "pykdump: cannot mount /dev/vda (ext4)",
    "pykdump: no dump is wanted",
    "makedumpfile Failed.",
    "ioremap on RAM at 0x0000000000040000 - 0x0000000000040fff",
    "cp: error reading '/proc/vmcore': Cannot allocate memory",
    "/init: error while loading shared libraries: libz.so.1: cannot open shared object file: No such file",
    "Error loading shared library libz.so.1: No such file or directory (needed by /usr/bin/makedumpfile)",
    "makedumpfile: symbol lookup error: makedumpfile: undefined symbol: ZSTD_compressCCtx",
    "/init: line 20: makedumpfile: command not found",
    "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00",
    "Oops: 0000 [#1] PREEMPT SMP PTI",
    "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [modprobe:88]",
    "dracut-initqueue[300]: Warning: /dev/disk/by-uuid/1-2 does not exist",
    "systemd[1]: Timed out waiting for device /dev/disk/by-uuid/1-2.",
    "systemd[1]: Job dev-vdb.device/start timed out.",
    "ERROR: device 'UUID=1-2' not found. Skipping fsck.",
    "pykdump: the dump target 1-2 does not exist: no disk has it",
    "pykdump: no network card has the address 52:54",
    "dracut-initqueue[300]: Warning: dracut-initqueue timeout - starting timeout scripts",
    "The kernel version is not supported.",
    "[*     ] A start job is running for /dev/disk/by-uuid/1-2 (5min 2s / no limit)",
    "[*     ] Job dev-vdb.device/start running (1min / no limit)",
    "systemd[1]: Expecting device dev-vdb.device...",
    'dracut-initqueue[300]: Warning: finished/1.sh: "[ -e "/dev/disk/by-uuid/1-2" ]"',
    "Begin: Waiting for root file system ... ",
    ":: Waiting 10 seconds for device /dev/vdb1 ...",
    "cryptsetup: Waiting for encrypted source device UUID=1-2...",
    '  Volume group "vg" not found',
    "pykdump: waiting for the file system 1-2",
    "Waiting for root device /dev/vdb1...",
    "kdump[500]: Waiting for network to be ready (50s / 10min)",
    "kdump[500]: Waiting for rootfs mount, will timeout after 90 seconds",
    "makedumpfile[88]: segfault at 0 ip 0000000000000000",
    "You are in emergency mode. After logging in, type",
]
UP = SECOND + "[    1.9] Run /init as init process\n"
SAVED = UP + "The dumpfile is saved to /var/crash/vmcore.\n"


class EnoughRoom(HostFiles):
    """The files are the test's, but not how full the disk is."""

    def free(self, path: str) -> int | None:
        return 100 * GIB


class FullDisk(HostFiles):
    def free(self, path: str) -> int | None:
        return 10 * MIB


def facts(
    folder: Path,
    changes: Files,
    *,
    base: str = "qemu-6.1-1g",
    console: str | None = SAVED,
    places: type[HostFiles] = EnoughRoom,
    old: str = "",
) -> Facts:
    files = {**HEALTHY, **changes}
    machine = unpacked(
        base, folder, {path: content for path, content in files.items() if content is not None}
    )
    for path, content in files.items():
        if content is None:
            (folder / path).unlink(missing_ok=True)
    for image in (folder / "boot").glob("initramfs-*"):
        # Later than all it is made of, unless it is to be old.
        when = 1 if image.name == Path(old).name else 1 << 32
        os.utime(image, (when, when))
    return Facts(machine, places=places(folder), console=None if console is None else parse(console))


def finding(findings: tuple[Finding, ...], name: str) -> Finding:
    (found,) = (each for each in findings if each.id == name)
    return found


# A healthy machine


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finding, ...]:
    return doctor.diagnose(facts(tmp_path_factory.mktemp("healthy"), {}))


@pytest.mark.parametrize("name", [check.id for check in doctor.CATALOGUE])
def test_nothing_is_found_where_nothing_is_wrong(healthy: tuple[Finding, ...], name: str) -> None:
    found = finding(healthy, name)
    # A kernel before 6.3 has no limit, and one without lockdown shows none: both are fine.
    assert found.verdict is Verdict.FINE, found
    assert found.evidence


def test_a_healthy_machine_is_armed(healthy: tuple[Finding, ...]) -> None:
    assert doctor.is_armed(healthy) is True
    assert doctor.exit_code(healthy) == 0
    assert doctor.is_proven(healthy)
    assert doctor.as_text(healthy).startswith("armed: yes, and proven\n")
    assert doctor.first_to_mend(healthy) is None


# One fault each


def debian_makedumpfile(version: str) -> Files:
    """Debian's package of it; of the program there is no more than its name."""
    return {
        "var/lib/dpkg/status": f"Package: makedumpfile\nStatus: install ok installed\nVersion: {version}\n\n"
    }


def says_version(version: str) -> bytes:
    return f"\0makedumpfile: version {version} (released on 1 Jan 2026)\n\0".encode()


@dataclass(frozen=True)
class Case:
    """Changes to the healthy tree, and what is to be found then."""

    id: str
    changes: Files = field(default_factory=dict)
    evidence: str = ""
    """Part of the cause or the evidence."""
    base: str = "qemu-6.1-1g"
    console: str | None = SAVED
    places: type[HostFiles] = EnoughRoom
    old: str = ""
    """An initramfs made older than what it is made of."""
    large: Callable[[], bytes] | None = None
    """The capture image, made only where it is needed."""


def conf(text: str, **more: str) -> Files:
    return {"etc/kdump.conf": text, **more}


def savedir(url: str) -> Files:
    """openSUSE's configuration."""
    return {"etc/kdump.conf": None, "etc/sysconfig/kdump": f"KDUMP_SAVEDIR={url}\n"}


def appended(words: str) -> Files:
    return {"etc/sysconfig/kdump": f'KDUMP_COMMANDLINE_REMOVE=""\nKDUMP_COMMANDLINE_APPEND="{words}"\n'}


def booted(line: str, **more: str) -> Files:
    return {"proc/cmdline": f"{line}\n", **more}


def logged(line: str) -> Files:
    return {"var/log/dmesg": f"[    0.0] hello\n[    1.0] {line}\n[    2.0] bye\n"}


GOOD = "irqpoll nr_cpus=1 reset_devices panic=10 novmcoredd"
DEBIAN: Files = {"etc/kdump.conf": None, "etc/sysconfig/kdump": None}
ARM64 = "qemu-arm64-6.1-1g"
ARM64_RELEASE = "6.1.0-50-cloud-arm64"
ON_ARM64: Files = {
    "boot/vmlinuz-" + ARM64_RELEASE: FakeImage(image_size=26 * MIB).build(),
    f"boot/initramfs-{ARM64_RELEASE}kdump.img": archive(MIB),
    "boot/config-" + ARM64_RELEASE: CONFIG + "CONFIG_CMA_SIZE_MBYTES=64\n",
}
ITS_TREE: Tree = {
    "intc@8000000": {
        "compatible": b"arm,gic-v3\0",
        "its@8080000": {"compatible": b"arm,gic-v3-its\0"},
    }
}
CRYPT: Files = {
    "proc/self/mounts": "/dev/mapper/luks-1 /var/crash ext4 rw 0 0\n",
    "sys/block/dm-0/dm/name": "luks-1\n",
    "sys/block/dm-0/dm/uuid": "CRYPT-LUKS2-1234-luks-1\n",
}
WITH_KEYS: Files = {"etc/sysconfig/kdump": f"{SYSCONFIG}PYKDUMP_HAND_OVER_KEYS=yes\n"}
ON_CRYPT: Files = {
    "proc/self/mounts": "/dev/mapper/vg-root / ext4 rw 0 0\n",
    "sys/block/dm-1/dm/name": "vg-root\n",
    "sys/block/dm-1/dm/uuid": "LVM-abcdef\n",
    "sys/block/dm-1/slaves/dm-0/dm/uuid": "CRYPT-LUKS2-1234-luks-1\n",
}
KEYS = "sys/kernel/config/crash_dm_crypt_keys/count"
HANDED: Files = {KEYS: "1\n", "run/pykdump/loaded.json": receipt(system_call="kexec_file_load")}
BY_KERNEL: Files = {"run/pykdump/loaded.json": receipt(system_call="kexec_file_load", keys="a digest")}
HIGH_ONLY = (
    "00001000-3fffffff : System RAM\n"
    "100000000-1ffffffff : System RAM\n  180000000-18fffffff : Crash kernel\n"
)
SMALL_LOW = (
    "00001000-3fffffff : System RAM\n  10000000-11ffffff : Crash kernel\n"
    "100000000-1ffffffff : System RAM\n  180000000-18fffffff : Crash kernel\n"
)
SHRUNK = "00001000-3fffffff : System RAM\n  20000000-23ffffff : Crash kernel\n"
MORE_CPUS: Files = {
    f"sys/devices/system/cpu/cpu{number}/{name}": value
    for number in range(8)
    for name, value in (("crash_notes", f"{0x1000 * number:x}\n"), ("crash_notes_size", "400\n"))
}

THIN: Files = {
    "proc/self/mounts": "/dev/mapper/vg-crash /var/crash xfs rw 0 0\n",
    "sys/block/dm-3/dm/name": "vg-crash\n",
    "sys/block/dm-3/dm/uuid": "LVM-abcdef\n",
    "sys/block/dm-3/slaves/dm-2/dm/uuid": "LVM-ghijkl-tpool\n",
}
FULL_POOL = "switching pool to out-of-data-space (queue IO) mode"
# A reservation in two halves, neither of which takes a kernel that says it needs 100M in one piece.
HALF_FREE = (
    "00001000-3fffffff : System RAM\n"
    "  20000000-23ffffff : Crash kernel\n  28000000-2bffffff : Crash kernel\n"
)
HIGH_KERNEL = FakeBzImage(init_size=100 * MIB).build()


OUR_IMAGE = f"var/lib/pykdump/initrd-{RELEASE}.img"
# What is loaded has an image that pykdump made, and no test was made with it.
OURS: Files = {
    OUR_IMAGE: INITRD,
    "run/pykdump/loaded.json": receipt(initrd=f"/{OUR_IMAGE}"),
    "var/lib/pykdump/proven.json": None,
}
PROGRAMS: Files = {f"usr/bin/{name}": "x" for name in ("busybox", "ssh", "lvm", "mdadm", "makedumpfile")}
UNREHEARSED: Files = {f"var/lib/pykdump/rehearsed-{RELEASE}.json": None}
UNPROVEN: Files = {"var/lib/pykdump/proven.json": None}
ON_F2FS: Files = {"proc/self/mounts": "/dev/vdb /var/crash f2fs rw 0 0\n"}


def failed_test(marker: str, log: str = "") -> Files:
    dump = "var/crash/127.0.0.1-2026-01-01-00:00:00"
    return {
        "var/lib/pykdump/test.json": json.dumps({"id": marker, "boot": "another", "time": "then"}),
        "var/lib/pykdump/test-receipt.json": receipt(boot="another"),
        f"{dump}/vmcore": "x",
        f"{dump}/vmcore-dmesg.txt": log,
    }


CASES = [
    Case(
        "P1",
        {"sys/kernel/kexec_crash_loaded": None, "boot/config-" + RELEASE: "CONFIG_X=y\n"},
        "CONFIG_KEXEC_CORE",
    ),
    Case("P1", {"sys/kernel/kexec_crash_loaded": None}, "no /sys/kernel/kexec_crash_loaded"),
    Case("P2", {"proc/self/status": "CapEff:\t0000000000000000\n"}, "CapEff 0000000000000000"),
    Case("P3", {"proc/sys/kernel/kexec_load_disabled": "1\n"}, "kexec_load_disabled = 1"),
    Case("P4", {"proc/sys/kernel/kexec_load_limit_panic": "0\n"}, "kexec_load_limit_panic = 0"),
    Case(
        "P5",
        {
            "sys/kernel/security/lockdown": "none [integrity] confidentiality\n",
            "etc/sysconfig/kdump": SYSCONFIG.replace("-s", "-s -c"),
        },
        "integrity",
    ),
    Case("P6", logged("ima: impossible to appraise a kernel image without a file descriptor"), "impossible"),
    Case("P7", logged("kexec: Disabled: TDX is enabled and kexec disabled by tdx"), "TDX"),
    Case("P7", logged("kexec: Not allowed on platform with tdx_pw_mce bug"), "tdx_pw_mce"),
    Case("P8", {"sys/hypervisor/type": "xen\n", "sys/hypervisor/guest_type": "PV\n"}, "PV"),
    Case("P8", {"sys/hypervisor/type": "xen\n", "proc/xen/capabilities": "control_d\n"}, "dom0"),
    Case(
        "P9",
        {"var/log/audit/audit.log": 'avc:  denied  { read } for comm="kexec" name="x"\n'},
        'comm="kexec"',
    ),
    Case("P10", {"proc/iomem": "00000000-00000000 : System RAM\n"}, "only zeros"),
    Case("P10", {"proc/kcore": None, "proc/sys/kernel/kptr_restrict": "2\n"}, "kptr_restrict = 2"),
    Case("P11", {"boot/config-" + RELEASE: "CONFIG_CRASH_DUMP=y\n"}, "CONFIG_PROC_VMCORE off"),
    Case("P12", {"boot/config-" + RELEASE: "CONFIG_KEXEC=y\n"}, "CONFIG_RELOCATABLE off"),
    Case("P13", {"boot/config-" + RELEASE: "CONFIG_KEXEC=y\n"}, "CONFIG_KEXEC_FILE off"),
    Case(
        "P14",
        {
            "boot/config-" + RELEASE: "CONFIG_KEXEC=y\n",
            f"boot/initramfs-{RELEASE}kdump.img": gzip.compress(archive(100)),
        },
        "CONFIG_RD_GZIP off",
    ),
    Case("R1", booted("console=ttyS0 quiet"), "no crashkernel= in /proc/cmdline"),
    Case(
        "R2",
        {"sys/kernel/kexec_crash_size": "0\n", "proc/cmdline": "crashkernel=2G-:256M\n"},
        "no range takes in",
    ),
    Case(
        "R2",
        {"sys/kernel/kexec_crash_size": "0\n", **logged("cannot allocate crashkernel (size:0x10000000)")},
        "size:0x10000000",
    ),
    Case("R3", {"sys/kernel/kexec_crash_size": "0\n", **booted("crashkernel=auto")}, "crashkernel=auto"),
    Case(
        "R4", {"proc/iomem": HIGH_ONLY, **booted("crashkernel=256M,high crashkernel=0,low")}, "no SIZE,low"
    ),
    Case(
        "R4",
        {"proc/iomem": HIGH_ONLY, **logged("cannot allocate crashkernel low memory (size:0x10000000).")},
        "crashkernel low memory",
    ),
    Case(
        "R5",
        {
            "sys/kernel/kexec_crash_size": "0\n",
            **booted("crashkernel=256M@16M"),
            **logged("crashkernel reservation failed - memory is in use."),
        },
        "memory is in use",
    ),
    Case("R6", {"proc/iomem": SHRUNK, "sys/kernel/kexec_crash_size": f"{64 * MIB}\n"}, "64M left of 256M"),
    Case(
        "R7",
        {"etc/default/grub": 'GRUB_CMDLINE_LINUX="crashkernel=512M"\n'},
        "/etc/default/grub: crashkernel=512M",
    ),
    Case(
        "R7", {"etc/default/grub": None, "boot/loader/entries/a.conf": "options crashkernel=1G\n"}, "a.conf"
    ),
    Case("R8", {}, "256M are reserved", large=lambda: archive(100 * MIB)),
    Case(
        "R9",
        {
            "sys/kernel/kexec/crash_cma_ranges": "0x100000000-0x140000000\n",
            **conf("core_collector makedumpfile -l -d 1\n"),
        },
        "dump level: 1",
    ),
    Case("R10", {"proc/modules": "mlx5_core 1000 1 - Live 0x0\n"}, "mlx5_core: 150M more"),
    Case(
        "R10",
        {
            **ON_ARM64,
            "pykexec-snapshot.json": '{"machine": "aarch64", "page_size": 16384}',
            "proc/modules": "mlx5_core 1000 1 - Live 0x0\n",
        },
        "mlx5_core: 175M more",
        base=ARM64,
    ),
    Case("R10", logged("Memory Encryption Features active: AMD SME"), "AMD memory encryption"),
    Case(
        "R11",
        {"proc/iomem": "00001000-3fffffff : System RAM\n", **booted("crashkernel=256M crashkernel=1G,cma")},
        "does not know SIZE,cma",
    ),
    Case("R2", {"sys/kernel/kexec_crash_size": "256\n", **booted("crashkernel=256")}, "256 bytes"),
    Case("R12", booted("crashkernel=512M crashkernel=256M"), "crashkernel=512M has no effect"),
    Case("R12", booted("crashkernel=256M crashkernel=128M,low"), "crashkernel=128M,low has no effect"),
    Case("R12", booted("crashkernel=256M crashkernel=512M,high"), "crashkernel=512M,high has no effect"),
    Case("L1", {"boot/vmlinuz-" + RELEASE: FakeBzImage(init_size=300 * MIB).build()}, "are missing"),
    Case("L2", {**ON_ARM64, **logged("Can't kexec: CPUs are stuck in the kernel.")}, "stuck", base=ARM64),
    Case(
        "L2",
        {**ON_ARM64, "proc/device-tree/cpus/cpu@0/enable-method": b"spin-table\0"},
        "spin-table",
        base=ARM64,
    ),
    Case("L4", {"boot/vmlinuz-" + RELEASE: b"hello, world\n" * 100}, "no kernel"),
    Case("L4", {"boot/vmlinuz-" + RELEASE: portable_executable([(".text", b"x")])}, "no kernel"),
    Case("L4", {"boot/vmlinuz-" + RELEASE: portable_executable([], machine=0x200)}, "another architecture"),
    Case("L4", {"boot/vmlinuz-" + RELEASE: FakeBzImage(init_size=0).build()}, "damaged"),
    Case("L4", {"boot/vmlinuz-" + RELEASE: FakeImage().build()}, "another architecture"),
    Case("L4", {"boot/vmlinuz-" + RELEASE: b"\x1f\x8b\x08" + bytes(100)}, "cannot be unpacked"),
    Case("L5", appended(GOOD + " x=" + "y" * 2000), "too long"),
    Case("L6", {"proc/meminfo": "MemAvailable: 4000 kB\n"}, "3M are available"),
    Case("L7", logged("PEFILE: Unsigned PE binary"), "PEFILE"),
    Case("L7", logged("kexec_file: kernel signature verification failed (-129)."), "-129"),
    Case("L10", {"proc/iomem": HALF_FREE, "boot/vmlinuz-" + RELEASE: HIGH_KERNEL}, "kernel"),
    Case(
        "L11", {"proc/kcore": None, "etc/sysconfig/kdump": SYSCONFIG.replace("-s", "-c")}, "no /proc/kcore"
    ),
    Case("L12", {"sys/devices/system/cpu/crash_hotplug": None}, "no udev rule"),
    Case("L13", CRYPT, "luks-1 is a dm-crypt device"),
    # A volume on an encrypted disk.
    Case("L13", {**CRYPT, **ON_CRYPT}, "luks-1 is a dm-crypt device"),
    *(Case(name, {**CRYPT, KEYS: "0\n"}, "count = 0") for name in ("L13", "O5")),
    # Allowed, but another's image takes no key.
    *(Case(name, {**CRYPT, **WITH_KEYS, KEYS: "0\n"}, "count = 0") for name in ("L13", "O5")),
    *(Case(name, {**CRYPT, KEYS: "1\n"}, "loaded by kexec_load") for name in ("L13", "O5")),
    *(
        Case(name, {**CRYPT, KEYS: "1\n", "run/pykdump/loaded.json": None}, "no receipt")
        for name in ("L13", "O5")
    ),
    Case("L13", {**CRYPT, **HANDED, "sys/kernel/kexec_crash_loaded": "0\n"}, "nothing is loaded"),
    *(
        Case(name, {**CRYPT, **BY_KERNEL, "sys/kernel/kexec_crash_loaded": "0\n"}, "hands no keys over")
        for name in ("L13", "O5")
    ),
    Case("L14", {f"boot/initramfs-{RELEASE}kdump.img": None}, "no capture initramfs"),
    Case("L14", {}, "is older than /etc/kdump.conf", old=f"boot/initramfs-{RELEASE}kdump.img"),
    Case(
        "L15", {"boot/vmlinuz-" + RELEASE: KERNEL + b"x"}, f"/boot/vmlinuz-{RELEASE} is not what was loaded"
    ),
    Case("L15", {f"boot/initramfs-{RELEASE}kdump.img": None}, "kdump.img is not what was loaded"),
    Case("L15", appended(GOOD), "another command line"),
    Case("L16", {"sys/kernel/kexec_loaded": "1\n"}, "kexec_loaded = 1"),
    Case("L17", {"sys/kernel/kexec_crash_loaded": "0\n"}, "kexec_crash_loaded = 0"),
    Case("L18", {**DEBIAN, "etc/default/kdump-tools": "USE_KDUMP=0\n"}, "USE_KDUMP"),
    Case("L19", {**failed_test("lost")}, "no dump in /var/crash has its marker"),
    Case(
        "L20",
        {**rehearsed(**OUT_OF_MEMORY), "var/lib/pykdump/proven.json": None},
        "out of memory: there was",
    ),
    Case(
        "L21", rehearsed(NEWER, **OUT_OF_MEMORY), f"{NEWER}, rehearsed on 2026-12-01: out of memory: there"
    ),
    Case("T1", {"proc/sys/kernel/panic_on_oops": "0\n"}, "panic_on_oops = 0"),
    Case(
        "T2",
        {
            "sys/class/watchdog/watchdog0/state": "active\n",
            "sys/class/watchdog/watchdog0/timeout": "10\n",
            "sys/class/watchdog/watchdog0/identity": "iTCO_wdt\n",
        },
        "iTCO_wdt): 10 s",
    ),
    Case("T3", booted("crashkernel=256M crash_kexec_post_notifiers"), "crash_kexec_post_notifiers"),
    Case("T3", {"sys/module/kernel/parameters/crash_kexec_post_notifiers": "Y\n"}, "= Y"),
    Case("T4", {}, "failed to stop", console=CRASH + "[ 5.2] SMP: failed to stop secondary CPUs 1\n"),
    Case("T5", appended("nr_cpus=1"), "no panic="),
    Case("T5", appended("nr_cpus=1 panic=0"), "panic=0"),
    Case("B1", {"proc/modules": "mgag200 1000 0 - Live 0x0\n"}, "mgag200"),
    Case(
        "B2",
        {},
        "junk",
        console=SECOND + "[ 1.0] Initramfs unpacking failed: junk within compressed archive\n",
    ),
    Case(
        "B3", {}, "region initrd", console=CRASH + "purgatory: region initrd is damaged: 9 bytes at 0x10\n"
    ),
    Case(
        "B4", {}, "RSDP", console=SECOND + "[ 0.0] ACPI BIOS Error (bug): A valid RSDP was not found (1)\n"
    ),
    Case("B5", {}, "RAMDISK", console=SECOND + "[ 0.0] Kernel panic: Cannot find place for new RAMDISK\n"),
    Case("B6", {}, "trampoline", console=SECOND + "[ 0.0] Kernel panic: Cannot allocate trampoline\n"),
    Case("B7", appended("nr_cpus=4 panic=10"), "nr_cpus=4"),
    Case(
        "B7",
        {
            "etc/sysconfig/kdump": "KDUMP_KERNELVER=6.1.0\nKDUMP_COMMANDLINE_APPEND=nr_cpus=4\n",
            "proc/sys/kernel/osrelease": "6.9.1\n",
        },
        "nr_cpus=4",
    ),
    Case(
        "B8",
        {
            **ON_ARM64,
            "sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
            **DEBIAN,
            "etc/default/kdump-tools": "USE_KDUMP=1\n",
        },
        "irqpoll",
        base=ARM64,
    ),
    Case("B9", appended("nr_cpus=1"), "no reset_devices"),
    Case("B9", {}, "nvme", console=SECOND + "[ 1.0] nvme nvme0: I/O 1 QID 0 timeout, disable controller\n"),
    Case(
        "B10",
        {**DEBIAN, "etc/default/kdump-tools": "USE_KDUMP=1\n", **booted("crashkernel=256M panic_on_warn")},
        "panic_on_warn",
    ),
    Case("B11", {**appended(GOOD + " rd.lvm.lv=vg/root")}, "rd.lvm.lv=vg/root"),
    Case(
        "B11",
        {},
        "Unable to mount root",
        console=SECOND + "[ 1.4] VFS: Unable to mount root fs on unknown-block\n",
    ),
    Case("B12", booted("crashkernel=256M ignition.firstboot"), "ignition.firstboot"),
    Case("B13", booted("crashkernel=256M console=tty0"), "console=tty0"),
    Case("B13", booted("crashkernel=256M"), "no console="),
    Case("B14", {"proc/modules": "nouveau 1000 0 - Live 0x0\n"}, "nouveau is loaded"),
    Case(
        "B15",
        {**logged("Memory Encryption Features active: AMD SME"), **appended(GOOD + " mem_encrypt=off")},
        "mem_encrypt=off",
    ),
    Case(
        "B16", {}, "eth0", console=UP + "[ 30.0] NETDEV WATCHDOG: eth0 (igb): transmit queue 0 timed out\n"
    ),
    Case(
        "B17",
        {**ON_ARM64, "sys/firmware/fdt": Blob(ITS_TREE).build()},
        "/intc@8000000/its@8080000",
        base=ARM64,
    ),
    Case("B18", {}, "Bye!", console=CRASH + "[ 5.3] Bye!\n"),
    Case("O1", {**appended("panic=10"), **MORE_CPUS}, "8 CPUs, and no nr_cpus="),
    Case("O1", {}, "no killable", console=SECOND + "[ 0.6] Out of memory and no killable processes...\n"),
    Case("O2", {"proc/iomem": SMALL_LOW}, "32M below 4G"),
    Case(
        "O2",
        {},
        "order:5",
        console=SECOND
        + "[ 1.0] modprobe: page allocation failure: order:5, mode:0xcc1(GFP_KERNEL|GFP_DMA)\n",
    ),
    Case("O3", {}, "150M unpacked; 50 %", large=large_initramfs),
    Case("O3", {}, "write error", console=SECOND + "[ 1.0] Initramfs unpacking failed: write error\n"),
    Case("O4", conf("core_collector makedumpfile -l -d 31 --num-threads 8\n"), "--num-threads 8, 1 CPUs"),
    Case("O4", {}, "makedumpfile", console=UP + "[ 9.0] Out of memory: Killed process 77 (makedumpfile)\n"),
    Case("O5", CRYPT, "256M are reserved"),
    Case("O5", {**CRYPT, **ON_CRYPT}, "256M are reserved"),
    Case("O6", {**appended(GOOD), **booted("crashkernel=256M hugepages=64")}, "hugepages=64"),
    Case(
        "O7",
        {"boot/config-" + RELEASE: CONFIG + "CONFIG_PROC_VMCORE_DEVICE_DUMP=y\n", **appended("nr_cpus=1")},
        "no novmcoredd",
    ),
    Case("O8", {**ON_ARM64, **appended(GOOD)}, "CMA: 64M of 256M", base=ARM64),
    Case("S1", conf("ssh u@h.example\n"), "/root/.ssh/kdump_id_rsa"),
    Case("S1", conf("ssh u@h.example\n", **{"root/.ssh/kdump_id_rsa": "x"}), "known_hosts"),
    Case("S1", {}, "Host key", console=UP + "Host key verification failed.\n"),
    Case("S2", conf("nfs server:/export\n"), "server:/export"),
    Case("S2", {}, "mount.nfs", console=UP + "mount.nfs: access denied by server\n"),
    Case("S3", {}, "10M free", places=FullDisk),
    Case("S3", {}, "No space left", console=UP + "Can't write the dump file(/x). No space left on device\n"),
    Case(
        "S4",
        {"proc/self/mounts": "/dev/sda1 /var/crash vfat rw 0 0\n", "proc/iomem": HIGH_ONLY},
        "/dev/sda1",
    ),
    Case("S5", {"proc/self/mounts": "/dev/vda1 / ext4 rw 0 0\ntmpfs /var tmpfs rw 0 0\n"}, "is on tmpfs"),
    Case(
        "S5",
        {
            "proc/self/mounts": "/dev/vdb /data xfs rw 0 0\n/dev/vdc /data/var\\040log xfs rw 0 0\n",
            **conf("xfs /dev/vdb\npath /var log/crash\n"),
        },
        "/dev/vdc on /data/var log",
    ),
    Case("S6", conf("ext4 /dev/sda3\n"), "ext4 /dev/sda3"),
    Case("S6", conf("raw /dev/nvme0n1p2\n"), "/dev/nvme0n1p2"),
    Case("S7", {}, "ALERT!", console=UP + "ALERT!  UUID=1-2 does not exist.  Dropping to a shell!\n"),
    Case("S9", {**THIN, **logged(f"device-mapper: thin: 253:2: {FULL_POOL}")}, "out-of-data-space"),
    Case("S9", {}, "253:2", console=UP + f"[ 9.0] device-mapper: thin: 253:2: {FULL_POOL}\n"),
    Case("S10", {}, "system_utsname", console=UP + "Can't get the address of system_utsname.\n"),
    Case("S11", {}, "no space for the dump", console=UP + "No space left on device\n"),
    Case("S12", booted("crashkernel=256M netroot=iscsi:192.0.2.1::::iqn.x"), "netroot=iscsi"),
    Case("S12", {"sys/class/iscsi_session/session1/targetname": "iqn.x\n"}, "session1"),
    Case("S13", {"var/lib/kdump/vmcore-creation.status": "fail 1767225600\n"}, "fail 1767225600"),
    Case("S15", {}, "cannot mount", console=UP + "pykdump: cannot mount /dev/vda1 (ext4)\n"),
    *(
        Case(
            "S15",
            {"proc/self/mounts": f"{source} / {kind} rw 0 0\n", **UNPROVEN},
            f"lies on {kind}",
            console=None,
        )
        for source, kind in (
            ("rpool/ROOT/ubuntu_abc123", "zfs"),
            ("tmpfs", "tmpfs"),
            ("overlay", "overlay"),
            ("sshfs", "fuse.sshfs"),
        )
    ),
    Case("S15", {**OURS, **ON_F2FS}, "/var/crash lies on f2fs (/dev/vdb)", console=None),
    Case("V4", OURS, "busybox is not there"),
    Case("V4", {**OURS, **conf("core_collector dumper -x\n")}, "dumper is not there"),
    Case("V4", {**OURS, **conf("ssh u@h.example\n")}, "ssh is not there"),
    Case("V4", {**OURS, "proc/self/mounts": "/dev/md0 / ext4 rw 0 0\n"}, "mdadm is not there"),
    Case("V4", {**OURS, **THIN}, "lvm is not there"),
    Case("V4", {**OURS, **conf("fence_kdump_nodes a b\n")}, "fence_kdump_send is not there"),
    Case("V4", {**OURS, "proc/self/mounts": "h:/x / nfs4 rw,vers=4.2,sec=krb5 0 0\n"}, "sec='krb5'"),
    Case("V4", {**OURS, **savedir("ftp://u:p@h/d")}, "writing by FTP"),
    Case("V4", {**OURS, **savedir("ssh://u:p@h/d")}, "logging in with a password"),
    Case("V4", {**OURS, **savedir("sftp://u@h/d")}, "sshfs is not there"),
    Case("V4", {**OURS, **savedir("cifs://u@h/share")}, "has no user, or no password, to log in with"),
    Case("V4", {**OURS, "proc/self/mounts": "tank / zfs rw 0 0\n"}, "lies on zfs"),
    Case("S14", {}, "makedumpfile Failed", console=UP + "makedumpfile Failed.\n"),
    Case("V1", conf("pth /var/crash\n"), "/etc/kdump.conf:1: unknown key 'pth'"),
    Case("V2", conf("default reboot\n"), "default is the old name"),
    Case("V3", {"usr/sbin/makedumpfile": None}, "makedumpfile"),
    Case(
        "S8",
        {},
        "VA Bits 52",
        base="qemu-arm64-7.2-6g-high-low",
        console=UP + "PAGE SIZE 0x1000 and VA Bits 52 not supported\n",
    ),
    # The two pairs that upstream's history names: page.compound_info, and 52 bits with pages of 4 KiB.
    *(
        Case("S8", debian_makedumpfile(version), "f50c015", base="qemu-7.2-1g")
        for version in ("1:1.7.2-1", "1:1.7.8-1", "1.7.9-1", "1:1.7.9+ds-1ubuntu1")
    ),
    *(
        Case("S8", debian_makedumpfile(version), "b7587f1", base="qemu-arm64-7.2-6g-high-low")
        for version in ("1:1.7.2-1", "1:1.7.8-1", "1.7.9-1")
    ),
    Case("S8", {"usr/sbin/makedumpfile": says_version("1.7.9")}, "makedumpfile 1.7.9", base="qemu-7.2-1g"),
    Case(
        "S8",
        {
            "opt/makedumpfile": says_version("1.7.8"),
            "usr/sbin/makedumpfile": says_version("1.8.0"),
            **conf("core_collector /opt/makedumpfile -l -d 31\n"),
        },
        "makedumpfile 1.7.8",
        base="qemu-7.2-1g",
    ),
]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.id}-{number}", marks=pytest.mark.slow if case.large else [])
        for number, case in enumerate(CASES)
    ],
)
def test_a_fault_is_found(case: Case, tmp_path: Path) -> None:
    large = {f"boot/initramfs-{RELEASE}kdump.img": case.large()} if case.large else {}
    changes = {**case.changes, **large}
    given = facts(tmp_path, changes, base=case.base, console=case.console, places=case.places, old=case.old)
    (found,) = doctor.diagnose(given, [case.id])
    assert found.verdict is Verdict.WRONG, found
    assert case.evidence in "\n".join((found.cause, *found.evidence)), found
    assert found.remedy
    assert found.cause
    assert "\n" not in found.command
    if found.command:
        subprocess.run(["sh", "-n"], input=found.command, text=True, check=True)


def test_every_finding_is_produced_by_a_case() -> None:
    ids = [check.id for check in doctor.CATALOGUE]
    assert set(ids) == {case.id for case in CASES} | {"L8"}  # of which there is a test of its own
    assert len(ids) == len(set(ids)) >= 40


# Of the catalogue's numbers L3 is P2 to P6, and L9 is L4, seen from another side.
ELSEWHERE = {"L3", "L9"}


def test_the_whole_catalogue_is_there() -> None:
    wanted = {
        f"{letter}{number}"
        for letter, last in (("P", 10), ("R", 10), ("L", 16), ("T", 5), ("B", 15), ("O", 7), ("S", 13))
        for number in range(1, last + 1)
    }
    assert wanted - ELSEWHERE <= {check.id for check in doctor.CATALOGUE}


def test_a_file_that_is_being_written(tmp_path: Path) -> None:
    given = facts(tmp_path, {})
    with (tmp_path / f"boot/initramfs-{RELEASE}kdump.img").open("r+b"):
        found = finding(doctor.diagnose(given, ["L8"]), "L8")
        assert found.verdict is Verdict.WRONG
        assert f"(process {os.getpid()})" in found.evidence[0]
    with (tmp_path / f"boot/initramfs-{RELEASE}kdump.img").open("rb"):
        assert finding(doctor.diagnose(given, ["L8"]), "L8").verdict is Verdict.FINE


@pytest.mark.programs
@pytest.mark.parametrize(
    ("known", "passphrase", "cause"),
    [
        ("h.example", "", ""),
        ("other.example", "", "host key is not known"),
        ("h.example", "secret", "without a passphrase"),
    ],
)
def test_a_login_without_anybody_there(known: str, passphrase: str, cause: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", key], check=True)
    hosts = f"{known} {(tmp_path / 'key.pub').read_text()}"
    files = {"root/.ssh/kdump_id_rsa": key.read_text(), "root/.ssh/known_hosts": hosts}
    given = facts(tmp_path / "machine", conf("ssh u@h.example\n", **files))
    found = finding(doctor.diagnose(given, ["S1"]), "S1")
    assert (found.verdict is Verdict.WRONG) == bool(cause)
    assert cause in found.cause


@pytest.mark.programs
@pytest.mark.parametrize(("told", "is_known"), [("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", True), ("*", False)])
def test_a_server_s_key_in_the_configuration(told: str, is_known: bool, tmp_path: Path) -> None:
    """openSUSE's KDUMP_HOST_KEY; the identity is whatever ssh takes."""
    files = savedir(f"ssh://h.example/x\nKDUMP_HOST_KEY='{told}'\nKDUMP_SSH_IDENTITY=/root/key")
    given = facts(tmp_path, {**files, "root/key": "x"})
    found = finding(doctor.diagnose(given, ["S1"]), "S1")
    assert ("host key is not known" in found.cause) != is_known


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    return facts(tmp_path_factory.mktemp("machine"), {})


LOOK_AT_CONSOLES = {
    *(rule.finding for rule in RULES),
    *(check.id for part in (trigger, capture, memory, target) for check in part.CHECKS),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.cause)
def test_what_a_console_shows_is_a_finding(rule: Rule, machine: Facts, healthy: tuple[Finding, ...]) -> None:
    """Whatever stage a log of its own is judged to have come to, doctor says the same."""
    line = next(text for text in CONSOLE_LINES if re.search(rule.pattern, text))
    given = Facts(machine.machine, places=machine.places, console=parse(UP + line))
    assert given.ending is not None
    others = (each for each in healthy if each.id not in LOOK_AT_CONSOLES)
    findings = (*others, *doctor.diagnose(given, LOOK_AT_CONSOLES))
    found = finding(findings, given.ending.finding)
    assert found.verdict is Verdict.WRONG
    assert found.cause == given.ending.cause
    assert doctor.first_to_mend(findings, given.ending) == found


@pytest.mark.parametrize(
    ("console", "name", "verdict"),
    [
        ("", "B2", Verdict.UNKNOWN),
        (CRASH + "[ 5.3] Bye!\n", "B2", Verdict.UNKNOWN),
        (CRASH + "[ 5.3] Bye!\n", "S14", Verdict.UNKNOWN),
        (UP + "No space left on device\n", "B2", Verdict.FINE),
        (UP + "No space left on device\n", "B18", Verdict.FINE),
        (UP + "No space left on device\n", "S14", Verdict.UNKNOWN),
        (SECOND + "[ 1.0] Initramfs unpacking failed: write error\n", "B3", Verdict.FINE),
        (SAVED, "S15", Verdict.FINE),
    ],
)
def test_what_a_capture_did_not_come_to_cannot_be_told(
    console: str, name: str, verdict: Verdict, tmp_path: Path
) -> None:
    (found,) = doctor.diagnose(facts(tmp_path, {}, console=console), [name])
    assert found.verdict is verdict


NOT_FOUND = [
    Case("P5", {"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"}),  # -s is configured
    *(
        Case(
            "P5",
            {
                "sys/kernel/security/lockdown": "none [integrity] confidentiality\n",
                "etc/sysconfig/kdump": SYSCONFIG.replace("-s", arguments),
            },
        )
        for arguments in ("", "-a", "-c --kexec-file-syscall")
    ),
    Case("P8", {"sys/hypervisor/type": "xen\n", "sys/hypervisor/guest_type": "HVM\n"}),
    Case("R4", {"proc/iomem": "100000000-1ffffffff : System RAM\n  180000000-18fffffff : Crash kernel\n"}),
    # RHEL 8's kernel, and whatever else has reserved something for it.
    Case("R3", booted("crashkernel=auto")),
    Case("R3", booted("crashkernel=auto crashkernel=256M")),
    # As they are where a file behind the distribution's own says more.
    *(
        Case("R12", booted(f"crashkernel={other} crashkernel=256M"))
        for other in ("384M-:128M", "256M", "auto")
    ),
    Case("R12", booted("crashkernel=256M crashkernel=256M,high")),
    Case("R9", {"sys/kernel/kexec/crash_cma_ranges": "0x100000000-0x140000000\n"}),
    *(
        Case(
            "R11",
            {**booted("crashkernel=256M crashkernel=1G,cma"), path: "100000000-13fffffff\n"},
            base=base,
        )
        for path in ("sys/kernel/kexec/crash_cma_ranges", "sys/kernel/kexec_crash_cma_ranges")
        for base in ("qemu-6.1-1g", ARM64)
    ),
    Case("R7", {"etc/default/grub.d/kdump-tools.cfg": 'X="$X crashkernel=256M"\n', "etc/default/grub": ""}),
    Case("L11", {"proc/kcore": None}),  # -s is configured
    Case("L12", {"sys/devices/system/cpu/crash_hotplug": None, "usr/lib/udev/rules.d/98-kexec.rules": ""}),
    *(Case(name, {**CRYPT, **HANDED}) for name in ("L13", "O5")),
    *(Case(name, {**OURS, **CRYPT, **WITH_KEYS}) for name in ("L13", "O5")),
    *(Case(name, {**OURS, **CRYPT, **BY_KERNEL}) for name in ("L13", "O5")),
    Case("S12", {**OURS, "sys/class/iscsi_session/session1/targetname": "iqn.x\n"}),
    *(
        Case("S15", {**OURS, "proc/self/mounts": f"x /var/crash {kind} rw 0 0\n"}, console=None)
        for kind in ("virtiofs", "9p", "btrfs")
    ),
    Case("O5", {**CRYPT, "sys/kernel/kexec_crash_size": f"{2 * GIB}\n"}),
    Case("T3", booted("crashkernel=256M crash_kexec_post_notifiers=0")),
    Case("B1", {"proc/modules": "mgag200 1 0 - Live 0x0\n", **booted("crashkernel=256M nomodeset")}),
    Case("B7", {**appended("nr_cpus=4"), "proc/sys/kernel/osrelease": "6.9.1\n"}),
    Case("B7", appended("nr_cpus=4 disable_cpu_apicid=0")),
    Case("B11", {**DEBIAN, "etc/default/kdump-tools": "USE_KDUMP=1\n"}),
    Case(
        "B14", {"proc/modules": "nouveau 1 0 - Live 0x0\n", **conf('dracut_args --omit-drivers "nouveau"\n')}
    ),
    *(
        Case("B13", booted(f"crashkernel=256M console=tty0 console={each}"))
        for each in ("ttySC1,115200", "hvc0")
    ),
    Case("B17", ON_ARM64, base=ARM64),  # the snapshot's machine has its=off
    Case(
        "B17",
        {
            **ON_ARM64,
            "sys/firmware/fdt": Blob(ITS_TREE).build(),
            "sys/firmware/efi/systab": "ACPI20=0x1\n",
            "sys/firmware/efi/fw_vendor": "0x1\n",
            "sys/firmware/efi/config_table": "0x2\n",
            "sys/firmware/efi/runtime": "0x3\n",
        },
        base=ARM64,
    ),
    Case("L19", failed_test("there", "[  1.0] pykdump: test there\n")),
    Case("O8", {**ON_ARM64, **appended(GOOD + " cma=0")}, base=ARM64),
    # A crash has shown that it can be mounted, or another's image may be able to.
    Case("S15", {"proc/self/mounts": "tank / zfs rw 0 0\n"}, console=None),
    Case("S15", {"proc/self/mounts": "tank / zfs rw 0 0\n", **UNPROVEN}, console=SAVED),
    Case("S3", {**conf("path /var/crash\ncore_collector makedumpfile -l -d 31\n")}),
    Case("S3", {"proc/meminfo": "MemTotal: 1000000 kB\nMemFree: 990000 kB\n"}, places=FullDisk),
    Case("S5", conf("xfs /dev/vdb1\npath /x\n")),
    Case("S6", conf("ext4 UUID=1-2\n")),
    Case("S11", conf("failure_action shell\n"), console=UP + "No space left on device\n"),
    Case("S8", debian_makedumpfile("1:1.8.0-1"), base="qemu-arm64-7.2-6g-high-low"),
    Case("S8", debian_makedumpfile("1:1.7.2-1")),
    Case("S8", {**debian_makedumpfile("1:1.7.9-1"), **conf("core_collector cp\n")}, base="qemu-7.2-1g"),
    Case(
        "S8",
        {**debian_makedumpfile("1:1.7.9-1"), **conf("core_collector makedumpfile -d 1\n")},
        base="qemu-7.2-1g",
    ),
    Case("S8", {"usr/sbin/makedumpfile": says_version("1.7.9") + b"page.compound_info"}, base="qemu-7.2-1g"),
]


@pytest.mark.parametrize(
    "case", NOT_FOUND, ids=[f"{case.id}-{number}" for number, case in enumerate(NOT_FOUND)]
)
def test_what_only_looks_like_a_fault_is_none(case: Case, tmp_path: Path) -> None:
    given = facts(tmp_path, case.changes, base=case.base, console=case.console)
    (found,) = doctor.diagnose(given, [case.id])
    assert found.verdict is Verdict.FINE, found


def test_a_makedumpfile_that_only_leaves_too_much_in(tmp_path: Path) -> None:
    """As Debian 13's own pair does: nothing is lost, so nothing is wrong; the size (S3) has it in."""
    changes: Files = {
        **debian_makedumpfile("1:1.7.6-1"),
        "proc/sys/kernel/osrelease": "6.12.117+deb13\n",
        "proc/kcore": None,
        "proc/meminfo": "MemTotal: 1000000 kB\nMemFree: 900000 kB\n",
    }
    machine, room = facts(tmp_path, changes, places=FullDisk), "dump may take"
    (found,) = doctor.diagnose(machine, ["S8"])
    assert found.verdict is Verdict.FINE
    assert any("72c3414" in each for each in found.evidence)
    (space,) = doctor.diagnose(machine, ["S3"])
    assert any(f"{room} 976M" in each for each in space.evidence)


CANNOT_TELL = [
    Case(
        "R5",
        {"sys/kernel/kexec_crash_size": "0\n", **booted("crashkernel=256M'x'@16M")},
        "did not look for it",
    ),
    Case("V4", {**OURS, **PROGRAMS}, "only the machine itself"),
    Case(
        "V4",
        {**OURS, **PROGRAMS, "usr/bin/makedumpfile": None, "usr/local/sbin/makedumpfile": ""},
        "only the machine itself",
    ),
    Case("V4", {**DEBIAN, "etc/default/kdump-tools": "USE_KDUMP=0\n"}, "switched off"),
    Case("S15", {**ON_F2FS, **UNPROVEN}, "another's capture image", console=None),
    Case("L15", {"run/pykdump/loaded.json": None}, "no receipt"),
    Case("S3", {"proc/meminfo": None}, "no /proc/meminfo"),
    Case("L15", {"run/pykdump/loaded.json": receipt(boot="another")}, "no receipt"),
    Case("L15", {"sys/kernel/kexec_crash_loaded": "0\n"}, "nothing is loaded"),
    *(
        Case("L19", {**UNREHEARSED, "var/lib/pykdump/proven.json": proven}, why)
        for proven, why in (
            (None, "no pykdump test has passed"),
            ("{}", "no pykdump test has passed"),
            (receipt(command_line="x"), "changed since the last"),
        )
    ),
    Case("L19", {"run/pykdump/loaded.json": "[" * 100_000}, "not loaded by pykdump"),
    Case("L20", UNREHEARSED, "no rehearsal"),
    Case("L20", {f"var/lib/pykdump/rehearsed-{RELEASE}.json": "{}"}, "no rehearsal"),
    Case("L20", rehearsed(command_line="x"), "changed since the rehearsal of 2026-12-01: the command line"),
    Case("L20", conf("path /srv/crash\n"), "since the rehearsal of 2026-12-01: the configuration"),
    Case("L20", {"sys/kernel/kexec_crash_size": "1048576\n"}, "of 2026-12-01: the reservation"),
    Case("L20", rehearsed(**OUT_OF_MEMORY), "a test has left a dump of it (L19), but not the rehearsal of"),
    Case("L20", {"sys/kernel/kexec_crash_loaded": "0\n"}, "nothing is loaded"),
    Case("L20", {"run/pykdump/loaded.json": None}, "not loaded by pykdump"),
    Case("L21", {f"var/lib/pykdump/rehearsed-{NEWER}.json": None}, "of a newer kernel"),
    Case("L21", {f"boot/config-{NEWER}": None}, "of a newer kernel"),
    Case("L21", rehearsed(NEWER, configuration="x"), f"the rehearsal of {NEWER}: the configuration"),
    Case("S9", THIN, "dm-2"),
    Case("S13", {"var/lib/kdump/vmcore-creation.status": None}, "no /var/lib/kdump"),
    Case("S8", {"var/lib/dpkg/status": None}, "version is not known"),
    Case("S8", {"var/lib/dpkg/status": None, "usr/sbin/makedumpfile": b"own"}, "version is not known"),
    *(Case(name, {"proc/iomem": "00001000-3fffffff : System RAM\n"}, "nothing is reserved")
      for name in ("R4", "R6", "R8", "L1", "L10", "O2")),
]  # fmt: skip


@pytest.mark.parametrize("case", CANNOT_TELL, ids=[f"{c.id}-{n}" for n, c in enumerate(CANNOT_TELL)])
def test_what_cannot_be_told(case: Case, tmp_path: Path) -> None:
    only = None if case.id == "L19" else [case.id]
    findings = doctor.diagnose(facts(tmp_path, case.changes, console=case.console), only)
    found = finding(findings, case.id)
    assert found.verdict is Verdict.UNKNOWN, found
    assert case.evidence in found.cause
    if case.id == "L19":
        assert doctor.as_text(findings).startswith(f"armed: yes, but unproven: {found.cause}\n")
        assert require_valid("doctor", doctor.as_json(findings))["proven"] is False


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        (UNPROVEN, "rehearsed but never proven by a crash"),
        ({**UNPROVEN, **rehearsed(kernel_sha256="x")}, "but unproven: no pykdump test has passed yet"),
        (failed_test("lost"), "but unproven: the last pykdump test left no whole dump"),
        ({}, "and proven"),
    ],
)
def test_rehearsed_stands_between_unproven_and_proven(changes: Files, answer: str, tmp_path: Path) -> None:
    findings = doctor.diagnose(facts(tmp_path, changes))
    assert doctor.as_text(findings).splitlines()[0] == f"armed: yes, {answer}"
    told = require_valid("doctor", doctor.as_json(findings))
    assert told["rehearsed"] is ("kernel_sha256" not in changes and "unproven: no" not in answer)


# What start refuses


def live(folder: Path, changes: Files) -> Facts:
    given = facts(folder, {**OURS, **PROGRAMS, **changes}, console=None)
    machine = Machine(given.machine.root, is_live=True)
    return Facts(machine, places=EnoughRoom(folder), log="")


ASKED = ["plans.make", "destination.resolve", "contents", "actions.find_keys"]


@pytest.mark.parametrize("name", ASKED)
def test_what_start_refuses_doctor_tells(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the running machine the very functions are asked that start calls."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for each in ASKED:
        answer = Mock(side_effect=FileError(f"{each} says no", hint="try $(this)") if each == name else None)
        monkeypatch.setattr(f"pykexec.kdump.doctor.starting.{each}", answer)
    (found,) = doctor.diagnose(live(tmp_path, {}), ["V4"])
    assert found.verdict is Verdict.WRONG
    assert found.evidence == (f"{name} says no", "try $(this)")
    assert "$(" not in found.remedy


def test_what_start_would_do_is_told_with_its_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    plan = Mock(kernel="/boot/vmlinuz", warnings=("pykdump sends no mail",))
    monkeypatch.setattr("pykexec.kdump.doctor.starting.plans.make", Mock(return_value=plan))
    monkeypatch.setattr("pykexec.kdump.doctor.starting.destination.resolve", Mock(return_value="xfs"))
    for each in ("contents", "actions.find_keys"):
        monkeypatch.setattr(f"pykexec.kdump.doctor.starting.{each}", Mock())
    (found,) = doctor.diagnose(live(tmp_path, {}), ["V4"])
    assert (found.verdict, found.evidence) == (
        Verdict.FINE,
        ("/boot/vmlinuz", "xfs", "pykdump sends no mail"),
    )


def test_start_is_asked_by_root_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others cannot read what start reads, which says nothing of start."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("pykexec.kdump.doctor.starting.plans.make", Mock(side_effect=AssertionError))
    assert judged_live(tmp_path, "V4").verdict is Verdict.UNKNOWN


def judged_live(folder: Path, name: str) -> Finding:
    (found,) = doctor.diagnose(live(folder, {}), [name])
    return found


def test_a_dump_with_no_place_to_go_to_is_not_armed(tmp_path: Path) -> None:
    """A crash kernel is loaded, and start itself would refuse the target."""
    changes: Files = {**OURS, **PROGRAMS, "proc/self/mounts": "rpool/ROOT/x / zfs rw 0 0\n"}
    findings = doctor.diagnose(facts(tmp_path, changes, console=None))
    first = doctor.first_to_mend(findings)
    assert first is not None
    assert "lies on zfs" in " ".join(first.evidence)
    assert doctor.is_armed(findings) is False
    assert doctor.exit_code(findings) == 3


def test_an_older_snapshot_does_not_tell_of_programs(tmp_path: Path) -> None:
    """Its listing has only what an older doctor asked for: what is not in it may well be there."""
    given = facts(tmp_path, OURS, console=None)
    listing = RecordedFiles({"size": {}, "modified": {}, "free": {}})
    (found,) = doctor.diagnose(Facts(given.machine, places=listing), ["V4"])
    assert found.verdict is Verdict.UNKNOWN


# The one thing to mend first


NOT_LOADED: Files = {"sys/kernel/kexec_crash_loaded": "0\n"}
NOT_RESERVED: Files = {
    **NOT_LOADED,
    "sys/kernel/kexec_crash_size": "0\n",
    "proc/iomem": "1000-3fffffff : System RAM\n",
}
FIRST = [
    (NOT_LOADED, "L17", "pykdump start"),
    ({**NOT_LOADED, "proc/sys/kernel/kexec_load_disabled": "1\n"}, "P3", "reboot"),
    ({**NOT_LOADED, f"boot/initramfs-{RELEASE}kdump.img": None}, "L14", "pykdump start"),
    ({**NOT_RESERVED, **booted("quiet")}, "R1", "pykdump setup"),
    ({**NOT_RESERVED, **booted("crashkernel=auto")}, "R3", "crashkernel="),
    ({**NOT_RESERVED, **booted("crashkernel=2G-:256M")}, "R2", "crashkernel="),
    (
        {**NOT_RESERVED, **booted("crashkernel=2G-:256M"), "usr/sbin/grubby": "x"},
        "R2",
        "grubby --update-kernel=ALL",
    ),
    ({**NOT_LOADED, **DEBIAN, "etc/default/kdump-tools": "USE_KDUMP=0\n"}, "L18", "USE_KDUMP=1"),
    ({"usr/sbin/makedumpfile": None}, "V3", "apt-get install makedumpfile"),
    (conf("ssh u@h.example\n", **{"root/.ssh/kdump_id_rsa": "x"}), "S1", "ssh-keyscan h.example"),
    ({"proc/sys/kernel/panic_on_oops": "0\n"}, None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "name", "command"), FIRST)
def test_the_likeliest_blocker_comes_first(
    changes: Files, name: str | None, command: str, tmp_path: Path
) -> None:
    findings = doctor.diagnose(facts(tmp_path, changes))
    first = doctor.first_to_mend(findings)
    assert (first and first.id) == name
    assert require_valid("doctor", doctor.as_json(findings))["mend_first"] == name
    if first is None:
        return
    text = doctor.as_text(findings).splitlines()
    assert text[1] == f"mend first: {first.cause} ({name})"
    assert command in first.command
    assert f"       $ {first.command}" in text


def test_a_duplicate_that_does_no_harm_is_not_why_nothing_is_loaded(tmp_path: Path) -> None:
    """As update-grub makes it of two files; the reservation is there."""
    changes: Files = {
        **NOT_LOADED,
        **booted("crashkernel=256M crashkernel=256M,high"),
    }
    findings = doctor.diagnose(facts(tmp_path, changes))
    first = doctor.first_to_mend(findings)
    assert first is not None
    assert first.id == "L17"
    assert "crashkernel=256M,high has no effect" in " ".join(finding(findings, "R12").evidence)


@pytest.mark.parametrize(
    ("name", "changes", "programs"),
    [
        ("R7", {"etc/default/grub": 'GRUB_CMDLINE_LINUX="crashkernel=512M"\n'}, ["update-grub", "grubby"]),
        ("L14", {f"boot/initramfs-{RELEASE}kdump.img": None}, ["kdumpctl", "mkdumprd", "kdump-config"]),
        ("S1", conf("ssh u@h.example\n"), ["kdumpctl", "kdump-config"]),
    ],
)
def test_a_remedy_names_what_is_there(
    name: str, changes: Files, programs: list[str], tmp_path: Path
) -> None:
    absent: Files = {"usr/sbin/update-grub": None, **changes}
    for there in programs:
        given = facts(tmp_path / there, {**absent, f"usr/sbin/{there}": "x"})
        (found,) = doctor.diagnose(given, [name])
        assert found.verdict is Verdict.WRONG
        assert [each for each in programs if each in found.remedy] == [there]
    (found,) = doctor.diagnose(facts(tmp_path / "none", absent), [name])
    assert not [each for each in programs if each in found.remedy]


# A configuration that cannot be understood


def judged(path: Path, changes: Files) -> dict[str, Finding]:
    return {each.id: each for each in doctor.diagnose(facts(path, changes))}


BROKEN = conf("pth /var/crash\n")
# What a distribution's configuration says, and nothing else tells.
OF_THE_CONFIGURATION = {
    "L13", "L18", "L20", "L21", "O4", "O5", "P5", "P13", "S1", "S2", "S3", "S4", "S5", "S6", "S9", "S11",
    "S12", "V2", "V3", "V4",
}  # fmt: skip


def test_a_config_error_blinds_no_other_check(tmp_path: Path) -> None:
    """Of what is loaded there is a receipt."""
    locked: Files = {"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"}
    found = judged(tmp_path, {**BROKEN, **locked})
    blind = {name for name, each in found.items() if each.verdict is Verdict.UNKNOWN}
    assert blind == OF_THE_CONFIGURATION
    assert {each.id for each in found.values() if each.verdict is Verdict.WRONG} == {"V1"}
    assert {found[name].cause for name in blind} == {found["V2"].cause}
    text = doctor.as_text(tuple(found.values()), everything=True)
    assert text.count("unknown key 'pth'") == 2, "at the top, and in the list"


def test_a_config_error_without_a_load_blinds_none_of_the_reservation(tmp_path: Path) -> None:
    found = judged(tmp_path, {**BROKEN, **NOT_RESERVED, "run/pykdump/loaded.json": None, **booted("quiet")})
    assert found["R1"].verdict is found["R2"].verdict is Verdict.WRONG
    assert found["L4"].verdict is Verdict.FINE
    first = doctor.first_to_mend(tuple(found.values()))
    assert first is not None
    assert first.id == "R1", "which is worse"


def test_a_config_error_is_the_first_to_mend_where_nothing_is_worse(tmp_path: Path) -> None:
    found = judged(tmp_path / "a", {**BROKEN, **NOT_LOADED})
    first = doctor.first_to_mend(tuple(found.values()))
    assert first is not None
    assert first.id == "V1"
    # What is loaded stays so; a file system that is too full costs the dump before the next start does.
    small = judged(
        tmp_path / "b", {**BROKEN, "boot/vmlinuz-" + RELEASE: FakeBzImage(init_size=250 * MIB).build()}
    )
    first = doctor.first_to_mend(tuple(small.values()))
    assert first is not None
    assert first.id == "R8"


def test_a_damaged_kernel_hides_no_missing_reservation(tmp_path: Path) -> None:
    damaged: Files = {"boot/vmlinuz-" + RELEASE: b"\x1f\x8b\x08" + bytes(100)}
    found = judged(tmp_path, {**NOT_RESERVED, **damaged, **booted("quiet")})
    assert found["R1"].verdict is Verdict.WRONG
    assert "crashkernel=256M" in found["R1"].command


# Machines about which little is known


def test_a_machine_of_no_facts(tmp_path: Path) -> None:
    findings = doctor.diagnose(Facts(Machine.from_snapshot(tmp_path)))
    assert len(findings) == len(doctor.CATALOGUE)
    assert not [each for each in findings if each.verdict is Verdict.WRONG]
    assert all(each.cause for each in findings if each.verdict is Verdict.UNKNOWN)
    assert doctor.is_armed(findings) is None
    assert doctor.exit_code(findings) == 3


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_real_machines(name: str) -> None:
    """None of them had a crash kernel loaded; nothing else was wrong with any."""
    findings = doctor.diagnose(Facts(snapshot(name)))
    assert [each.id for each in findings if each.verdict is Verdict.WRONG] == ["L17"]
    assert doctor.is_armed(findings) is False


# Checks whose answer depends on the architecture; all of them are "fine" on the healthy x86_64 machine.
OF_AN_ARCHITECTURE = ("P12", "R4", "L2", "L4", "L5", "L10", "B7", "B8", "B15", "B17", "O2", "O8")


def test_all_that_architectures_judge_is_among_these() -> None:
    """B4 is, too, but what a console's log shows of it is evidence on any machine."""
    judged_there = {id for row in names.ALL for id in part_of(row.name).checks}
    assert judged_there - {"B4"} < {*OF_AN_ARCHITECTURE}
    assert judged_there <= {check.id for check in doctor.CATALOGUE}


@pytest.mark.parametrize("arch", ["parisc64", "armv7l", "i686", "m68k", "of the future"])
def test_another_architecture_is_fine_only_with_evidence(arch: str, tmp_path: Path) -> None:
    """The same files, which now are evidence of nothing but what they say."""
    identity = json.dumps({"machine": arch, "page_size": 4096})
    changes: Files = {
        "pykexec-snapshot.json": identity,
        "boot/config-" + RELEASE: CONFIG.replace("CONFIG_RELOCATABLE=y\n", ""),
        **appended("irqpoll reset_devices panic=10"),
    }
    found = judged(tmp_path, {**changes, "run/pykdump/loaded.json": None})
    fine = {name for name in OF_AN_ARCHITECTURE if found[name].verdict is Verdict.FINE}
    assert fine <= {"O8", "B8", "B17", "L5"}
    assert (found["L5"].verdict is Verdict.FINE) == (arch == "i686"), "a PC's kernel tells its limit"
    assert found["O8"].verdict is Verdict.FINE, "the kernel's configuration has no CMA, which is evidence"
    assert (found["B17"].verdict is Verdict.FINE) == (arch == "i686"), "a PC has no GIC"
    assert (found["B8"].verdict is Verdict.FINE) == (arch == "i686"), "a PC is no Graviton"
    wrong = {name for name in OF_AN_ARCHITECTURE if found[name].verdict is Verdict.WRONG}
    with_loader = {"armv7l": {"L4", "L10"}, "i686": {"B7", "L4", "L10", "P12"}}
    assert wrong == with_loader.get(arch, set()), "the files are x86_64's"


def test_what_another_architecture_shows_is_evidence(tmp_path: Path) -> None:
    changes: Files = {
        "pykexec-snapshot.json": json.dumps({"machine": "riscv64", "page_size": 4096}),
        "boot/config-" + RELEASE: CONFIG + "CONFIG_CMA_SIZE_MBYTES=64\n",
        "proc/device-tree/cpus/cpu@0/enable-method": b"psci\0",
        "run/pykdump/loaded.json": None,
        **appended(GOOD),
    }
    found = judged(tmp_path, changes)
    assert found["P12"].verdict is Verdict.FINE
    assert found["L2"].verdict is Verdict.UNKNOWN, "what PSCI does is known on arm64"
    assert found["O8"].verdict is Verdict.WRONG


OF_AN_UNKNOWN_KIND: Files = {
    "pykexec-snapshot.json": json.dumps({"machine": "of the future", "page_size": 4096})
}


@pytest.mark.parametrize("command", ["doctor", "doctor --all", "doctor --json", "crashkernel 256M"])
def test_commands_on_a_machine_of_an_unknown_kind(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts(tmp_path, OF_AN_UNKNOWN_KIND)
    status = cli.exit_code([*command.split(), f"--machine={tmp_path}"])
    told = capsys.readouterr()
    assert (status in (0, 1, 3), told.err) == (True, "")
    assert "not known" in told.out or command == "doctor"


def test_what_is_usual_is_not_guessed_for_an_unknown_kind(tmp_path: Path) -> None:
    kernel: Files = {"boot/vmlinuz-" + RELEASE: None}
    found = judged(tmp_path, {**OF_AN_UNKNOWN_KIND, **NOT_RESERVED, **booted("quiet"), **kernel})
    assert found["R1"].verdict is found["R2"].verdict is Verdict.WRONG
    assert "put a crashkernel= on" in found["R1"].remedy
    assert not found["R1"].command


def test_hungry_hardware_is_not_judged_for_an_unknown_kind(tmp_path: Path) -> None:
    modules = {"proc/modules": "mlx5_core 1000 1 - Live 0x0\n"}
    (found,) = doctor.diagnose(facts(tmp_path, {**OF_AN_UNKNOWN_KIND, **modules}), ["R10"])
    assert found.verdict is Verdict.UNKNOWN
    assert "of the future" in found.cause


@pytest.mark.parametrize("line", ["", "nr_cpus=4"])
def test_a_kernel_of_sh_that_dumps_has_one_cpu(line: str, tmp_path: Path) -> None:
    """arch/sh/Kconfig, CRASH_DUMP."""
    identity = {"pykexec-snapshot.json": json.dumps({"machine": "sh4", "page_size": 4096})}
    (found,) = doctor.diagnose(facts(tmp_path, {**identity, **appended(line)}), ["B7"])
    assert found.verdict is Verdict.FINE


def test_the_boot_cpu_of_loongarch64_starts_the_capture_kernel(tmp_path: Path) -> None:
    """Whichever CPU crashed, and whatever nr_cpus= says."""
    identity = {"pykexec-snapshot.json": json.dumps({"machine": "loongarch64", "page_size": 16384})}
    (found,) = doctor.diagnose(facts(tmp_path, {**identity, **appended("nr_cpus=4")}), ["B7"])
    assert found.verdict is Verdict.FINE


@pytest.mark.parametrize("uname", ["ppc64le", "ppc64"])
def test_powerpc_tells_the_capture_kernel_its_boot_cpu(uname: str, tmp_path: Path) -> None:
    identity = {"pykexec-snapshot.json": json.dumps({"machine": uname, "page_size": 65536})}
    found = {
        each.id: each for each in doctor.diagnose(facts(tmp_path, {**identity, **appended("nr_cpus=4")}))
    }
    assert {found[id].verdict for id in ("B7", "B8", "B17")} == {Verdict.FINE}


@pytest.mark.parametrize(
    ("uname", "config", "verdict"),
    [
        # Debian's 6.1: crashkernel= is ignored, and sysfs has its files all the same.
        ("s390x", "CONFIG_KEXEC_CORE=y\n# CONFIG_CRASH_DUMP is not set\n", Verdict.WRONG),
        ("s390x", "CONFIG_KEXEC_CORE=y\nCONFIG_CRASH_DUMP=y\n", Verdict.FINE),
        ("s390x", None, Verdict.FINE),
        # Before 6.9 that option was for capture kernels only.
        ("x86_64", "CONFIG_KEXEC_CORE=y\n# CONFIG_CRASH_DUMP is not set\n", Verdict.FINE),
    ],
)
def test_what_sysfs_shows_of_crash_kernels(
    uname: str, config: str | None, verdict: Verdict, tmp_path: Path
) -> None:
    identity = {"pykexec-snapshot.json": json.dumps({"machine": uname, "page_size": 4096})}
    (found,) = doctor.diagnose(facts(tmp_path, {**identity, "boot/config-" + RELEASE: config}), ["P1"])
    assert found.verdict is verdict
    if verdict is Verdict.WRONG:
        assert found.evidence == ("CONFIG_CRASH_DUMP is off",)


@pytest.mark.parametrize(
    ("uname", "console"),
    [
        ("x86_64", "ttyS0"),
        ("aarch64", "ttyAMA0"),
        ("loongarch64", "ttyS0"),
        ("ppc64le", "hvc0"),
        ("of the future", "its name"),
    ],
)
def test_a_remedy_names_the_architectures_console(uname: str, console: str, tmp_path: Path) -> None:
    identity = {"pykexec-snapshot.json": json.dumps({"machine": uname, "page_size": 4096})}
    changes = {**identity, **booted("crashkernel=256M")}
    (found,) = doctor.diagnose(facts(tmp_path, changes), ["B13"])
    assert console in found.remedy


PACKED = {
    "gzip": gzip.compress(KERNEL),
    "unified kernel image": portable_executable([(".linux", KERNEL), (".osrel", b"ID=x\n")]),
    "vmlinux": executable(bytes(900), 0x1000000, 62),
}


@pytest.mark.parametrize("name", PACKED)
def test_the_line_is_compared_with_what_the_kernel_takes(name: str, tmp_path: Path) -> None:
    """Not with what its container has in that place."""
    kernel: Files = {"boot/vmlinuz-" + RELEASE: PACKED[name]}
    (found,) = doctor.diagnose(facts(tmp_path / "a", kernel), ["L5"])
    assert found.verdict is Verdict.FINE, found
    (found,) = doctor.diagnose(
        facts(tmp_path / "b", {**kernel, **appended(GOOD + " x=" + "y" * 2100)}), ["L5"]
    )
    assert found.verdict is Verdict.WRONG, found


@pytest.mark.parametrize(
    ("machine", "cause"), [(62, ""), (183, "another architecture"), (243, "another architecture")]
)
def test_a_vmlinux_is_for_one_architecture(machine: int, cause: str, tmp_path: Path) -> None:
    data = PACKED["vmlinux"][:18] + machine.to_bytes(2, "little") + PACKED["vmlinux"][20:]
    (found,) = doctor.diagnose(facts(tmp_path, {"boot/vmlinuz-" + RELEASE: data}), ["L4"])
    assert (found.verdict is Verdict.WRONG) == bool(cause)
    assert cause in found.cause


DAMAGED: Files = {
    "boot/config-" + RELEASE: b"\xff\0\xfe" * 50,
    "boot/vmlinuz-" + RELEASE: KERNEL[:700],
    "etc/kdump.conf": "path\n",
    "proc/iomem": "nonsense\n",
    "proc/kcore": b"\x7fELF",
    "proc/meminfo": "MemAvailable: many kB\n",
    "proc/modules": "\0\n\n",
    "proc/self/mounts": "a\nb c\n\\999 \\0 \\777 x\n",
    "proc/self/status": "CapEff:\tx\n",
    "sys/kernel/kexec_crash_loaded": "perhaps\n",
    "var/lib/dpkg/status": "Package: makedumpfile\n",
}


@pytest.mark.parametrize("name", [*DAMAGED, "all"])
def test_damaged_facts(name: str, tmp_path: Path) -> None:
    changes = DAMAGED if name == "all" else {name: DAMAGED[name]}
    findings = doctor.diagnose(facts(tmp_path, changes, console="\0\x1b[\r" * 100))
    assert len(findings) == len(doctor.CATALOGUE)
    require_valid("doctor", doctor.as_json(findings))
    assert doctor.as_text(findings, everything=True).replace("\n", "").isprintable()


def test_kernel_configuration_from_proc(tmp_path: Path) -> None:
    changes: Files = {"boot/config-" + RELEASE: None, "proc/config.gz": gzip.compress(CONFIG.encode())}
    assert finding(doctor.diagnose(facts(tmp_path, changes)), "P11").verdict is Verdict.FINE
    write(tmp_path, "proc/config.gz", b"\x1f\x8b\x08xxx")
    machine = Machine.from_snapshot(tmp_path)
    assert finding(doctor.diagnose(Facts(machine)), "P11").verdict is Verdict.UNKNOWN


# The kernel's log


def test_kernel_log_records() -> None:
    """The example of Documentation/ABI/testing/dev-kmsg, and what else printk writes there."""
    records = [
        b"7,160,424069,-;pci_root PNP0A03:00: host bridge window [io  0x0000-0x0cf7] (ignored)\n"
        b" SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n",
        b"30,340,5690716,-;udevd[80]: starting version 181\n",
        b"4,341,5690717,c;two\\x0alines\n",
        b"nonsense\n",
        b"6,1,x,-;y\n",
        b"",
    ]
    assert kernel_log.as_text(records) == (
        "[    0.424069] pci_root PNP0A03:00: host bridge window [io  0x0000-0x0cf7] (ignored)\n"
        "[    5.690716] udevd[80]: starting version 181\n"
        "[    5.690717] two\n"
        "[    5.690717] lines\n"
    )


def test_an_old_initramfs_of_debian_reads_its_configuration_later(tmp_path: Path) -> None:
    image = "var/lib/kdump/initrd.img"
    changes: Files = {
        **DEBIAN,
        "etc/default/kdump-tools": "USE_KDUMP=1\n"
        f"KDUMP_KERNEL=/boot/vmlinuz-{RELEASE}\nKDUMP_INITRD=/{image}\n",
        image: archive(100),
    }
    given = facts(tmp_path, changes)
    os.utime(tmp_path / "boot" / f"vmlinuz-{RELEASE}", (1, 1))
    os.utime(tmp_path / image, (2, 2))
    assert finding(doctor.diagnose(given, ["L14"]), "L14").verdict is Verdict.FINE
    os.utime(tmp_path / image, (0, 0))
    assert finding(doctor.diagnose(given, ["L14"]), "L14").verdict is Verdict.WRONG


def test_pykdump_keeps_its_own_image_up_to_date(tmp_path: Path) -> None:
    """What its age says of a distribution's image says nothing of ours."""
    given = facts(
        tmp_path, {f"boot/initramfs-{RELEASE}kdump.img": None, f"var/lib/pykdump/initrd-{RELEASE}.img": "x"}
    )
    os.utime(tmp_path / f"var/lib/pykdump/initrd-{RELEASE}.img", (0, 0))
    found = finding(doctor.diagnose(given, ["L14"]), "L14")
    assert found.verdict is Verdict.FINE
    assert "made anew by pykdump start" in found.evidence[0]


# Snapshots for it


def test_a_snapshot_tells_as_much(tmp_path: Path) -> None:
    """All but what takes the contents of kernel and initramfs, or the process that loads."""
    tree = tmp_path / "machine"
    tree.mkdir()
    changes: Files = {"usr/sbin/makedumpfile": None, **NOT_LOADED, "proc/sys/kernel/panic_on_oops": "0\n"}
    given = facts(tree, changes, console=None, places=HostFiles)
    tar = tmp_path / "machine.tar"
    write_snapshot(
        given.machine, tar, for_machine(given.machine).facts, collect.contents(given.machine, tree)
    )
    machine = Machine.from_snapshot(tar)
    listing = RecordedFiles(read_object(machine.root, LISTING) or {})
    here, there = doctor.diagnose(given), doctor.diagnose(Facts(machine, places=listing))
    for one, other in zip(here, there, strict=True):
        if one.id not in ("P2", "P14", "R8", "O3", "L1", "L4", "L5", "L6", "L8", "L10"):
            assert one.verdict == other.verdict, one.id
            assert one.evidence == other.evidence or one.id == "S3", "how much room there is others change"
    assert {each.id for each in there if each.verdict is Verdict.WRONG} == {"L17", "V3", "T1"}
    assert doctor.first_to_mend(there) == doctor.first_to_mend(here)


def test_a_snapshot_of_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command, and what doctor says of what it wrote, packed and unpacked."""
    tar, folder = tmp_path / "machine.tar", tmp_path / "machine"
    assert cli.exit_code(["snapshot", str(tar)]) == 0
    with tarfile.open(tar) as opened:
        opened.extractall(folder)
    capsys.readouterr()
    told = []
    for place in ("/", str(tar), str(folder)):
        cli.exit_code(["doctor", "--json", "--machine", place])
        told.append(json.loads(capsys.readouterr().out))
    wrong = [{each["id"] for each in one["findings"] if each["verdict"] == "wrong"} for one in told]
    assert wrong[1] == wrong[2] <= wrong[0] | {"P1"}
    assert told[1] == told[2]


def test_what_a_snapshot_would_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list is that of the archive, sizes included, and nothing is written."""
    tar = tmp_path / "machine.tar"
    assert cli.exit_code(["snapshot", "--list", str(tar)]) == 0
    listed = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert not tar.exists()
    assert cli.exit_code(["snapshot", str(tar)]) == 0
    with tarfile.open(tar) as opened:
        sizes = {each.name: each.size for each in opened.getmembers()}
    assert [name for _, name in listed] == list(sizes)
    steady = {name: size for name, size in sizes.items() if name.startswith(("sys/", "boot/", "etc/"))}
    assert {name: int(size) for size, name in listed if name in steady} == steady
    assert cli.exit_code(["snapshot"]) == 1
    assert "missing argument FILE" in capsys.readouterr().err


@pytest.mark.parametrize("content", [{}, {"size": 1, "modified": {}, "free": {}}])
def test_a_damaged_listing(content: dict[str, object]) -> None:
    with pytest.raises(FileError, match="damaged"):
        RecordedFiles(content)


def test_a_listing_with_nonsense() -> None:
    listing = RecordedFiles({"size": {"/a": "x"}, "modified": {"/a": []}, "free": {"/a": {}}})
    assert (listing.size("/a"), listing.modified("/a"), listing.free("/a")) == (None, None, None)


@pytest.mark.parametrize("path", [LISTING, IDENTITY, "run/pykdump/loaded.json"])
@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"a":' * 100_000, "[[]," * 4_000_000])
def test_damaged_json_in_a_snapshot(
    path: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "machine"
    unpacked("qemu-6.1-1g", folder, {path: text, "sys/kernel/kexec_crash_loaded": "1\n"})
    with takes_at_most(64 << 20):
        cli.exit_code(["doctor", "--machine", str(folder)])
    told = capsys.readouterr()
    assert len(told.err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("path", "piece"),
    [
        ("proc/cmdline", "a "),
        ("proc/iomem", "0-1 : a\n"),
        ("proc/self/mounts", "a b c\n"),
        ("proc/modules", "a 1 \n"),
        ("etc/default/grub", "a=1\n"),
        ("boot/loader/entries/a.conf", "crashkernel=1 "),
        ("boot/config-6.1.0-50-cloud-amd64", "CONFIG_A=y\n"),
        ("sys/firmware/efi/systab", "a=1\n"),
        ("var/log/dmesg", "kexec tdx disabled "),
        ("var/log/audit/audit.log", "denied \n"),
        ("var/lib/dpkg/status", "Package: makedumpfile\n"),
        ("proc/sys/kernel/osrelease", "6."),
    ],
)
@pytest.mark.slow
def test_facts_of_any_size(path: str, piece: str, tmp_path: Path) -> None:
    """15 MiB of each: a few KiB of a packed snapshot."""
    machine = unpacked("qemu-6.1-1g", tmp_path, {path: piece * (15 * MIB // len(piece))})
    stopwatch = Stopwatch()
    with takes_at_most(160 * MIB):
        doctor.diagnose(Facts(machine))
    assert stopwatch.seconds() < 4, "twice as long as without tracing what is allocated"


CONTAINERS = {
    "gzip": gzip.compress(KERNEL, mtime=0),
    "unified kernel image": portable_executable([(".linux", KERNEL), (".cmdline", b"quiet")]),
    "uImage": uimage(KERNEL),
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize(("length", "verdict"), [(1900, Verdict.FINE), (2100, Verdict.WRONG)])
def test_how_long_a_command_line_a_packed_kernel_takes(
    name: str, length: int, verdict: Verdict, tmp_path: Path
) -> None:
    """By the kernel's own header, not by what a container has at that place."""
    words = GOOD + " x=" + "y" * (length - len(CAPTURE_LINE))
    changes: Files = {"boot/vmlinuz-" + RELEASE: CONTAINERS[name], **appended(words)}
    found = finding(doctor.diagnose(facts(tmp_path, changes), only=["L5"]), "L5")
    assert found.verdict is verdict
    assert found.evidence[0].endswith(" characters of 2047")


def test_how_long_a_command_line_another_machine_takes(tmp_path: Path) -> None:
    given = facts(tmp_path, {"pykexec-snapshot.json": '{"machine": "mips64", "page_size": 4096}'})
    found = finding(doctor.diagnose(given, only=["L5"]), "L5")
    assert (found.verdict, "mips64" in found.cause) == (Verdict.UNKNOWN, True)


def test_what_fails_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reader is counted: a damaged file is as much work as a good one, however many checks need it."""
    calls = Counter[str]()

    def counted(name: str, read: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            calls[name] += 1
            return read(*arguments)

        return call

    for module, name in ((config, "read"), (kcore, "read"), (iomem, "parse"), (sysfs, "read_object")):
        monkeypatch.setattr(module, name, counted(f"{module.__name__}.{name}", getattr(module, name)))
    damaged: Files = {
        "etc/kdump.conf": "no such option\n",
        "proc/kcore": b"no kcore",
        "proc/iomem": "no iomem\n",
        IDENTITY: "[",
    }
    doctor.diagnose(facts(tmp_path, damaged))
    assert set(calls.values()) == {1}, calls
    assert len(calls) == 4


# Reports


def test_report_as_json(tmp_path: Path) -> None:
    findings = doctor.diagnose(facts(tmp_path, {"sys/kernel/kexec_crash_loaded": "0\n"}))
    report = require_valid("doctor", doctor.as_json(findings))
    assert (report["schema"], report["armed"]) == (doctor.SCHEMA, False)
    (found,) = (each for each in report["findings"] if each["verdict"] == "wrong")
    assert (found["id"], found["stage"], found["evidence"]) == ("L17", "load", ["kexec_crash_loaded = 0"])
    assert {"title", "cause", "remedy"} <= set(found)
    assert doctor.exit_code(findings) == 3


def test_report_as_text(tmp_path: Path) -> None:
    findings = doctor.diagnose(facts(tmp_path, {"proc/sys/kernel/panic_on_oops": "0\n"}))
    text = doctor.as_text(findings)
    assert text == (
        "armed: yes, and proven\n"
        "trigger:\n"
        "  T1   wrong: an oops kills a process and leaves no dump\n"
        "         kernel.panic_on_oops = 0\n"
        "       > kernel.panic_on_oops=1 in /etc/sysctl.d\n"
        f"{len(findings) - 1} fine, 1 wrong, 0 cannot tell\n"
    )
    assert doctor.exit_code(findings) == 1
    everything = doctor.as_text(findings, everything=True)
    assert all(f"  {each.id} " in everything for each in findings)


def test_facts_of_the_catalogue_are_collected() -> None:
    """Every fact a snapshot is to hold is a relative path or a pattern of one."""
    assert len(set(doctor.FACTS)) == len(doctor.FACTS)
    assert not [path for path in doctor.FACTS if path.startswith("/")]


def test_free_room_as_stat_tells_it(tmp_path: Path) -> None:
    done = subprocess.run(["stat", "-f", "-c", "%f %S", tmp_path], capture_output=True, check=True)
    blocks, size = map(int, done.stdout.split())
    free = HostFiles(tmp_path).free("/no/such/folder")
    assert free is not None
    assert abs(free - blocks * size) < GIB, "others write, too"
    assert HostFiles(None).free("/") is None
    assert HostFiles(None).size("/etc/passwd") is None


def test_processes_that_end_while_they_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "1/fd").mkdir(parents=True)
    (tmp_path / "1/fd/0").symlink_to("/dev/null")
    (tmp_path / "2").mkdir()
    (tmp_path / "self").mkdir()
    assert list(descriptors(tmp_path)) == [tmp_path / "1/fd/0"]


@pytest.mark.parametrize("end", ["\r", "\x1e", "\u2028"], ids=ascii)
def test_no_user_s_mount_hides_where_dumps_go(tmp_path: Path, end: str) -> None:
    """Any user can mount something in a folder of that name."""
    user = f"mine /home/user/x{end}a\u2003/var/crash\u2003tmpfs fuse.mine rw 0 0\n"
    write(tmp_path, "proc/self/mounts", f"/dev/vdb1 /var/crash xfs rw 0 0\n{user}")
    found = Facts(Machine.from_snapshot(tmp_path)).mount_of("/var/crash/x")
    assert found is not None
    assert found.type == "xfs"
