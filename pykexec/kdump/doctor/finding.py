"""What doctor says: one judgement for each thing that can be wrong."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from pykexec.errors import PykexecError
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.shell import NO_COMMAND, Command


class Stage(enum.Enum):
    """When a fault shows, in the order of events."""

    KERNEL = "kernel"
    """What the running kernel, or its policy, does not allow."""
    RESERVATION = "reservation"
    LOAD = "load"
    TRIGGER = "trigger"
    """Whether a crash starts the capture kernel at all."""
    CAPTURE = "capture boot"
    MEMORY = "memory"
    """In the capture kernel."""
    TARGET = "dump target"
    TOOLS = "tools"


class Verdict(enum.Enum):
    FINE = "fine"
    WRONG = "wrong"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a check has seen; `cause` says what is wrong, or why it cannot tell."""

    verdict: Verdict
    cause: str = ""
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    """What to do. No text from outside is in it, but what was parsed of it."""
    command: Command = NO_COMMAND
    """What does as the remedy says."""


def fine(*evidence: str) -> Judgement:
    """Nothing wrong, as the evidence shows."""
    return Judgement(Verdict.FINE, evidence=evidence)


def wrong(cause: str, *evidence: str, remedy: str, command: Command = NO_COMMAND) -> Judgement:
    return Judgement(Verdict.WRONG, cause, evidence, remedy, command)


def said(error: PykexecError) -> tuple[str, ...]:
    """An error as evidence. Its hint is no remedy: it may have words of the file at fault in it."""
    return (error.what, error.hint) if error.hint else (error.what,)


def unknown(why: str) -> Judgement:
    return Judgement(Verdict.UNKNOWN, why)


@dataclass(frozen=True, slots=True)
class Check:
    """Looks for one fault; the id is stable."""

    id: str
    stage: Stage
    title: str
    """What is so when nothing is wrong."""
    judge: Callable[[Facts], Judgement] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """A check's judgement of a machine."""

    id: str
    stage: Stage
    title: str
    verdict: Verdict
    cause: str
    evidence: tuple[str, ...]
    remedy: str
    command: str = ""
    """One line for a shell that does what the remedy says; empty where there is none."""
