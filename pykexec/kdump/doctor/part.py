"""What doctor asks of an architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pykexec import arch
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Judgement, unknown

Judge = Callable[[Facts], Judgement]


@dataclass(frozen=True, slots=True)
class DoctorPart:
    """How an architecture's machines are judged (arch/<name>/doctor.py)."""

    checks: Mapping[str, Judge] = field(default_factory=dict)
    """Those of the catalogue's checks that only the architecture can judge, by their ids."""
    console: str | None = None
    """What console= takes for the usual serial port; None: that is not known."""
    stopping_cpus: str | None = None
    """What to do where CPUs go on in a crash; None: that is not known."""


UNKNOWN = DoctorPart()


def part_of(name: str) -> DoctorPart:
    """Return how machines of that architecture are judged; `name` may be what an unknown uname says."""
    return arch.part_of(name, "doctor", UNKNOWN)


def of_architecture(id: str, not_known: str) -> Judge:
    """Return the judge of that check: the architecture's.

    Where that has none it cannot tell, for the reason `not_known`, in which {arch} is its name.
    """

    def judge(facts: Facts) -> Judgement:
        own = part_of(facts.arch).checks.get(id)
        return unknown(not_known.format(arch=facts.arch)) if own is None else own(facts)

    return judge
