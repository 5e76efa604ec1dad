"""The doctor's results: one judgement for each thing that can be wrong."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from pykexec.errors import PykexecError
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.shell import NO_COMMAND, Command


class Stage(enum.Enum):
    """The stage in which a fault shows; they are in the order of events."""

    KERNEL = "kernel"
    """Features that the running kernel lacks, or that its policy forbids."""
    RESERVATION = "reservation"
    LOAD = "load"
    TRIGGER = "trigger"
    """Whether a crash starts the capture kernel at all."""
    CAPTURE = "capture boot"
    MEMORY = "memory"
    """Memory in the capture kernel."""
    TARGET = "dump target"
    TOOLS = "tools"


class Verdict(enum.Enum):
    FINE = "fine"
    WRONG = "wrong"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of a check; `cause` says what is wrong, or why the check cannot tell."""

    verdict: Verdict
    cause: str = ""
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    """What to do. It has no text from outside in it, only values parsed from such text."""
    command: Command = NO_COMMAND
    """The command that carries out the remedy."""


def fine(*evidence: str) -> Judgement:
    """Return the judgement that nothing is wrong, as the evidence shows."""
    return Judgement(Verdict.FINE, evidence=evidence)


def wrong(cause: str, *evidence: str, remedy: str, command: Command = NO_COMMAND) -> Judgement:
    return Judgement(Verdict.WRONG, cause, evidence, remedy, command)


def said(error: PykexecError) -> tuple[str, ...]:
    """Return an error as evidence. Its hint is no remedy, because it may quote the file at fault."""
    return (error.what, error.hint) if error.hint else (error.what,)


def unknown(why: str) -> Judgement:
    return Judgement(Verdict.UNKNOWN, why)


@dataclass(frozen=True, slots=True)
class Check:
    """A check for one fault; the id is stable."""

    id: str
    stage: Stage
    title: str
    """What is true when nothing is wrong."""
    judge: Callable[[Facts], Judgement] = field(compare=False)
    looks_at: str
    """The files, settings and logs that it reads, for people."""
    matters: str
    """Why a fault costs the dump, or may."""
    mend: str
    """What to do about it on most machines; a finding's remedy knows the machine."""


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
    """A line for a shell that does what the remedy says; empty where there is none."""
