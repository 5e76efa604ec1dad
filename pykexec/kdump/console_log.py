"""Where a capture stopped, read from the console's log of a machine that crashed.

Such a log may begin anywhere, hold several boots, and be cut or garbled by the crash. The last crash counts.
What its lines mean is in `console_rules`.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pykexec.kdump.console_rules import LEFT, LOG_SAVED, NOT_SAVED, PANIC, RULES, SAVED, SAVING, Stage

__all__ = [
    "SCHEMA",
    "ConsoleLog",
    "Ending",
    "Line",
    "Stage",
    "as_json",
    "as_object",
    "as_text",
    "diagnose",
    "parse",
    "shown",
    "tail",
]

SCHEMA = 1
"""Version of the JSON form."""

_LINE_MAX = 2000
_EVIDENCE_MAX = 160


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
_PANIC = re.compile(PANIC)
# With a crash kernel loaded an oops leads to it without a panic: arch/*/kernel, die() and oops_end().
_OOPS = re.compile(
    r"Oops: [0-9a-f]{4}|Oops \[#|Oops - |Internal error: |BUG: (?:kernel|unable)|Unable to handle kernel"
    r"|general protection fault|sysrq: (?:SysRq : )?Trigger a crash"
)
_OF_A_CAPTURE = re.compile(r"[Cc]ommand line: .*\belfcorehdr=|for elfcorehdr")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")

# kernel/panic.c: what is printed only when no crash kernel took over, after the panic's notifiers.
_NOT_TAKEN_OVER = (
    r"---\[ end Kernel panic|Rebooting in \d+ seconds|Kernel Offset: |PHYS_OFFSET: 0x|Memory Limit: "
)
_ON_THE_WAY = r"Starting crashdump kernel|\bBye!|I'm in purgatory|^purgatory: "


def parse(text: str, first: int = 1) -> ConsoleLog:
    """Take a log apart. Any text is a log; what is no line of one is passed over.

    `first` is the number of its first line.
    """
    lines = tuple(_lines(text, first))
    starts = [index for index, line in enumerate(lines) if _BANNER.search(line.text)]
    runs = [lines[start:end] for start, end in zip([0, *starts], [*starts, len(lines)], strict=True)]
    for index in range(len(runs) - 1, -1, -1):
        if _is_capture(runs, index):
            # What crashed may be of a time before the log begins.
            before = runs[index - 1] if index else ()
            at = _crash_at(before, _PANIC, _OOPS)
            rest = () if at is None else before[at + 1 :]
            return ConsoleLog(lines, None if at is None else before[at], (*rest, *runs[index]), runs[index])
        went = any(re.search(_ON_THE_WAY, line.text) for line in runs[index][-20:])
        at = _crash_at(runs[index], _PANIC, *([_OOPS] if went else []))
        if at is None:
            continue
        rest = runs[index][at + 1 :]
        # With "quiet" the second kernel says nothing before its programs do.
        begin = next((at for at, line in enumerate(rest) if _SAYS_USERLAND.search(line.text)), len(rest))
        return ConsoleLog(lines, runs[index][at], rest, rest[begin:])
    return ConsoleLog(lines, None)


def _crash_at(run: Sequence[Line], *signs: re.Pattern[str]) -> int | None:
    """Where a run tells of its crash, by the first of the signs that is there."""
    found = (next((at for at, line in enumerate(run) if sign.search(line.text)), None) for sign in signs)
    return next((at for at in found if at is not None), None)


_SAYS_USERLAND = re.compile(
    r"makedumpfile|kdump\[|pykdump: |kdump-tools|dracut|systemd\[1\]|Run /init as init"
)


def _is_capture(runs: Sequence[tuple[Line, ...]], index: int) -> bool:
    """Whether a boot is that of a capture kernel: it says so itself, or was seen to be started as one."""
    if any(_OF_A_CAPTURE.search(line.text) for line in runs[index][:2000]):
        return True
    before = runs[index - 1] if index else ()
    return any(re.search(_ON_THE_WAY, line.text) for line in before[-20:]) and any(
        _PANIC.search(line.text) or _OOPS.search(line.text) for line in before
    )


_LINES_MAX = 1 << 17
"""More than a crash, and the boots around it, write."""


def _lines(text: str, first: int) -> Iterable[Line]:
    last = text.rsplit("\n", _LINES_MAX)
    if len(last) > _LINES_MAX:
        first += last.pop(0).count("\n") + 1
    for number, line in enumerate(last, first):
        # Progress is written over itself; the last state is what counts.
        shown = _ESCAPES.sub("", line[-_LINE_MAX:].rstrip("\r").rpartition("\r")[2])
        if not shown.isprintable():
            shown = "".join(each if each.isprintable() else " " for each in shown)
        yield Line(number, shown.rstrip())


_TAIL_MAX = 16 << 20
_PIECE = 1 << 20


def tail(file: BinaryIO) -> tuple[str, int]:
    """The end of a log, 16 MiB at most, where its last crash is; and the number of the first line there.

    Holes of a sparse file are passed over: there are no lines in them.
    """
    kept, size, skipped = deque[bytes](), 0, 0
    for piece in _written(file):
        kept.append(piece)
        size += len(piece)
        while size - len(kept[0]) >= _TAIL_MAX:
            size -= len(kept[0])
            skipped += kept.popleft().count(b"\n")
    return b"".join(kept).decode("utf-8", "replace"), skipped + 1


def _written(file: BinaryIO) -> Iterator[bytes]:
    """What is in a file, or in what can be read only once, piece by piece."""
    may_have_holes = file.seekable()
    while True:
        if may_have_holes:
            try:
                file.seek(file.tell(), os.SEEK_DATA)
            except (OSError, ValueError) as error:
                if getattr(error, "errno", None) == errno.ENXIO:  # there is a hole up to the end
                    return
                may_have_holes = False  # or a file system that does not tell
        piece = file.read(_PIECE)
        if not piece:
            return
        yield piece


def diagnose(log: ConsoleLog) -> Ending:
    """Where the last crash in a log led to."""
    if log.panic is None and not log.capture:
        return Ending(
            Stage.NO_CRASH,
            "there is no kernel panic in this log",
            remedy="look for the crash in another log",
        )
    saved, failed = (log.find(pattern, reversed(log.after)) for pattern in (SAVED, NOT_SAVED))
    # A failure may be followed by another way to save, and makedumpfile's success by the loss of its output.
    if saved is not None and (failed is None or failed.number < saved.number):
        return Ending(Stage.SAVED, "the dump was saved", (saved,))
    logged, left = (log.find(pattern) for pattern in (LOG_SAVED, LEFT))
    if logged and left and not failed and not log.find(SAVING):
        return Ending(Stage.SAVED, "the log was saved; a dump was not asked for", (logged, left))
    if log.panic is not None and not log.capture:
        return _before_the_second_kernel(log, log.panic)
    for rule in RULES:
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
    return json.dumps({"schema": SCHEMA, **as_object(ending)}, indent=2) + "\n"


def as_object(ending: Ending) -> dict[str, object]:
    """The ending as what JSON is made of."""
    return {
        "stage": ending.stage.name.lower(),
        "cause": ending.cause,
        "evidence": [{"line": line.number, "text": line.text} for line in ending.evidence],
        "remedy": ending.remedy,
        "finding": ending.finding,
    }
