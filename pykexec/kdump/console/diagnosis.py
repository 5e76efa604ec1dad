"""Find where a capture stopped, from the console's log of a machine that crashed.

Such a log may begin anywhere, hold several boots, and be cut or garbled by the crash. The last crash counts.
`rules` has the meaning of lines, `signs` their wordings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pykexec.kdump.console import drivers as drivers
from pykexec.kdump.console import signs as signs
from pykexec.kdump.console.lines import ConsoleLog, Line, parse, tail
from pykexec.kdump.console.rules import NEWER_MAKEDUMPFILE, RULES, Blame, Rule, Stage
from pykexec.terminal import folded

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
"""The version of the JSON form."""

_EVIDENCE_MAX = 160


@dataclass(frozen=True, slots=True)
class Ending:
    """The place where a capture stopped, why, and what to do."""

    stage: Stage
    cause: str
    evidence: tuple[Line, ...] = ()
    remedy: str = ""
    finding: str = ""
    """The id of the doctor's finding that it is an instance of; empty for none."""


def diagnose(log: ConsoleLog) -> Ending:
    """Return the end that the last crash in a log came to."""
    if log.panic is None and not log.capture:
        return Ending(
            Stage.NO_CRASH,
            "there is no kernel panic in this log",
            remedy="look for the crash in another log",
        )
    saved, failed = (log.find(pattern, reversed(log.after)) for pattern in (signs.SAVED, signs.NOT_SAVED))
    # Another way to save may follow a failure, and makedumpfile's output may be lost after its success.
    if saved is not None and (failed is None or failed.number < saved.number):
        return _saved(log, saved)
    logged, left = (log.find(pattern) for pattern in (signs.LOG_SAVED, signs.LEFT))
    if logged and left and not failed and not log.find(signs.SAVING):
        return Ending(Stage.SAVED, "the log was saved; a dump was not asked for", (logged, left))
    if log.panic is not None and not log.capture:
        return _before_the_second_kernel(log, log.panic)
    found = (_by_rule(rule, log) for rule in RULES)
    return next((ending for ending in found if ending is not None), None) or _stopped_silently(log)


def _saved(log: ConsoleLog, saved: Line) -> Ending:
    before = [line for line in log.after if line.number < saved.number]
    unsupported = log.find(signs.UNSUPPORTED, reversed(before))
    other_way = log.find(rf"{signs.NOT_SAVED}|{signs.OTHER_WAY}", reversed(before))
    if unsupported is None or (other_way is not None and other_way.number > unsupported.number):
        return Ending(Stage.SAVED, "the dump was saved", (saved,))
    return Ending(
        Stage.COLLECTOR,
        "a dump was written, but makedumpfile does not know the crashed kernel: it may be incomplete",
        (unsupported, saved),
        NEWER_MAKEDUMPFILE,
        "S8",
    )


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
    loaded = log.find(signs.LOADED, (panic, *log.after))
    gave_up = log.find(signs.AFTER_NOTIFIERS)
    if gave_up is not None and loaded is None:
        refused = log.find(signs.CANNOT_LOAD, reversed(log.before))
        return Ending(
            Stage.NOT_LOADED,
            "no crash kernel was loaded when the machine crashed"
            + (": its CPUs cannot be stopped" if refused else ""),
            tuple(line for line in (refused, panic, gave_up) if line is not None),
            _STOP_CPUS
            if refused
            else "load one at boot (enable the kdump service), and see that it stays loaded",
            "L17",
        )
    on_the_way = log.find(signs.ON_THE_WAY)
    went_on = log.find(signs.NOT_STOPPED)
    if went_on is not None:
        return Ending(
            Stage.NO_SECOND_KERNEL,
            "the other CPUs could not be stopped, and no second kernel appeared",
            _in_order(went_on, on_the_way),
            _STOP_CPUS,
            "B18",
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
    return Ending(
        Stage.NO_SECOND_KERNEL,
        "the crashed kernel "
        + ("let go" if on_the_way else "gave no sign")
        + ", and no second one appeared",
        _in_order(loaded or panic, on_the_way or gave_up),
        "look at the console that the capture kernel writes to; a hardware watchdog may reset too soon",
        "B18",
    )


_STOP_CPUS = (
    "boot with firmware that stops CPUs (arm64: PSCI, not enable-method spin-table), and allow pseudo-NMIs"
    " (irqchip.gicv3_pseudo_nmi=1); else run the first kernel on one CPU (maxcpus=1)"
)


def _by_rule(rule: Rule, log: ConsoleLog) -> Ending | None:
    pattern = re.compile(rule.pattern)
    line = log.find(rule.pattern, reversed(log.capture) if rule.latest else log.capture)
    match = None if line is None else pattern.search(line.text)
    if line is None or match is None:
        return None
    needed = log.find(rule.needs, log.capture) if rule.needs else None
    if (rule.needs and needed is None) or (rule.unless and log.find(rule.unless, log.capture)):
        return None
    detail = log.find(rule.detail, log.capture) if rule.detail else None
    cause = rule.cause.format(**{name: text or "" for name, text in match.groupdict().items()})
    ending = Ending(rule.stage, cause, _in_order(line, needed, detail), rule.remedy, rule.finding)
    if rule.blame is Blame.TRACE:
        return _with_module(ending, drivers.traced(log.capture, line))
    if rule.blame is Blame.DRIVERS:
        return _with_drivers(ending, drivers.in_trouble(log.capture))
    return ending


def _with_module(ending: Ending, trace: drivers.Trace) -> Ending:
    return replace(
        ending,
        cause=f"{ending.cause}, in the module {trace.module}" if trace.module else ending.cause,
        evidence=_in_order(*ending.evidence, *trace.lines),
        remedy=drivers.keep_out([trace.module]) if trace.module else ending.remedy,
    )


def _with_drivers(ending: Ending, troubles: Sequence[drivers.Trouble]) -> Ending:
    names = drivers.listed(troubles)
    return replace(
        ending,
        cause=f"{ending.cause}; a driver is in trouble: {names}" if names else ending.cause,
        evidence=_in_order(*ending.evidence, *(each.line for each in troubles)),
    )


def _in_order(*lines: Line | None) -> tuple[Line, ...]:
    return tuple(sorted({line for line in lines if line is not None}, key=lambda line: line.number))


def _stopped_silently(log: ConsoleLog) -> Ending:
    last = log.capture[-1]
    writing = log.find(signs.WRITING, reversed(log.capture))
    since = [line for line in log.capture if writing is None or line.number > writing.number]
    troubles = drivers.in_trouble(since) or drivers.last_word(last)
    userland = log.find(signs.USERLAND, log.capture)
    if writing is not None and not troubles:
        return Ending(
            Stage.UNKNOWN,
            "the dump was being written, and the log says no more of it",
            _in_order(writing, last),
            "look for it on the target (vmcore-incomplete is a part of one); keep more of the log",
        )
    if userland is not None and not troubles:
        return Ending(
            Stage.USERLAND,
            "the capture system was up, and says nothing of a dump",
            _in_order(userland, last),
            "see what its init does: failure_action shell, rd.shell rd.debug",
            "S14",
        )
    names = drivers.listed(troubles)
    stale = log.find(signs.NOT_STOPPED)
    return Ending(
        Stage.KERNEL,
        (
            "the capture kernel stopped while it set up its devices"
            if userland is None
            else "the capture system waits for drivers that hang"
        )
        + (f": {names}" if names else ""),
        _in_order(stale, *(each.line for each in troubles), last),
        drivers.remedy(troubles, resets_devices=log.resets_devices),
        "B9",
    )


def as_text(ending: Ending, columns: int | None = None) -> str:
    """Return the ending for people, folded to that many columns."""
    lines = folded(f"{ending.stage.value}: {ending.cause}", columns)
    for line in ending.evidence:
        lines += folded(shown(line), columns, first=f"  line {line.number}: ")
    lines += folded(ending.remedy, columns, first="  ") if ending.remedy else []
    return "\n".join(lines) + "\n"


def shown(line: Line) -> str:
    """Return a line's text, not too long."""
    return line.text if len(line.text) <= _EVIDENCE_MAX else line.text[: _EVIDENCE_MAX - 3] + "..."


def as_json(ending: Ending) -> str:
    """Return the ending as one JSON object."""
    return json.dumps({"schema": SCHEMA, **as_object(ending)}, indent=2) + "\n"


def as_object(ending: Ending) -> dict[str, object]:
    """Return the ending as an object for JSON."""
    return {
        "stage": ending.stage.name.lower(),
        "cause": ending.cause,
        "evidence": [{"line": line.number, "text": line.text} for line in ending.evidence],
        "remedy": ending.remedy,
        "finding": ending.finding,
    }
