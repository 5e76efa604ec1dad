"""Where a capture stopped, read from the console's log of a machine that crashed.

Such a log may begin anywhere, hold several boots, and be cut or garbled by the crash. The last crash counts.
What is looked for are the kernel's own messages (with the file they come from), those of this project's
purgatory, and those of makedumpfile, kdump-tools, kdump-utils and dracut.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SCHEMA = 1
"""Version of the JSON form."""

_LINE_MAX = 2000
_EVIDENCE_MAX = 160


class Stage(enum.Enum):
    """How far it came, in the order of events."""

    NO_CRASH = "no crash"
    NOT_LOADED = "no crash kernel loaded"
    NO_SECOND_KERNEL = "no second kernel"
    PURGATORY = "damaged in memory"
    KERNEL = "the capture kernel failed"
    OUT_OF_MEMORY = "out of memory"
    INITRD = "the initramfs failed"
    ROOT = "no root file system"
    USERLAND = "the capture system failed"
    COLLECTOR = "makedumpfile failed"
    DISK_FULL = "no space for the dump"
    TARGET = "the target cannot be reached"
    SAVED = "saved"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log; `number` counts from 1."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Ending:
    """Where it stopped, why, and what to do."""

    stage: Stage
    cause: str
    evidence: tuple[Line, ...] = ()
    remedy: str = ""
    finding: str = ""
    """The id of doctor's finding that it is an instance of; empty for none."""


@dataclass(frozen=True, slots=True)
class ConsoleLog:
    """A log taken apart around its last crash."""

    lines: tuple[Line, ...]
    panic: Line | None
    """The line that tells the crash."""
    after: tuple[Line, ...] = ()
    """What follows it, up to the next ordinary boot."""
    capture: tuple[Line, ...] = ()
    """The part of that which the capture kernel and its system wrote."""

    def find(self, pattern: str, where: Iterable[Line] | None = None) -> Line | None:
        """The first line in which a regular expression matches, of those after the crash or of `where`."""
        compiled = re.compile(pattern)
        return next(
            (line for line in (self.after if where is None else where) if compiled.search(line.text)), None
        )


_BANNER = re.compile(r"Linux version \d+\.\d")
_PANIC = re.compile(r"Kernel panic - not syncing: ?(.*)")
_OF_A_CAPTURE = re.compile(r"elfcorehdr[= ]|for elfcorehdr")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")

# kernel/panic.c: what is printed only when no crash kernel took over, after the panic's notifiers.
_NOT_TAKEN_OVER = (
    r"---\[ end Kernel panic|Rebooting in \d+ seconds|Kernel Offset: |PHYS_OFFSET: 0x|Memory Limit: "
)
_ON_THE_WAY = r"Starting crashdump kernel|\bBye!|I'm in purgatory|^purgatory: "


def parse(text: str) -> ConsoleLog:
    """Take a log apart. Any text is a log; what is no line of one is passed over."""
    lines = tuple(_lines(text))
    starts = [index for index, line in enumerate(lines) if _BANNER.search(line.text)]
    runs = [lines[start:end] for start, end in zip([0, *starts], [*starts, len(lines)], strict=True)]
    for index in range(len(runs) - 1, -1, -1):
        panic_at = next((at for at, line in enumerate(runs[index]) if _PANIC.search(line.text)), None)
        if panic_at is None or _is_capture(runs, index):
            continue
        rest = runs[index][panic_at + 1 :]
        if index + 1 < len(runs) and _is_capture(runs, index + 1):
            capture = runs[index + 1]
            return ConsoleLog(lines, runs[index][panic_at], (*rest, *capture), capture)
        # With "quiet" the second kernel says nothing before its programs do.
        begin = next((at for at, line in enumerate(rest) if _SAYS_USERLAND.search(line.text)), len(rest))
        return ConsoleLog(lines, runs[index][panic_at], rest, rest[begin:])
    return ConsoleLog(lines, None)


_SAYS_USERLAND = re.compile(r"makedumpfile|kdump\[|kdump-tools|dracut|systemd\[1\]|Run /init as init")


def _is_capture(runs: Sequence[tuple[Line, ...]], index: int) -> bool:
    """Whether a boot is that of a capture kernel: it says so itself, or was seen to be started as one."""
    if any(_OF_A_CAPTURE.search(line.text) for line in runs[index][:2000]):
        return True
    before = runs[index - 1][-20:] if index else ()
    return any(re.search(_ON_THE_WAY, line.text) for line in before) and any(
        _PANIC.search(line.text) for line in runs[index - 1]
    )


def _lines(text: str) -> Iterable[Line]:
    for number, line in enumerate(text.split("\n"), 1):
        # Progress is written over itself; the last state is what counts.
        shown = _ESCAPES.sub("", line[-_LINE_MAX:].rstrip("\r").rpartition("\r")[2])
        if not shown.isprintable():
            shown = "".join(each if each.isprintable() else " " for each in shown)
        yield Line(number, shown.rstrip())


def diagnose(log: ConsoleLog) -> Ending:
    """Where the last crash in a log led to."""
    if log.panic is None:
        return Ending(
            Stage.NO_CRASH,
            "there is no kernel panic in this log",
            remedy="look for the crash in another log",
        )
    saved = log.find(_SAVED)
    if saved is not None:
        return Ending(Stage.SAVED, "the dump was saved", (saved,))
    if not log.capture:
        return _before_the_second_kernel(log, log.panic)
    for rule in _RULES:
        line = log.find(rule.pattern, log.capture)
        if line is not None:
            more = log.find(rule.detail, log.capture) if rule.detail else None
            evidence = (line,) if more is None or more == line else (line, more)
            return Ending(rule.stage, rule.cause, evidence, rule.remedy, rule.finding)
    return _stopped_silently(log)


def _before_the_second_kernel(log: ConsoleLog, panic: Line) -> Ending:
    damaged = log.find(r"purgatory: region .* is damaged|sha256 digests do not match")
    if damaged is not None:
        return Ending(
            Stage.PURGATORY,
            "the crash kernel was no longer what had been loaded: something wrote into its memory",
            (damaged,),
            "let the IOMMU keep devices out of it (intel_iommu=on), or move it (crashkernel=SIZE,high)",
            "B3",
        )
    loaded = log.find(r"Kdump: loaded", (panic, *log.after))
    gave_up = log.find(_NOT_TAKEN_OVER)
    if gave_up is not None and loaded is None:
        return Ending(
            Stage.NOT_LOADED,
            "no crash kernel was loaded when the machine crashed",
            (panic, gave_up),
            "load one at boot (enable the kdump service), and see that it stays loaded",
            "L17",
        )
    started = log.find(r"purgatory: starting the kernel")
    if started is not None:
        return Ending(
            Stage.KERNEL,
            "the capture kernel was started and wrote nothing",
            (started,),
            "add earlycon or earlyprintk=serial to its command line; check console=",
            "B18",
        )
    on_the_way = log.find(_ON_THE_WAY)
    return Ending(
        Stage.NO_SECOND_KERNEL,
        "the crashed kernel "
        + ("let go" if on_the_way else "gave no sign")
        + ", and no second one appeared",
        tuple(line for line in (loaded or panic, on_the_way or gave_up) if line is not None),
        "look at the console that the capture kernel writes to; a hardware watchdog may reset too soon",
        "B18",
    )


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: str
    stage: Stage
    finding: str
    cause: str
    remedy: str
    detail: str = ""
    """A further line worth showing."""


_SAVED = r"The dumpfile is saved to|saving vmcore complete|saved vmcore (?:in|via)|Finished saving vmcore"

_MORE_MEMORY = "raise crashkernel= (pykdump estimate says by how much)"

_RULES = (
    # mm/oom_kill.c, mm/page_alloc.c
    _Rule(
        r"System is deadlocked on memory|Out of memory and no killable processes",
        Stage.OUT_OF_MEMORY,
        "O1",
        "the capture kernel ran out of memory before its programs started",
        _MORE_MEMORY,
        r"invoked oom-killer",
    ),
    _Rule(
        r"Out of memory: Kill(?:ed)? process|invoked oom-killer",
        Stage.OUT_OF_MEMORY,
        "O4",
        "the capture system ran out of memory and lost a process",
        f"{_MORE_MEMORY}; fewer --num-threads",
        r"Killed process",
    ),
    # init/initramfs.c
    _Rule(
        r"Initramfs unpacking failed: write error",
        Stage.OUT_OF_MEMORY,
        "O3",
        "the initramfs found no room in the memory it may take",
        f"a smaller initramfs, initramfs_options=size=90% (Linux 6.18), or {_MORE_MEMORY}",
    ),
    _Rule(
        r"Initramfs unpacking failed|rootfs image is not initramfs",
        Stage.INITRD,
        "B2",
        "the initramfs is damaged, or compressed in a way the capture kernel cannot unpack",
        "build it again; load with digests checked (not -i), or with -s",
        _PANIC.pattern,
    ),
    # arch/x86/kernel/setup.c, arch/x86/realmode/init.c
    _Rule(
        r"[Cc]annot find place for new RAMDISK",
        Stage.KERNEL,
        "B5",
        "a stale initrd of the boot stub was taken for the capture kernel's",
        "load with an initramfs, be it an empty one",
    ),
    _Rule(
        r"Cannot allocate trampoline",
        Stage.KERNEL,
        "B6",
        "the capture kernel's memory map has no memory below 1 MiB",
        "pass it one: report the memory map with pykexec --snapshot",
    ),
    # init/do_mounts.c, init/main.c
    _Rule(
        r"No working init found|Requested init .* failed",
        Stage.INITRD,
        "B11",
        "the initramfs has no init that runs",
        "build it again; check that it is for this architecture",
    ),
    _Rule(
        r"VFS: Unable to mount root fs",
        Stage.ROOT,
        "B11",
        "no initramfs took over, and the root file system cannot be mounted",
        "load an initramfs with --initrd, and one with the modules for the root device",
        r"VFS: Cannot open root device",
    ),
    _Rule(
        r"Kernel panic - not syncing",
        Stage.KERNEL,
        "B18",
        "the capture kernel panicked",
        "see what it says; leave out the driver named in its call trace (dracut_args --omit-drivers)",
        r"Oops|BUG:|RIP:|pc :",
    ),
    # makedumpfile
    _Rule(
        r"No space left on device|ENOSPC",
        Stage.DISK_FULL,
        "S3",
        "the target has no space left for the dump",
        "make room; leave out more pages (-d 31), compress (-l), keep fewer dumps",
        r"makedumpfile Failed|saving vmcore failed|failed to save vmcore",
    ),
    _Rule(
        r"PAGE SIZE .* not supported|VA Bits \d+ not supported",
        Stage.COLLECTOR,
        "S8",
        "makedumpfile is too old for the crashed kernel",
        "install a newer makedumpfile in the capture initramfs",
        r"makedumpfile Failed",
    ),
    _Rule(
        r"Can't get (?:the )?(?:address|symbol|size) of|Invalid vmcoreinfo",
        Stage.COLLECTOR,
        "S10",
        "makedumpfile cannot find its way in the dump: the core headers or VMCOREINFO are wrong",
        "load again and compare pykexec -p --dry-run; check /proc/kallsyms and kernel.kptr_restrict",
        r"makedumpfile Failed",
    ),
    _Rule(
        r"Can't allocate memory|Cannot allocate memory",
        Stage.OUT_OF_MEMORY,
        "O4",
        "makedumpfile did not get the memory it needs",
        f"{_MORE_MEMORY}; fewer --num-threads",
        r"makedumpfile Failed",
    ),
    _Rule(
        r"Can't open the dump memory|/proc/vmcore.*(?:No such file|not found)",
        Stage.COLLECTOR,
        "P11",
        "the capture kernel shows no /proc/vmcore",
        "take a kernel with CONFIG_PROC_VMCORE and CONFIG_CRASH_DUMP, and load it with -p",
        r"makedumpfile Failed",
    ),
    # ssh, mount, dracut, systemd, initramfs-tools
    _Rule(
        r"Host key verification failed|Permission denied \(publickey",
        Stage.TARGET,
        "S1",
        "the ssh server does not let the capture system in",
        "propagate the key, and the server's host key, and rebuild the initramfs",
    ),
    _Rule(
        r"ssh: connect to host|Unable to reach remote server|Network is unreachable|No route to host",
        Stage.TARGET,
        "S1",
        "the ssh server cannot be reached from the capture system",
        "see that the initramfs has the network's driver and configuration",
    ),
    _Rule(
        r"mount\.nfs|Unable to mount remote NFS|nfs: server .* not responding",
        Stage.TARGET,
        "S2",
        "the NFS export cannot be mounted in the capture system",
        "test the mount by its address; allow root to write there (no_root_squash)",
    ),
    _Rule(
        r"dracut-initqueue.*(?:timeout|starting timeout scripts)|Timed out waiting for device|"
        r"Dependency failed for .*(?:sysroot|kdumproot)|ALERT! .* does not exist|"
        r"Gave up waiting for (?:root|suspend)",
        Stage.ROOT,
        "S7",
        "a device that the dump goes to did not appear in the capture system",
        "rebuild the initramfs on this machine with the driver of that device; name the device by UUID",
    ),
    _Rule(
        r"makedumpfile Failed|makedumpfile.* failed|saving vmcore failed|failed to save vmcore",
        Stage.COLLECTOR,
        "S14",
        "makedumpfile failed",
        "see the line before; run it again by hand with failure_action shell",
    ),
)


_USERLAND = r"Run /\S+ as init process|systemd\[1\]|dracut|kdump"
_DEVICES = (
    r"DMAR: .*fault|AMD-Vi: Event|nvme.*timeout|mlx5.*timeout|irq \d+: nobody cared|"
    r"rcu.*self-detected stall|blocked for more than \d+ seconds|soft lockup"
)


def _stopped_silently(log: ConsoleLog) -> Ending:
    last = next((line for line in reversed(log.capture) if line.text.strip()), log.capture[0])
    userland = log.find(_USERLAND, log.capture)
    device = log.find(_DEVICES, log.capture)
    if userland is not None:
        return Ending(
            Stage.USERLAND,
            "the capture system was up, and says nothing of a dump",
            (userland, last),
            "see what its init does: failure_action shell, rd.shell rd.debug",
            "S14",
        )
    return Ending(
        Stage.KERNEL,
        "the capture kernel stopped while it set up its devices",
        (last,) if device is None else (device, last),
        "add reset_devices; leave the driver named last out of the initramfs, or give it a chance with"
        " pcie_ports=compat or iommu=off",
        "B9",
    )


def as_text(ending: Ending) -> str:
    """The ending for people."""
    lines = [f"{ending.stage.value}: {ending.cause}"]
    lines += [f"  line {line.number}: {shown(line)}" for line in ending.evidence]
    lines += [f"  {ending.remedy}"] if ending.remedy else []
    return "\n".join(lines) + "\n"


def shown(line: Line) -> str:
    """A line's text, not too long."""
    return line.text if len(line.text) <= _EVIDENCE_MAX else line.text[: _EVIDENCE_MAX - 3] + "..."


def as_json(ending: Ending) -> str:
    """One JSON object."""
    content = {
        "schema": SCHEMA,
        "stage": ending.stage.name.lower(),
        "cause": ending.cause,
        "evidence": [{"line": line.number, "text": line.text} for line in ending.evidence],
        "remedy": ending.remedy,
        "finding": ending.finding,
    }
    return json.dumps(content, indent=2) + "\n"
