"""The part of an architecture that doctor uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pykexec import arch
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Judgement, fine, unknown

Judge = Callable[[Facts], Judgement]


@dataclass(frozen=True, slots=True)
class DoctorPart:
    """How an architecture's machines are judged (arch/<name>/doctor.py)."""

    checks: Mapping[str, Judge] = field(default_factory=dict)
    """Judges of the catalogue's checks that depend on the architecture, by the check's id."""
    console: str | None = None
    """The value of console= for the usual serial port; None: not known."""
    stopping_cpus: str | None = None
    """What to do where CPUs go on in a crash; None: not known."""
    reserves_with: tuple[str, ...] = ()
    """Options of its configuration without which a kernel ignores crashkernel=, whatever sysfs shows."""


UNKNOWN = DoctorPart()


def part_of(name: str) -> DoctorPart:
    """Return how machines of that architecture are judged; `name` may be an unknown machine's uname."""
    return arch.part_of(name, "doctor", UNKNOWN)


def always_fine(evidence: str) -> Judge:
    """Return a judge for what is so on all machines of an architecture."""
    return lambda _: fine(evidence)


def of_architecture(id: str, not_known: str) -> Judge:
    """Return a judge that lets the architecture judge the check with that id.

    Where the architecture has no judge, it cannot tell: `not_known` is the reason, {arch} in it the name.
    """

    def judge(facts: Facts) -> Judgement:
        own = part_of(facts.arch).checks.get(id)
        return unknown(not_known.format(arch=facts.arch)) if own is None else own(facts)

    return judge
