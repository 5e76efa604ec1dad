"""The doctor: find out what is wrong with a machine's kdump. It loads and changes nothing.

It judges by facts alone. On the running machine it also asks the code that starts the service; that runs
mdadm, ssh, ssh-keygen and teamdctl to find out about the dump target.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence

from pykexec import redact
from pykexec.errors import PykexecError, printable
from pykexec.kdump.console.diagnosis import Ending, as_object
from pykexec.kdump.doctor import (
    blocker,
    capture,
    kernel,
    load,
    loaded,
    memory,
    reservation,
    starting,
    target,
    tools,
    trigger,
)
from pykexec.kdump.doctor.facts import FACTS, Facts
from pykexec.kdump.doctor.finding import Check, Finding, Judgement, Stage, Verdict, unknown
from pykexec.kdump.doctor.hostfiles import HostFiles
from pykexec.terminal import folded

__all__ = [
    "CATALOGUE",
    "FACTS",
    "SCHEMA",
    "Facts",
    "Finding",
    "HostFiles",
    "Stage",
    "Verdict",
    "as_json",
    "as_text",
    "diagnose",
    "exit_code",
    "first_to_mend",
    "is_armed",
    "is_proven",
    "is_rehearsed",
]

SCHEMA = 1
"""The version of the JSON form, raised when a key changes its meaning or goes away."""

CATALOGUE: tuple[Check, ...] = (
    *kernel.CHECKS,
    *reservation.CHECKS,
    *load.CHECKS,
    *loaded.CHECKS,
    *trigger.CHECKS,
    *capture.CHECKS,
    *memory.CHECKS,
    *target.CHECKS,
    *tools.CHECKS,
    *starting.CHECKS,
)
"""All checks, in the order in which faults show."""

_BLOCKING = frozenset(("P1", "R1", "R2", "L17"))
"""Checks that prevent every dump where they are wrong: then kdump is not armed."""


def diagnose(facts: Facts, only: Collection[str] | None = None) -> tuple[Finding, ...]:
    """Judge a machine: one finding for each check (or only for those ids), in the catalogue's order."""
    return tuple(_finding(check, facts) for check in CATALOGUE if only is None or check.id in only)


def _finding(check: Check, facts: Facts) -> Finding:
    judgement = _judgement(check, facts)
    return Finding(
        check.id,
        check.stage,
        check.title,
        judgement.verdict,
        printable(redact.text(judgement.cause)),
        # Others read reports. And a snapshot, which has no secrets any more, gives the same report.
        tuple(printable(redact.text(each)) for each in judgement.evidence),
        printable(redact.text(judgement.remedy)),
        str(judgement.command),
    )


def _judgement(check: Check, facts: Facts) -> Judgement:
    try:
        return check.judge(facts)
    except PykexecError as error:
        return unknown(error.what)


def is_armed(findings: Sequence[Finding]) -> bool | None:
    """Return whether a crash now would start a capture kernel with a place for the dump; None: unknown."""
    verdicts = {finding.id: finding.verdict for finding in findings}
    if verdicts.get("L17") is Verdict.FINE:
        return verdicts.get("S15") is not Verdict.WRONG
    return False if any(verdicts.get(each) is Verdict.WRONG for each in _BLOCKING) else None


def is_proven(findings: Sequence[Finding]) -> bool:
    """Return whether a crash has proven what is loaded."""
    return any(finding.id == "L19" and finding.verdict is Verdict.FINE for finding in findings)


def is_rehearsed(findings: Sequence[Finding]) -> bool:
    """Return whether a rehearsal has shown that what is loaded leaves a dump."""
    return any(finding.id == "L20" and finding.verdict is Verdict.FINE for finding in findings)


def first_to_mend(findings: Sequence[Finding], ending: Ending | None = None) -> Finding | None:
    """Return the most likely reason why there will be no dump; `ending` is that of a failed capture."""
    return blocker.first(findings, armed=bool(is_armed(findings)), ending=ending)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0: armed, nothing wrong; 1: armed, something wrong; 3 otherwise (as kdumpctl status)."""
    if not is_armed(findings):
        return 3
    return int(any(finding.verdict is Verdict.WRONG for finding in findings))


def as_text(
    findings: Sequence[Finding],
    *,
    everything: bool = False,
    ending: Ending | None = None,
    columns: int | None = None,
) -> str:
    """Return a report for people: whether kdump is armed, what to mend first, then all that is wrong.

    `everything` adds what is fine and what cannot be told; `ending` is that of a failed capture. Lines are
    folded to that many columns, but for commands, which are there to be copied.
    """
    return "\n".join((*_head(findings, ending, columns), *_lines(findings, everything, columns))) + "\n"


def _head(findings: Sequence[Finding], ending: Ending | None, columns: int | None) -> Iterator[str]:
    armed = is_armed(findings)
    if armed:
        yield from folded(_proof(findings), columns, first="armed: ")
    else:
        yield "armed: cannot tell" if armed is None else "armed: no"
    first = first_to_mend(findings, ending)
    if first is not None:
        yield from folded(f"{first.cause} ({first.id})", columns, first="mend first: ")
        yield from _evidence(first, columns)
        if first.command:
            yield f"       $ {first.command}"
        else:
            yield from folded(first.remedy, columns, first="       > ")
    blind = sum("(V1)" in each.cause for each in findings if each.verdict is Verdict.UNKNOWN)
    if blind:
        yield f"{blind} checks need the configuration, which cannot be understood (V1)"


def _proof(findings: Sequence[Finding]) -> str:
    """Return the answer for a machine that is armed."""
    if is_proven(findings):
        return "yes, and proven"
    proof = next((each for each in findings if each.id == "L19"), None)
    # A real crash that left no dump tells more than one in QEMU that left one.
    if is_rehearsed(findings) and (proof is None or proof.verdict is not Verdict.WRONG):
        return "yes, rehearsed but never proven by a crash"
    return f"yes, but unproven: {'' if proof is None else proof.cause}"


def _lines(findings: Sequence[Finding], everything: bool, columns: int | None) -> Iterator[str]:
    for stage in Stage:
        shown = [
            each
            for each in findings
            if each.stage is stage and (everything or each.verdict is Verdict.WRONG)
        ]
        if shown:
            yield f"{stage.value}:"
        for finding in shown:
            yield from _finding_lines(finding, columns)
    counts = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
    yield ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items())


def _finding_lines(finding: Finding, columns: int | None) -> Iterator[str]:
    text = finding.title if finding.verdict is Verdict.FINE else finding.cause
    yield from folded(f"{finding.verdict.value}: {text}", columns, first=f"  {finding.id:<4} ")
    yield from _evidence(finding, columns)
    if finding.remedy:
        yield from folded(finding.remedy, columns, first="       > ")


def _evidence(finding: Finding, columns: int | None) -> Iterator[str]:
    for each in finding.evidence:
        yield from folded(each, columns, first="         ")


def as_json(findings: Sequence[Finding], *, ending: Ending | None = None) -> str:
    """Return a report for programs: one JSON object; ids are stable."""
    first = first_to_mend(findings, ending)
    content = {
        "schema": SCHEMA,
        "armed": is_armed(findings),
        "proven": is_proven(findings),
        "rehearsed": is_rehearsed(findings),
        "mend_first": None if first is None else first.id,
        "capture": None if ending is None else as_object(ending),
        "findings": [
            {
                "id": finding.id,
                "stage": finding.stage.name.lower(),
                "title": finding.title,
                "verdict": finding.verdict.name.lower(),
                "cause": finding.cause,
                "evidence": list(finding.evidence),
                "remedy": finding.remedy,
                "command": finding.command,
            }
            for finding in findings
        ],
    }
    return json.dumps(content, indent=2) + "\n"
