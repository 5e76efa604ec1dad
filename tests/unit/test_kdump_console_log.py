"""Console logs: lines that real kernels, makedumpfile and our purgatory wrote when a capture went wrong."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.kdump.console.diagnosis import Stage, as_json, as_text, diagnose, parse, tail
from pykexec.kdump.console.rules import RULES, Rule
from tests.support.footprint import takes_at_most
from tests.support.growth import QUADRATIC_SUSPECTED, growth
from tests.support.schemas import require_valid
from tests.support.stopwatch import Stopwatch

BANNER = "[    0.000000] Linux version 6.1.0-50-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP\n"
FIRST = (
    BANNER
    + "[    0.066350] Kernel command line: console=ttyS0 panic=-1 crashkernel=256M\n"
    + "[    2.0] Run /init as init process\n"
)
PANIC = "[    5.1] Kernel panic - not syncing: sysrq triggered crash\n"
LOADED = "[    5.1] CPU: 0 PID: 121 Comm: then Kdump: loaded Not tainted 6.1.0-50-cloud-amd64 #1\n"
NOT_LOADED = "[    5.1] CPU: 1 PID: 116 Comm: then Not tainted 6.1.0-50-cloud-amd64 #1\n"
OFFSET = (
    "[    5.1] Kernel Offset: 0x31800000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000)\n"
)
ON_THE_WAY = (
    "[    5.2] Starting crashdump kernel...\n[    5.3] Bye!\n"
    "purgatory: verifying 4 regions\npurgatory: starting the kernel\n"
)
CRASH = FIRST + PANIC + LOADED
SECOND = (
    BANNER
    + "[    0.0] Kernel command line: elfcorehdr=0x1a000000 console=ttyS0 panic=-1 nr_cpus=1 reset_devices\n"
)
USERLAND = "[    1.9] Run /init as init process\n"
SAVED = "The dumpfile is saved to /out/vmcore.\n\nmakedumpfile Completed.\n"
NO_ROOT = (
    '[    1.46] VFS: Cannot open root device "(null)" or unknown-block(0,0): error -6\n'
    "[    1.47] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n"
)
FULL = (
    "The kernel version is not supported.\nThe makedumpfile operation may be incomplete.\n"
    "Copying data : [  0.0 %]\rCopying data : [100.0 %]\n"
    "Can't write the dump file(/s/vmcore). No space left on device\n\nmakedumpfile Failed.\n"
)

# With a crash kernel loaded, oops_end() goes over to it without a panic (arch/x86/kernel/dumpstack.c).
OOPS = (
    "[    5.0] BUG: kernel NULL pointer dereference, address: 0000000000000000\n"
    "[    5.0] #PF: supervisor write access in kernel mode\n"
    "[    5.0] Oops: 0002 [#1] PREEMPT SMP PTI\n"
    "[    5.0] RIP: 0010:sysrq_handle_crash+0x16/0x20\n"
)
UP = SECOND + USERLAND

CASES = [
    ("nothing at all", "", Stage.NO_CRASH, ""),
    ("no crash", FIRST, Stage.NO_CRASH, ""),
    ("an ordinary reboot", FIRST + FIRST, Stage.NO_CRASH, ""),
    ("not loaded", FIRST + PANIC + NOT_LOADED + OFFSET, Stage.NOT_LOADED, "L17"),
    (
        "not loaded on arm64",
        FIRST + PANIC + NOT_LOADED + "[    5.1] Memory Limit: none\n",
        Stage.NOT_LOADED,
        "L17",
    ),
    (
        "not loaded, and booted again",
        FIRST + PANIC + NOT_LOADED + "[    5.2] Rebooting in 10 seconds..\n" + FIRST,
        Stage.NOT_LOADED,
        "L17",
    ),
    ("instant reset", CRASH, Stage.NO_SECOND_KERNEL, "B18"),
    ("let go and never seen again", CRASH + "[    5.3] Bye!\n", Stage.NO_SECOND_KERNEL, "B18"),
    ("instant reset and an ordinary boot", CRASH + FIRST, Stage.NO_SECOND_KERNEL, "B18"),
    (
        "our purgatory found damage",
        CRASH
        + "purgatory: verifying 4 regions\n"
        + "purgatory: region kernel is damaged: 14149568 bytes at 0x2a000000\n"
        + "purgatory: resetting the machine\n",
        Stage.PURGATORY,
        "B3",
    ),
    (
        "the C tool's purgatory did",
        CRASH + "I'm in purgatory\nsha256 digests do not match :(\n",
        Stage.PURGATORY,
        "B3",
    ),
    ("a second kernel without a word", CRASH + ON_THE_WAY, Stage.KERNEL, "B18"),
    (
        "an early panic",
        CRASH + SECOND + "[    0.2] Kernel panic - not syncing: Fatal exception\n",
        Stage.KERNEL,
        "B18",
    ),
    ("a hang", CRASH + SECOND + "[    1.0] ahci 0000:00:1f.2: enabling device\n", Stage.KERNEL, "B9"),
    (
        "no memory for the kernel",
        CRASH
        + SECOND
        + "[    0.6] swapper/0 invoked oom-killer: gfp_mask=0x2cc2, order=0, oom_score_adj=0\n"
        + "[    0.6] Out of memory and no killable processes...\n"
        + "[    0.6] Kernel panic - not syncing: System is deadlocked on memory\n",
        Stage.OUT_OF_MEMORY,
        "O1",
    ),
    (
        "no memory for makedumpfile",
        CRASH
        + SECOND
        + USERLAND
        + "[    9.0] makedumpfile invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0\n"
        + "[    9.0] Out of memory: Killed process 77 (makedumpfile) total-vm:1024kB\n",
        Stage.OUT_OF_MEMORY,
        "O4",
    ),
    (
        "a full initramfs",
        CRASH + SECOND + "[    1.0] Initramfs unpacking failed: write error\n" + NO_ROOT,
        Stage.OUT_OF_MEMORY,
        "O3",
    ),
    (
        "a damaged initramfs",
        CRASH
        + SECOND
        + "[    1.0] Initramfs unpacking failed: invalid magic at start of compressed archive\n"
        + NO_ROOT,
        Stage.INITRD,
        "B2",
    ),
    ("no initramfs", CRASH + SECOND + NO_ROOT, Stage.ROOT, "B11"),
    (
        "no init",
        CRASH + SECOND + "[    1.0] Kernel panic - not syncing: No working init found.\n",
        Stage.INITRD,
        "B11",
    ),
    (
        "RAMDISK",
        CRASH
        + SECOND
        + "[    0.0] Kernel panic - not syncing: Cannot find place for new RAMDISK of size 9\n",
        Stage.KERNEL,
        "B5",
    ),
    (
        "trampoline",
        CRASH + SECOND + "[    0.0] Kernel panic - not syncing: Cannot allocate trampoline\n",
        Stage.KERNEL,
        "B6",
    ),
    ("a full disk", CRASH + SECOND + USERLAND + FULL, Stage.DISK_FULL, "S3"),
    (
        "an old makedumpfile",
        CRASH
        + SECOND
        + USERLAND
        + "PAGE SIZE 0x1000 and VA Bits 52 not supported\n\nmakedumpfile Failed.\n",
        Stage.COLLECTOR,
        "S8",
    ),
    (
        "wrong core headers",
        CRASH + SECOND + USERLAND + "Can't get the address of system_utsname.\n\nmakedumpfile Failed.\n",
        Stage.COLLECTOR,
        "S10",
    ),
    (
        "no vmcore",
        CRASH
        + SECOND
        + USERLAND
        + "open_dump_memory: Can't open the dump memory(/proc/vmcore). No such file or directory\n",
        Stage.COLLECTOR,
        "P11",
    ),
    (
        "no memory for bitmaps",
        CRASH
        + SECOND
        + USERLAND
        + "Can't allocate memory for the 1st bitmaps's buffer. Cannot allocate memory\n",
        Stage.OUT_OF_MEMORY,
        "O4",
    ),
    ("makedumpfile failed", CRASH + SECOND + USERLAND + "makedumpfile Failed.\n", Stage.COLLECTOR, "S14"),
    ("a refused key", CRASH + SECOND + USERLAND + "Host key verification failed.\n", Stage.TARGET, "S1"),
    (
        "no server",
        CRASH + SECOND + USERLAND + "ssh: connect to host 192.0.2.1 port 22: No route to host\n",
        Stage.TARGET,
        "S1",
    ),
    (
        "no NFS",
        CRASH + SECOND + USERLAND + "mount.nfs: access denied by server while mounting h:/x\n",
        Stage.TARGET,
        "S2",
    ),
    (
        "no disk in dracut",
        CRASH
        + SECOND
        + USERLAND
        + "dracut-initqueue[300]: Warning: dracut-initqueue timeout - starting timeout scripts\n",
        Stage.ROOT,
        "S7",
    ),
    (
        "no disk in initramfs-tools",
        CRASH + SECOND + USERLAND + "ALERT!  UUID=1-2 does not exist.  Dropping to a shell!\n",
        Stage.ROOT,
        "S7",
    ),
    ("up, and no dump", CRASH + SECOND + USERLAND + "hello\n", Stage.USERLAND, "S14"),
    ("saved", CRASH + SECOND + USERLAND + SAVED, Stage.SAVED, ""),
    (
        "saved by Debian",
        CRASH + SECOND + "kdump-tools[5]: kdump-config: saved vmcore in /var/crash/1\n",
        Stage.SAVED,
        "",
    ),
    ("saved by Fedora", CRASH + SECOND + "kdump[5]: saving vmcore complete\n", Stage.SAVED, ""),
    (
        "saved by a quiet kernel",
        CRASH + "kdump[5]: saving vmcore\nkdump[5]: saving vmcore complete\n",
        Stage.SAVED,
        "",
    ),
    (
        "a quiet kernel's missing disk",
        CRASH
        + "pykdump: capture system of 6.1\npykdump: the dump target 1-2 does not exist: no disk has it\n",
        Stage.ROOT,
        "S7",
    ),
    ("a quiet kernel's full disk", CRASH + FULL, Stage.DISK_FULL, "S3"),
    ("saved, and booted again", CRASH + SECOND + USERLAND + SAVED + FIRST, Stage.SAVED, ""),
    (
        "saved, and then lost",
        CRASH
        + UP
        + SAVED
        + "[    9.0] I/O error, dev vda, sector 8 op 0x1\npykdump: saving vmcore failed\n",
        Stage.TARGET,
        "S14",
    ),
    (
        "saved in another place in the end",
        CRASH + UP + FULL + "pykdump: saving vmcore failed\npykdump: saving vmcore complete\n",
        Stage.SAVED,
        "",
    ),
    ("only the last crash counts", CRASH + SECOND + SAVED + CRASH + SECOND + FULL, Stage.DISK_FULL, "S3"),
    ("an oops", FIRST + OOPS + UP + SAVED, Stage.SAVED, ""),
    ("an oops and a full disk", FIRST + OOPS + UP + FULL, Stage.DISK_FULL, "S3"),
    ("an oops on arm64", FIRST + OOPS + "[    5.1] Bye!\n", Stage.NO_SECOND_KERNEL, "B18"),
    ("an oops that nobody made a crash of", FIRST + OOPS, Stage.NO_CRASH, ""),
    ("an oops that was the last word", FIRST + OOPS + LOADED, Stage.NO_SECOND_KERNEL, "B18"),
    (
        "an oops that was not",
        FIRST + OOPS + LOADED + "[    5.2] ---[ end trace 0000000000000000 ]---\n",
        Stage.NO_CRASH,
        "",
    ),
    (
        "a reset, and what firmware says",
        CRASH + "[    5.3] Bye!\nU-Boot 2024.01\nDRAM: 1 GiB\n",
        Stage.NO_SECOND_KERNEL,
        "B18",
    ),
    ("an oops, and an ordinary boot", FIRST + OOPS + FIRST, Stage.NO_CRASH, ""),
    ("a log that begins with the capture kernel", UP + FULL, Stage.DISK_FULL, "S3"),
    ("one that does, and is all right", UP + SAVED + FIRST, Stage.SAVED, ""),
    ("a loader that speaks of elfcorehdr", FIRST + "kexec -d: elfcorehdr 0x1a000000\n", Stage.NO_CRASH, ""),
    (
        "init ended",
        CRASH + UP + "[    2.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n",
        Stage.INITRD,
        "B11",
    ),
    (
        "no memory early",
        CRASH
        + SECOND
        + "[    0.0] Kernel panic - not syncing: x: Failed to allocate 8388608 bytes align=0x40\n",
        Stage.OUT_OF_MEMORY,
        "O1",
    ),
    (
        "no memory for DMA",
        CRASH
        + SECOND
        + "[    1.0] nvme 0000:00:01.0: swiotlb buffer is full (sz: 327680 bytes), total 32768\n",
        Stage.OUT_OF_MEMORY,
        "O2",
    ),
    (
        "no memory to unlock",
        CRASH + UP + "[    9.0] Out of memory: Killed process 99 (cryptsetup) total-vm:1024kB\n",
        Stage.OUT_OF_MEMORY,
        "O5",
    ),
    (
        "headers that make no sense",
        CRASH + SECOND + "[    0.9] Kdump: vmcore not initialized\n" + USERLAND,
        Stage.COLLECTOR,
        "S10",
    ),
    (
        "a full thin pool",
        CRASH
        + UP
        + "[    3.0] device-mapper: thin: 253:2: switching pool to out-of-data-space (queue IO) mode\n"
        + FULL,
        Stage.DISK_FULL,
        "S9",
    ),
    (
        "a target that takes nothing any more",
        CRASH
        + UP
        + "pykdump: saving vmcore\npykdump: no progress for 600 seconds: ending it\nKilled\n"
        + "pykdump: saving vmcore failed\n",
        Stage.COLLECTOR,
        "S14",
    ),
    (
        "a card that does not send",
        CRASH + UP + "[   30.0] NETDEV WATCHDOG: eth0 (mlx5_core): transmit queue 0 timed out\n",
        Stage.TARGET,
        "B16",
    ),
    (
        "no iSCSI session",
        CRASH + UP + "iscsistart: initiator reported error (8 - connection timed out)\n",
        Stage.TARGET,
        "S12",
    ),
    ("a locked disk", CRASH + UP + "Please enter passphrase for disk luks-1: \n", Stage.ROOT, "L13"),
    (
        "a file server that stops",
        CRASH
        + UP
        + "pykdump: 192.0.2.1 does not answer any more: ending what waits for it\n"
        + "The kernel version is not supported.\nmakedumpfile Failed.\npykdump: saving vmcore failed\n",
        Stage.TARGET,
        "S14",
    ),
    (
        "an iSCSI server that stops",
        CRASH
        + UP
        + "[  181.1]  session1: session recovery timed out after 120 secs\n"
        + "[  181.2] EXT4-fs error (device sda): ext4_journal_check_start:83: aborted journal\n",
        Stage.TARGET,
        "S14",
    ),
    (
        "an NVMe server that stops",
        CRASH
        + UP
        + "[  272.8] nvme nvme0: Removing controller...\n"
        + "[  272.9] EXT4-fs error (device nvme0n1): ext4_journal_check_start:83: aborted journal\n",
        Stage.TARGET,
        "S14",
    ),
    ("a disk that fails", CRASH + UP + "[ 3.0] I/O error, dev vda, sector 8 op 0x1\n", Stage.TARGET, "S14"),
    ("a damaged file system", CRASH + UP + "pykdump: cannot mount /dev/vda (ext4)\n", Stage.TARGET, "S15"),
    (
        "no disk in our image",
        CRASH + UP + "pykdump: the dump target 1-2 does not exist: no disk has it\n",
        Stage.ROOT,
        "S7",
    ),
    (
        "no card in our image",
        CRASH + UP + "pykdump: no network card has the address 52:54\n",
        Stage.ROOT,
        "S7",
    ),
    ("no share in our image", CRASH + UP + "pykdump: mount.cifs: cannot mount //h/s\n", Stage.TARGET, "S2"),
    ("no login in our image", CRASH + UP + "pykdump: ssh: cannot log in to a@b\n", Stage.TARGET, "S1"),
    (
        "no crash for our image",
        CRASH + UP + "pykdump: /proc/vmcore does not exist\n",
        Stage.COLLECTOR,
        "P11",
    ),
    (
        "a mount through no route",
        CRASH + UP + "mount.nfs: No route to host\npykdump: mount.nfs: cannot mount h:/x\n",
        Stage.TARGET,
        "S2",
    ),
    (
        "no share for our image",
        CRASH + UP + "mount: Permission denied\npykdump: mount.cifs: cannot mount //192.0.2.1/dumps\n",
        Stage.TARGET,
        "S2",
    ),
    ("no dump wanted", CRASH + UP + "pykdump: no dump is wanted\n", Stage.USERLAND, "S14"),
    (
        "arm64 tells of the headers",
        CRASH
        + ON_THE_WAY
        + BANNER
        + "[    0.0] OF: fdt: Reserving 0 KiB of memory at 0x7abff000 for elfcorehdr\n"
        + USERLAND
        + SAVED,
        Stage.SAVED,
        "",
    ),
]


@pytest.mark.parametrize(
    ("text", "stage", "finding"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_where_it_stopped(text: str, stage: Stage, finding: str) -> None:
    for variant in (text, text.replace("\n", "\r\n"), "\x1b[2J\x1b[1;1H" + text):
        ending = diagnose(parse(variant))
        assert (ending.stage, ending.finding) == (stage, finding), ending
        assert ending.cause
        assert ending.remedy or stage is Stage.SAVED
        lines = variant.split("\n")
        for line in ending.evidence:
            assert line.text in lines[line.number - 1].replace("\r", "")


RECORDED = sorted(Path(__file__).parent.parent.glob("cases/console-*"))


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)
def test_what_real_machines_wrote(folder: Path) -> None:
    ending = diagnose(parse((folder / "console.log").read_text()))
    expected = json.loads((folder / "expected.json").read_text())
    assert (ending.stage.name.lower(), ending.finding) == (expected["stage"], expected["finding"]), ending
    for words in expected["shows"]:
        assert words in as_text(ending)


# Of each kind further wordings: what the capture kernel and its system write, and what the answer holds.

TRACE = (
    "[    3.2] Call Trace:\n[    3.2]  <TASK>\n[    3.2]  ? __die_body+0x1a/0x60\n"
    "[    3.2]  hpsa_init_one+0x2f/0x5c0 [hpsa]\n[    3.2]  local_pci_probe+0x42/0x90\n"
)
OLD_MAKEDUMPFILE = (
    "The kernel version is not supported.\nThe makedumpfile operation may be incomplete.\n"
    "Copying data : [100.0 %]\n"
)

OOPSES = [
    ("x86 before 5.1", "[ 3.1] BUG: unable to handle kernel paging request at ffffc90000b4a000\n" + TRACE),
    (
        "general protection fault",
        "[ 3.1] general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP\n"
        + TRACE,
    ),
    ("6.11's", "[ 3.1] Oops: general protection fault, kernel NULL pointer: 0000 [#1] SMP NOPTI\n" + TRACE),
    (
        "BUG()",
        "[ 3.1] kernel BUG at drivers/scsi/hpsa.c:8123!\n[ 3.1] invalid opcode: 0000 [#1] SMP\n" + TRACE,
    ),
    ("a division", "[ 3.1] divide error: 0000 [#1] PREEMPT SMP\n" + TRACE),
    ("no stack left", "[ 3.1] BUG: stack guard page was hit at 00000000 (stack is 0..1)\n" + TRACE),
    (
        "arm64",
        "[ 3.1] Unable to handle kernel paging request at virtual address dead4ead00000000\n"
        "[ 3.1] Internal error: Oops: 0000000096000044 [#1] SMP\n"
        "[ 3.1] pc : hpsa_init_one+0x2f/0x5c0 [hpsa]\n[ 3.1] lr : local_pci_probe+0x42/0x90\n",
    ),
    (
        "an external abort on arm64, with build ids",
        "[ 3.1] Internal error: synchronous external abort: 0000000096000210 [#1] SMP\n"
        "[ 3.1] pc : readl+0x4/0x8 [hpsa 0123456789abcdef0123456789abcdef01234567]\n",
    ),
    ("arm", "[ 3.1] Internal error: Oops: 17 [#1] SMP ARM\n[ 3.1] PC is at probe+0x10/0x20 [hpsa]\n"),
    (
        "powerpc",
        "[ 3.1] BUG: Unable to handle kernel data access at 0x5deadbeef0000112\n"
        "[ 3.1] Oops: Kernel access of bad area, sig: 11 [#1]\n"
        "[ 3.1] NIP [c008000000b41234] hpsa_init_one+0x2c/0x5c0 [hpsa]\n",
    ),
    (
        "s390",
        "[ 3.1] Unable to handle kernel pointer dereference in virtual kernel address space\n"
        "[ 3.1] Oops: 0004 ilc:3 [#1] SMP\n"
        "[ 3.1] Krnl PSW : 0704c00180000000 000003ff8013a2c4 (hpsa_init_one+0x2c/0x5c0 [hpsa])\n",
    ),
    (
        "riscv",
        "[ 3.1] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008\n"
        "[ 3.1] Oops [#1]\n[ 3.1] epc : hpsa_init_one+0x2c/0x5c0 [hpsa]\n",
    ),
    (
        "loongarch",
        "[ 3.1] CPU 0 Unable to handle kernel paging request at virtual address 0000000000000008\n"
        "[ 3.1] Oops[#1]:\n[ 3.1]    ERA: ffff800002a4c02c hpsa_init_one+0x2c/0x5c0 [hpsa]\n",
    ),
    ("a soft lockup", "[ 30.1] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [modprobe:88]\n" + TRACE),
    ("a soft lockup of old", "[ 30.1] BUG: soft lockup - CPU#0 stuck for 22s! [modprobe:88]\n" + TRACE),
    ("a hard lockup", "[ 30.1] watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 0\n" + TRACE),
    ("an RCU stall", "[ 30.1] rcu: INFO: rcu_preempt self-detected stall on CPU\n" + TRACE),
    (
        "an RCU stall of old",
        "[ 30.1] INFO: rcu_sched detected stalls on CPUs/tasks: { 1} (t=60002)\n" + TRACE,
    ),
]
PANICS = ["", "[ 4.0] Kernel panic - not syncing: Fatal exception in interrupt\n[ 4.1] Rebooting in 10 s\n"]


@pytest.mark.parametrize("panic", PANICS, ids=["without a panic", "with a panic"])
@pytest.mark.parametrize("up", ["", USERLAND], ids=["before init", "after init"])
@pytest.mark.parametrize("report", [case[1] for case in OOPSES], ids=[case[0] for case in OOPSES])
def test_a_capture_kernel_that_crashes_itself(report: str, up: str, panic: str) -> None:
    ending = diagnose(parse(CRASH + SECOND + up + report + panic))
    assert (ending.stage, ending.finding) == (Stage.KERNEL, "B18")
    assert report.splitlines()[0] in {line.text for line in ending.evidence}
    assert "modprobe.blacklist=hpsa " in ending.remedy
    assert "[hpsa" in as_text(ending)


def test_the_crashed_kernels_own_oops_is_not_the_capture_kernels() -> None:
    ending = diagnose(parse(FIRST + OOPS + TRACE + UP + "hello\n"))
    assert (ending.stage, ending.finding) == (Stage.USERLAND, "S14")


@pytest.mark.parametrize(
    "line",
    [
        "[ 9.1] traps: systemd-udevd[88] general protection fault ip:7f00 sp:7ffd error:0 in libc\n",
        "kdump[500]: Oops. The network was not ready at first.\n",
        "[ 0.4] Spectre V2 : Mitigation: Retpolines\n[ 0.5] CXL: Internal errors unmasked\n",
    ],
)
def test_what_only_sounds_like_an_oops_is_none(line: str) -> None:
    assert diagnose(parse(CRASH + UP + line)).stage is Stage.USERLAND


def test_no_module_no_advice_to_keep_one_out() -> None:
    ending = diagnose(parse(CRASH + UP + "[ 3.1] Oops: 0000 [#1] SMP\n[ 3.1] RIP: 0010:kfree+0x10/0x20\n"))
    assert (ending.finding, [line.text[:8] for line in ending.evidence]) == ("B18", ["[ 3.1] O", "[ 3.1] R"])
    assert "blacklist" not in ending.remedy


@pytest.mark.parametrize("name", ["$(id)", "a;b", "x y", "`id`", "m' 'n", "a,b"])
def test_only_plain_names_come_into_a_remedy(name: str) -> None:
    report = f"[ 3.1] Oops: 0000 [#1] SMP\n[ 3.1] RIP: 0010:f+0x1/0x2 [{name}]\n"
    driver = f"[ 3.1] {name} 0000:01:00.0: firmware timed out\n"
    for text in (report, driver):
        remedy = diagnose(parse(CRASH + UP + text)).remedy
        assert not re.search(r"blacklist=(?![A-Za-z0-9_-]+(?:,[A-Za-z0-9_-]+)* )", remedy)


HANGS = [
    ("mpt3sas", "[ 9.1] mpt3sas_cm0: fault_state(0x5854)!\n", "mpt3sas"),
    (
        "megaraid",
        "[ 9.1] megaraid_sas 0000:19:00.0: Init cmd return status FAILED for SCSI host 0\n",
        "megaraid_sas",
    ),
    (
        "megaraid waits",
        "[ 9.1] megaraid_sas 0000:19:00.0: Waiting for FW to come to ready state\n",
        "megaraid_sas",
    ),
    ("hpsa", "[ 9.1] hpsa 0000:03:00.0: Controller lockup detected: 0x00130000\n", "hpsa"),
    ("qla2xxx", "[ 9.1] qla2xxx [0000:05:00.0]-00af:1: Performing ISP error recovery - ha=1.\n", "qla2xxx"),
    ("lpfc", "[ 9.1] lpfc 0000:05:00.0: 0:0446 Adapter failed to init (255), mbxCmd x24\n", "lpfc"),
    ("aacraid", "[ 9.1] aacraid: Host adapter abort request (0,0,0,0)\n", "aacraid"),
    ("nvme", "[ 9.1] nvme nvme0: Device not ready; aborting initialisation, CSTS=0x0\n", "nvme"),
    ("nvme 6.x", "[ 9.1] nvme nvme1: I/O tag 4 (1004) QID 0 timeout, disable controller\n", "nvme"),
    ("ata", "[ 9.1] ata1: softreset failed (device not ready)\n", "ata1"),
    ("ata commands", "[ 9.1] ata2.00: qc timeout after 5000 msecs (cmd 0xec)\n", "ata2"),
    ("scsi", "[ 9.1] sd 0:2:0:0: timing out command, waited 180s\n", "sd 0:2:0:0"),
    ("xhci", "[ 9.1] xhci_hcd 0000:00:14.0: Timeout while waiting for setup device command\n", "xhci_hcd"),
    ("usb", "[ 9.1] usb 1-1: device descriptor read/64, error -110\n", "usb 1-1"),
    ("mlx4", "[ 9.1] mlx4_core 0000:0c:00.0: command 0x23 timed out (go bit not cleared)\n", "mlx4_core"),
    ("bnxt_en", "[ 9.1] bnxt_en 0000:0c:00.0: Error (timeout: 500015) msg {0x0 0x1} len:0\n", "bnxt_en"),
    (
        "a graphics card",
        "[ 9.1] amdgpu 0000:0c:00.0: [drm:amdgpu_init [amdgpu]] *ERROR* hw_init failed\n",
        "amdgpu",
    ),
    ("virtio", "[ 9.1] virtio_net virtio1: control command timed out\n", "virtio_net"),
    ("an interrupt", '[ 9.1] irq 16: nobody cared (try booting with the "irqpoll" option)\n', "irq 16"),
    (
        "AMD's IOMMU",
        "[ 9.0] ixgbe 0000:04:00.0: enabling device (0000 -> 0002)\n"
        "[ 9.1] AMD-Vi: Event logged [IO_PAGE_FAULT device=04:00.0 domain=0x000e address=0x80]\n",
        "ixgbe",
    ),
    (
        "a blocked task",
        "[ 242.0] INFO: task modprobe:88 blocked for more than 120 seconds.\n" + TRACE,
        "hpsa",
    ),
    (
        "7.x's blocked task",
        "[ 242.0] INFO: task modprobe:88 blocked in I/O wait for more than 120 seconds.\n" + TRACE,
        "hpsa",
    ),
    (
        "a blocked task that ends it",
        "[ 242.0] INFO: task modprobe:88 blocked for more than 120 seconds.\n"
        + TRACE
        + "[ 242.1] Kernel panic - not syncing: hung_task: blocked tasks\n",
        "hpsa",
    ),
    (
        "udev",
        "[ 62.0] systemd-udevd[140]: 0000:03:00.0: Worker [151] processing SEQNUM=1 is taking a long time\n",
        "0000:03:00.0",
    ),
    (
        "the driver that spoke last",
        "[ 2.5] hpsa 0000:03:00.0: can't disable ASPM; OS doesn't have control\n",
        "hpsa",
    ),
]


@pytest.mark.parametrize("up", ["", USERLAND], ids=["before init", "after init"])
@pytest.mark.parametrize(("lines", "name"), [case[1:] for case in HANGS], ids=[case[0] for case in HANGS])
def test_a_driver_that_hangs_is_named(lines: str, name: str, up: str) -> None:
    ending = diagnose(parse(CRASH + SECOND + up + lines))
    assert (ending.stage, ending.finding) == (Stage.KERNEL, "B9")
    assert ending.cause.endswith(f": {name}")
    assert ("reset_devices;" in ending.remedy) == ("reset_devices" not in SECOND)


def test_an_iommu_that_does_not_answer_is_shown() -> None:
    timeout = "[ 9.1] AMD-Vi: Completion-Wait loop timed out"
    ending = diagnose(parse(f"{CRASH}{SECOND}{timeout}\n[ 9.2] tsc: Refined TSC clocksource calibration\n"))
    assert (ending.stage, ending.finding) == (Stage.KERNEL, "B9")
    assert timeout in as_text(ending)


def test_reset_devices_is_proposed_where_it_is_not_given() -> None:
    text = CRASH + SECOND.replace(" reset_devices", "") + HANGS[0][1]
    assert diagnose(parse(text)).remedy.startswith("add reset_devices; ")


BY_UUID = "/dev/disk/by-uuid/0f1e-2d3c"
WAITS = [
    ("mkinitcpio gave up", "ERROR: device 'UUID=1-2' not found. Skipping fsck.\n", "UUID=1-2"),
    ("LVM", '  Volume group "vg7" not found\n', "vg7"),
    ("the kernel", "[    1.5] Waiting for root device /dev/nvme0n1p2...\n", "/dev/nvme0n1p2"),
    (
        "kdump-utils",
        "[    9.5] kdump[9]: Waiting for rootfs mount, will timeout after 90 seconds\n",
        "rootfs",
    ),
    ("systemd of old", "[    9.0] systemd[1]: Expecting device dev-vdb1.device...\n", "dev-vdb1.device"),
    (
        "systemd's job is over",
        "[  90.1] systemd[1]: Job dev-vdb1.device/start timed out.\n",
        "dev-vdb1.device",
    ),
    ("systemd", f"[  *** ] A start job is running for {BY_UUID} (5min 2s / no limit)\n", BY_UUID),
    (
        "systemd, written over itself",
        f"\r\x1b[K[*     ] A start job is running for {BY_UUID} (9s / no limit)\r\x1b[M\r\x1b[K"
        f"[\x1b[0;31m*\x1b[0;1;31m*\x1b[0m    ] A start job is running for {BY_UUID} (10s / no limit)\r",
        BY_UUID,
    ),
    (
        "systemd, by units",
        "[*   ] Job dev-mapper-vg\\x2droot.device/start running (1min / no limit)\n",
        "vg",
    ),
    (
        "systemd, one of several",
        f"[*   ] (2 of 3) A start job is running for {BY_UUID} (1s / no limit)\n",
        BY_UUID,
    ),
    (
        "dracut's queue",
        "[*   ] A start job is running for dracut initqueue hook (2min / no limit)\n",
        "initqueue",
    ),
    ("systemd's time is over", f"[  90.1] systemd[1]: Timed out waiting for device {BY_UUID}.\n", BY_UUID),
    ("dracut", f"[ 180.1] dracut-initqueue[300]: Warning: {BY_UUID} does not exist\n", BY_UUID),
    ("dracut, quoted", f'[ 180.1] dracut-initqueue[300]: Warning: "{BY_UUID}" does not exist\n', BY_UUID),
    (
        "dracut's hooks",
        "[ 180.1] dracut-initqueue[300]: Warning: dracut-initqueue: timeout, still waiting for following"
        f' initqueue hooks:\n[ 180.2] dracut-initqueue[300]: Warning: x.sh: "[ -e "{BY_UUID}" ]"\n',
        BY_UUID,
    ),
    ("initramfs-tools gave up", f"ALERT!  {BY_UUID} does not exist.  Dropping to a shell!\n", BY_UUID),
    (
        "initramfs-tools",
        "Begin: Waiting for root file system ... Begin: Running /scripts/local-block ...\n",
        "root",
    ),
    ("mkinitcpio", f":: running hook [udev]\nWaiting 10 seconds for device {BY_UUID} ...\n", BY_UUID),
    ("cryptsetup", "cryptsetup: Waiting for encrypted source device UUID=1-2...\n", "UUID=1-2"),
    ("our image", "pykdump: waiting for the file system 0f1e-2d3c\n", "0f1e-2d3c"),
    (
        "our image gave up",
        "pykdump: the dump target's luks:1-2 does not exist: it cannot be put together\n",
        "1-2",
    ),
]


@pytest.mark.parametrize(("lines", "device"), [case[1:] for case in WAITS], ids=[case[0] for case in WAITS])
def test_a_wait_for_a_device_names_it(lines: str, device: str) -> None:
    ending = diagnose(parse(CRASH + UP + lines))
    assert (ending.stage, ending.finding) == (Stage.ROOT, "S7")
    assert device in as_text(ending)
    late = diagnose(parse(CRASH + UP + HANGS[7][1] + lines))
    assert (late.stage, late.finding) == (Stage.ROOT, "S7")
    assert late.cause.endswith("a driver is in trouble: nvme")


@pytest.mark.parametrize(("lines", "device"), [case[1:] for case in WAITS], ids=[case[0] for case in WAITS])
def test_a_wait_that_ended_is_no_reason(lines: str, device: str) -> None:
    assert diagnose(parse(CRASH + UP + lines + "\nkdump[5]: saving vmcore\n" + SAVED)).stage is Stage.SAVED


KINDS = [
    (
        "makedumpfile crashed",
        UP + "[ 9.0] makedumpfile[88]: segfault at 0 ip 00005\n",
        Stage.COLLECTOR,
        "S14",
        "cp",
    ),
    (
        "a shell",
        UP + "You are in emergency mode. After logging in\n",
        Stage.USERLAND,
        "S14",
        "emergency mode",
    ),
    # A file system that is there, and cannot be mounted
    *(
        (line, UP + line + "\n[DEPEND] Dependency failed for /kdumproot/mnt.\n", Stage.TARGET, "S15", words)
        for line, words in (
            ("[    4.4] mount: /sysroot: unknown filesystem type 'xfs'.", "has its module"),
            ("kdump[300]: mount: /kdumproot: can't read superblock on /dev/vda2.", "fsck"),
            ("mount: /mnt: wrong fs type, bad option, bad superblock on /dev/vda2.", "fsck"),
            ("[FAILED] Failed to mount sysroot.mount - /sysroot.", "fsck"),
            ("systemd[1]: sysroot.mount: Mount process exited, code=exited, status=32/n/a", "fsck"),
        )
    ),
    (
        "a file system's own words",
        UP + "XFS (dm-0): log mount failed\n[FAILED] Failed to mount sysroot.mount - /sysroot.\n",
        Stage.TARGET,
        "S15",
        "log mount failed",
    ),
    # Memory
    (
        "a driver without memory",
        UP + "[    5.0] kworker/0:1: page allocation failure: order:5, mode:0xcc0(GFP_KERNEL)\n"
        "[    5.1] mlx5_core 0000:03:00.0: mlx5_cmd_init:1887: failed to create command cache\n"
        "[    5.2] mlx5_core 0000:03:00.0: probe with driver mlx5_core failed with error -12\n"
        "[DEPEND] Dependency failed for /kdumproot/mnt.\n",
        Stage.OUT_OF_MEMORY,
        "O4",
        "raise crashkernel=",
    ),
    (
        "a program that wants no dump",
        UP + "kdump[303]: kdump_pre script exited with non-zero status!\n",
        Stage.USERLAND,
        "S14",
        "kdump_pre",
    ),
    # makedumpfile and the kernel
    (
        "an old makedumpfile's dump",
        UP + OLD_MAKEDUMPFILE + SAVED,
        Stage.COLLECTOR,
        "S8",
        "may be incomplete",
    ),
    (
        "an old makedumpfile, then a copy",
        UP
        + OLD_MAKEDUMPFILE
        + "makedumpfile Failed.\nkdump-config: makedumpfile failed, falling back to 'cp'\n"
        "kdump-config: saved vmcore in /var/crash/1\n",
        Stage.SAVED,
        "",
        "saved",
    ),
    (
        "an old makedumpfile and a copy in our image",
        UP + OLD_MAKEDUMPFILE + "makedumpfile Failed.\npykdump: copying all of memory instead\n"
        "pykdump: saving vmcore complete\n",
        Stage.SAVED,
        "",
        "saved",
    ),
    ("old, and no more", UP + OLD_MAKEDUMPFILE + "makedumpfile Failed.\n", Stage.COLLECTOR, "S8", "too old"),
    (
        "no version of the kernel",
        UP + "check_release: Can't get the kernel version.\nmakedumpfile Failed.\n",
        Stage.COLLECTOR,
        "S8",
        "kernel version",
    ),
    *(
        (
            line,
            UP + f"kdump.sh[532]: {line}\nkdump.sh[532]: makedumpfile Failed.\n",
            Stage.COLLECTOR,
            "S8",
            "newer makedumpfile",
        )
        for line in (
            "get_mem_section: Could not validate mem_section.",
            "get_mm_sparsemem: Can't get the address of mem_section.",
            "exclude_free_page: Can't get necessary symbols for excluding free pages.",
            "get_mem_map: Can't distinguish the memory type.",
            "readpage_elf: Attempt to read non-existent page at 0xc000000000000.",
            "readmem: type_addr: 0, addr:c00c000000000000, size:16384",
            "__vtop4_x86_64: Can't get a valid pmd_pte.",
            "readmem: Can't convert a virtual address(ffffea0000000000) to physical address.",
            "get_machdep_info_arm64: Can't determine platform config values",
        )
    ),
    # Core headers that list memory in use
    (
        "ENOMEM of /proc/vmcore",
        UP + "cp: error reading '/proc/vmcore': Cannot allocate memory\nkdump: saving vmcore failed\n",
        Stage.COLLECTOR,
        "S10",
        "core headers",
    ),
    (
        "makedumpfile and EFAULT",
        UP + "readpage_elf: Can't read the dump memory(/proc/vmcore). Bad address\nmakedumpfile Failed.\n",
        Stage.COLLECTOR,
        "S10",
        "core headers",
    ),
    (
        "arm64",
        UP + "[ 9.1] ioremap attempted on RAM pfn\n[ 9.2]  __read_vmcore+0x9c/0xb0\nmakedumpfile Failed.\n",
        Stage.COLLECTOR,
        "S10",
        "ioremap attempted",
    ),
    (
        "mapped otherwise",
        UP + "[ 9.1] x86/PAT: makedumpfile:88 map pfn RAM range req uncached-minus for [mem 0x0-0xfff], got"
        " write-back\n[ 9.2]  mmap_vmcore+0x9c/0xb0\nmakedumpfile Failed.\n",
        Stage.COLLECTOR,
        "S10",
        "map pfn",
    ),
    (
        "a driver's ioremap of memory is another thing",
        UP
        + "[ 9.1] ioremap on RAM at 0x1000 - 0x1fff\n[ 9.2]  probe+0x9c/0xb0 [x]\nNo space left on device\n",
        Stage.DISK_FULL,
        "S3",
        "",
    ),
    (
        "a real want of memory",
        UP + "[ 9.1] cp: page allocation failure: order:0\n"
        "cp: error reading '/proc/vmcore': Cannot allocate memory\n",
        Stage.OUT_OF_MEMORY,
        "O4",
        "crashkernel=",
    ),
    # What is missing in the initramfs
    (
        "makedumpfile's library",
        UP + "kdump.sh[5]: makedumpfile: error while loading shared libraries: libsnappy.so.1: cannot open"
        " shared object file: No such file or directory\nkdump[6]: saving vmcore failed, exitcode:127\n",
        Stage.INITRD,
        "B2",
        "makedumpfile does not find the shared library libsnappy.so.1",
    ),
    (
        "musl's words",
        UP + "Error loading shared library liblzo2.so.2: No such file or directory"
        " (needed by /bin/makedumpfile)\n",
        Stage.INITRD,
        "B2",
        "/bin/makedumpfile does not find the shared library liblzo2.so.2",
    ),
    (
        "a library of another time",
        UP + "/bin/makedumpfile: /lib64/libc.so.6: version `GLIBC_2.38' not found (required by"
        " /bin/makedumpfile)\n",
        Stage.INITRD,
        "B2",
        "GLIBC_2.38",
    ),
    (
        "no makedumpfile",
        UP + "/init: line 350: makedumpfile: command not found\npykdump: saving vmcore failed\n",
        Stage.INITRD,
        "B2",
        "makedumpfile is not in it",
    ),
    (
        "a library, and damage",
        SECOND
        + "[ 1.0] Initramfs unpacking failed: XZ-compressed data is corrupt\n"
        + USERLAND
        + "/init: error while loading shared libraries: libc.so.6: cannot open shared object file\n"
        "[ 2.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00\n",
        Stage.INITRD,
        "B2",
        "XZ-compressed data is corrupt",
    ),
    (
        "a library, and no room",
        SECOND
        + "[ 1.0] Initramfs unpacking failed: write error\n"
        + USERLAND
        + "/init: error while loading shared libraries: libc.so.6: cannot open shared object file\n",
        Stage.OUT_OF_MEMORY,
        "O3",
        "libc.so.6",
    ),
    (
        "a library, and no memory",
        UP
        + "makedumpfile: error while loading shared libraries: libz.so.1: failed to map segment from shared"
        " object: Cannot allocate memory\n",
        Stage.OUT_OF_MEMORY,
        "O4",
        "crashkernel=",
    ),
    (
        "init's status 127",
        UP + "[ 2.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00\n",
        Stage.INITRD,
        "B2",
        "library",
    ),
    (
        "junk that does no harm",
        SECOND + "[ 1.0] Initramfs unpacking failed: junk within compressed archive\n" + USERLAND + FULL,
        Stage.DISK_FULL,
        "S3",
        "",
    ),
    (
        "a library that does no harm",
        UP
        + "plymouth: error while loading shared libraries: libpng16.so.16: cannot open shared object file\n"
        + FULL,
        Stage.DISK_FULL,
        "S3",
        "",
    ),
    # How it went on nobody wrote down
    ("cut while it was written", UP + "Copying data : [ 12.0 %] -  \n", Stage.UNKNOWN, "", "no more"),
    (
        "cut while our image wrote it",
        UP + "pykdump: Copying data: 31.4 %, 19s left, 13 MiB, 1 MiB/s\n",
        Stage.UNKNOWN,
        "",
        "no more",
    ),
    ("sent, and who knows", UP + "The dumpfile is saved to STDOUT.\n", Stage.UNKNOWN, "", "no more"),
    (
        "a disk that hangs while it is written",
        UP + "kdump[5]: saving vmcore\n" + HANGS[8][1],
        Stage.KERNEL,
        "B9",
        "nvme",
    ),
    ("saved by openSUSE", UP + "kdump-save[5]: Saved vmcore\n", Stage.SAVED, "", "saved"),
    (
        "not saved by openSUSE",
        UP + "kdump-save[5]: Error: Failed saving vmcore\n",
        Stage.COLLECTOR,
        "S14",
        "",
    ),
    (
        "no network",
        UP + "kdump[500]: Waiting for network to be ready (50s / 10min)\n",
        Stage.TARGET,
        "S1",
        "the network does not come up",
    ),
]


@pytest.mark.parametrize(
    ("capture", "stage", "finding", "words"), [case[1:] for case in KINDS], ids=[case[0] for case in KINDS]
)
def test_kinds_of_endings(capture: str, stage: Stage, finding: str, words: str) -> None:
    ending = diagnose(parse(CRASH + (capture if capture.startswith(SECOND) else SECOND + capture)))
    assert (ending.stage, ending.finding) == (stage, finding), ending
    assert words in as_text(ending)


CLEAN = CRASH + SECOND + "[    1.0] ahci 0000:00:1f.2: enabling device\n"
STALE = [
    "SMP: failed to stop secondary CPUs 1-3",
    "Some CPUs may be stale, kdump will be unreliable.",
    "psci: CPU1 may not have shut down cleanly (AFFINITY_INFO reports 1)",
    "ERROR: 3 cpu(s) not responding",
    "Non-crashing CPUs did not react to IPI",
]


@pytest.mark.parametrize("line", STALE)
def test_cpus_that_go_on(line: str) -> None:
    ending = diagnose(parse(CRASH + f"[    5.2] {line}\n[    5.3] Bye!\n"))
    assert (ending.stage, ending.finding) == (Stage.NO_SECOND_KERNEL, "B18")
    assert line in as_text(ending)
    assert "could not be stopped" in ending.cause
    assert diagnose(parse(CRASH + f"[    5.2] {line}\n" + UP + SAVED)).stage is Stage.SAVED


def test_cpus_that_go_on_while_the_capture_kernel_hangs() -> None:
    ending = diagnose(parse(CRASH + f"[    5.2] {STALE[1]}\n" + CLEAN.removeprefix(CRASH)))
    assert (ending.stage, ending.finding) == (Stage.KERNEL, "B9")
    assert STALE[1] in as_text(ending)


@pytest.mark.parametrize(
    "active",
    [
        "[    0.0] rtas fadump: Firmware-assisted dump is active.",
        "[    0.0] opal fadump: Firmware-assisted dump is active.",
    ],
)
def test_firmware_starts_the_capture_kernel(active: str) -> None:
    """Which has no elfcorehdr= then: powerpc's fadump."""
    first = FIRST.replace("crashkernel", "fadump=on crashkernel")
    second = first.replace("[    2.0] Run", f"{active}\n[    2.0] Run")
    saved = diagnose(parse(first + PANIC + LOADED + second + "kdump[510]: saving vmcore complete\n"))
    assert saved.stage is Stage.SAVED
    failed = diagnose(
        parse(first + PANIC + LOADED + second + "kdump: saving vmcore\nmakedumpfile Failed.\n")
    )
    assert failed.stage is Stage.COLLECTOR


def test_cpus_that_keep_a_crash_kernel_from_being_loaded() -> None:
    refused = "[    4.0] kexec: Can't kexec: CPUs are stuck in the kernel.\n"
    ending = diagnose(parse(FIRST + refused + PANIC + NOT_LOADED + OFFSET))
    assert (ending.stage, ending.finding) == (Stage.NOT_LOADED, "L17")
    assert "stuck in the kernel" in as_text(ending)
    assert "PSCI" in ending.remedy


# Command lines

WORDS = (
    "systemd.unit=kdump-tools-dump.service",
    "Linux version 6.1.0",
    "Kernel panic - not syncing: x",
    "---[ end Kernel panic",
    "Starting crashdump kernel",
    *(
        line
        for text in (
            *(case[1] for case in CASES),
            *(case[1] for case in OOPSES),
            *(case[1] for case in HANGS),
            *(case[1] for case in WAITS),
            *(case[1] for case in KINDS),
        )
        for line in text.splitlines()
        if line.strip() and line.isprintable() and "elfcorehdr" not in line
    ),
)
ECHOES = (
    "[    0.0] Kernel command line: {}",
    "[    0.0] Command line: {}",
    "[    0.0] OF: fdt: Command line is: {}",
    '[    0.0] Unknown kernel command line parameters "{}", will be passed to user space.',
    "[    0.0][    T0] Kernel command line: {}",
    "<5>[    0.0] Kernel command line: {}",
    "[    1.2] dracut-cmdline[100]: Using kernel command line parameters: {}",
    "[    1.9]     {}",
    "+ echo {}",
    "/lib/dracut-lib.sh@12(getarg): echo {}",
    "        linux /boot/vmlinuz {}",
    'KDUMP_COMMANDLINE_APPEND="{}"',
    "kdump-tools[700]: /sbin/kexec -p --command-line={} --initrd=/x",
    "BOOT_IMAGE=/vmlinuz {}",
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.cause)
def test_every_rule_has_a_line_that_meets_it(rule: Rule) -> None:
    assert any(re.search(rule.pattern, line) for line in WORDS)


@pytest.mark.parametrize("echo", ECHOES)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1))
@pytest.mark.slow
def test_an_echo_of_a_command_line_tells_of_no_event(echo: str, words: list[str]) -> None:
    text = ".".join(words).replace(" ", "_") if echo.endswith("     {}") else " ".join(words)
    line = echo.format(text) + "\n"
    cut = CLEAN.index("[    1.0] ahci")
    for log in (CLEAN[:cut] + line + CLEAN[cut:], CLEAN + line, line + CLEAN):
        ending = diagnose(parse(log))
        assert (ending.stage, ending.finding) == (Stage.KERNEL, "B9")
        assert line.strip() not in as_text(ending)
    whole = FIRST + line + PANIC + LOADED + UP + line + SAVED + line
    assert diagnose(parse(whole)).stage is Stage.SAVED
    assert diagnose(parse(FIRST + line)).stage is Stage.NO_CRASH


# Other forms of logs

FORMS = {
    "of its own": lambda line: line,
    "callers": lambda line: re.sub(r"^(\[ *[\d.]+\])", r"\1[    T1]", line),
    "levels": lambda line: f"<4>{line}",
    "a console server's times": lambda line: f"2026-01-02 03:04:05 {line}",
    "colours": lambda line: f"\x1b[0;32m{line}\x1b[0m",
    "carriage returns": lambda line: f"{line}\r",
    "NUL bytes": lambda line: f"\0{line}",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)
def test_however_it_was_recorded(folder: Path, form: Callable[[str], str]) -> None:
    text = (folder / "console.log").read_text()
    expected = diagnose(parse(text))
    ending = diagnose(parse("\n".join(line and form(line) for line in text.split("\n"))))
    assert (ending.stage, ending.finding) == (expected.stage, expected.finding)
    assert [line.number for line in ending.evidence] == [line.number for line in expected.evidence]


def test_a_quiet_kernel_that_fails_is_known_by_its_clock() -> None:
    text = CRASH.replace("[    5.1]", "[  405.1]") + OOPSES[0][1]
    ending = diagnose(parse(text))
    assert (ending.stage, ending.finding) == (Stage.KERNEL, "B18")


def test_a_quiet_kernel_on_arm64_whose_crash_is_not_in_the_log() -> None:
    ending = diagnose(
        parse(
            "[  406.2] Memory Limit: none\n[  406.3] Starting crashdump kernel...\n[  406.4] Bye!\n"
            "/bin/sh: error while loading shared libraries: libreadline.so.8: cannot open shared object"
            " file: No such file or directory\n"
            "[    0.2] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00\n"
            "[    0.3] ---[ end Kernel panic - not syncing: Attempted to kill init! ]---\n"
        )
    )
    assert (ending.stage, ending.finding) == (Stage.INITRD, "B2")
    assert "libreadline.so.8" in ending.cause


def test_evidence_names_the_lines() -> None:
    ending = diagnose(parse(CRASH + SECOND + USERLAND + FULL))
    assert [line.number for line in ending.evidence] == [12, 14]
    assert ending.evidence[0].text == "Can't write the dump file(/s/vmcore). No space left on device"
    assert as_text(ending) == (
        "no space for the dump: the target has no space left for the dump\n"
        "  line 12: Can't write the dump file(/s/vmcore). No space left on device\n"
        "  line 14: makedumpfile Failed.\n"
        "  make room; leave out more pages (-d 31), compress (-l), keep fewer dumps\n"
    )
    content = require_valid("console", as_json(ending))
    assert (content["stage"], content["finding"]) == ("disk_full", "S3")
    assert content["evidence"][0]["line"] == 12


@pytest.mark.slow
def test_the_end_of_an_endless_log_is_read() -> None:
    """32 MiB of it at most; its lines keep their numbers."""
    filler = (b"filler" * 10 + b"..\n") * (1 << 14)
    whole = filler * 60 + (CRASH + SECOND + USERLAND + FULL).encode()
    text, first = tail(io.BytesIO(whole))
    assert 32 << 20 <= len(text) < 34 << 20
    ending = diagnose(parse(text, first))
    assert [line.number for line in ending.evidence] == [60 * (1 << 14) + 12, 60 * (1 << 14) + 14]
    assert tail(io.BytesIO(b"a\xff\n")) == ("a\ufffd\n", 1)


class Counted(io.FileIO):
    """A file that counts what is read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.count += 1
        return super().read(size) or b""


def test_holes_of_a_file_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(CRASH + SECOND)
    with path.open("r+b") as file:
        file.seek(4 << 30)
        file.write((USERLAND + FULL).encode())
        file.truncate(8 << 30)
    with Counted(path) as counted:
        ending = diagnose(parse(*tail(counted)))
        assert counted.count < 10
    assert ending.stage is Stage.DISK_FULL
    with path.open("rb") as file:
        assert diagnose(parse(*tail(file))) == ending


@pytest.mark.parametrize("line", ["\n", "a\n", BANNER, BANNER.strip(), PANIC, "Linux version \n"])
@pytest.mark.slow
def test_of_very_many_lines_few_are_looked_at(line: str) -> None:
    log = parse(line * (1 << 17) + CRASH + SECOND + line * (1 << 17) + FULL)
    assert len(log.before) + len(log.after) <= 20_000
    assert diagnose(log).cause


_LINE_OF_FULL = (CRASH + SECOND + USERLAND + FULL).partition("No space left")[0].count("\n") + 1


def test_a_sparse_log_of_gigabytes(tmp_path: Path) -> None:
    """A terminal server that was told to write at an offset makes one."""
    log = tmp_path / "console.log"
    with log.open("wb") as file:
        file.write(b"first\n")
        file.seek(1 << 40)
        file.write((CRASH + SECOND + USERLAND + FULL).encode())
        file.truncate(1 << 42)
    stopwatch = Stopwatch()
    with log.open("rb") as file:
        ending = diagnose(parse(*tail(file)))
    assert ending.stage is Stage.DISK_FULL
    assert ending.evidence[0].number == 1 + _LINE_OF_FULL
    assert stopwatch.seconds() < 2


@pytest.mark.parametrize("line", ["\n", "a\n", "\r\n"])
def test_a_log_of_short_lines(line: str) -> None:
    text = line * (16 << 20 >> len(line) - 1)
    stopwatch = Stopwatch()
    with takes_at_most(200 << 20):
        log = parse(text + CRASH + SECOND + USERLAND + FULL)
    assert diagnose(log).evidence[0].number == text.count("\n") + _LINE_OF_FULL
    assert stopwatch.seconds() < 4  # tracing what is allocated doubles it


PARTS = [
    FIRST,
    OOPS,
    PANIC,
    LOADED,
    NOT_LOADED,
    OFFSET,
    ON_THE_WAY,
    SECOND,
    USERLAND,
    SAVED,
    FULL,
    NO_ROOT,
    "\x1b[",
    "\r",
]


@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=20)))
def test_any_text_is_a_log(parts: list[str]) -> None:
    text = "".join(parts)
    ending = diagnose(parse(text))
    assert as_text(ending).replace("\n", "").isprintable()
    assert require_valid("console", as_json(ending))["stage"]
    for cut in range(0, len(text), 97):
        diagnose(parse(text[:cut]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [PANIC, BANNER, SECOND, "x" * 300 + "\n", "makedumpfile\r", "DMAR: ", "\x1b["]
)
def test_long_logs_take_linear_time(line: str) -> None:
    def read(count: int) -> None:
        diagnose(parse(CRASH + SECOND + line * count))

    assert growth(lambda: read(300), lambda: read(3000)) < QUADRATIC_SUSPECTED
