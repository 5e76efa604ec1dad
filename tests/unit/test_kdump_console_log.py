"""Console logs: lines that real kernels, makedumpfile and our purgatory wrote when a capture went wrong."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.kdump.console_log import Stage, as_json, as_text, diagnose, parse, tail
from tests.support.footprint import takes_at_most
from tests.support.growth import QUADRATIC_SUSPECTED, growth
from tests.support.stopwatch import Stopwatch

BANNER = "[    0.000000] Linux version 6.1.0-50-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP\n"
FIRST = (
    BANNER
    + "[    0.066350] Kernel command line: console=ttyS0 panic=-1 crashkernel=256M\n"
    + "[    2.0] Run /init as init process\n"
)
PANIC = "[    5.1] Kernel panic - not syncing: sysrq triggered crash\n"
LOADED = "[    5.1] CPU: 0 PID: 121 Comm: then Kdump: loaded Not tainted 6.1.0-50-cloud-amd64 #1\n"
NOT_LOADED = "[    2.1] CPU: 1 PID: 116 Comm: then Not tainted 6.1.0-50-cloud-amd64 #1\n"
OFFSET = (
    "[    2.1] Kernel Offset: 0x31800000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000)\n"
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
        FIRST + PANIC + NOT_LOADED + "[    4.1] Memory Limit: none\n",
        Stage.NOT_LOADED,
        "L17",
    ),
    (
        "not loaded, and booted again",
        FIRST + PANIC + NOT_LOADED + "[    2.2] Rebooting in 10 seconds..\n" + FIRST,
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
    content = json.loads(as_json(ending))
    assert (content["stage"], content["finding"]) == ("disk_full", "S3")
    assert content["evidence"][0]["line"] == 12


@pytest.mark.slow
def test_the_end_of_an_endless_log_is_read() -> None:
    """16 MiB of it at most; its lines keep their numbers."""
    filler = (b"filler" * 10 + b"..\n") * (1 << 14)
    whole = filler * 60 + (CRASH + SECOND + USERLAND + FULL).encode()
    text, first = tail(io.BytesIO(whole))
    assert 16 << 20 <= len(text) < 18 << 20
    ending = diagnose(parse(text, first))
    assert [line.number for line in ending.evidence] == [60 * (1 << 14) + 12, 60 * (1 << 14) + 14]
    assert tail(io.BytesIO(b"a\xff\n")) == ("a\ufffd\n", 1)


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
    assert json.loads(as_json(ending))["stage"]
    for cut in range(0, len(text), 97):
        diagnose(parse(text[:cut]))


@pytest.mark.parametrize(
    "line", [PANIC, BANNER, SECOND, "x" * 300 + "\n", "makedumpfile\r", "DMAR: ", "\x1b["]
)
def test_long_logs_take_linear_time(line: str) -> None:
    def read(count: int) -> None:
        diagnose(parse(CRASH + SECOND + line * count))

    assert growth(lambda: read(300), lambda: read(3000)) < QUADRATIC_SUSPECTED
