"""Choose the one thing to mend first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pykexec.kdump.console.diagnosis import Ending
from pykexec.kdump.doctor.finding import Finding, Verdict

# Each may be the cause of those after it, which then go away with it.
_NOTHING_LOADED = (
    "P1", "P8", "P2", "R1", "R3", "R11", "R5", "R2", "P3", "P4", "P7", "V1", "L18", "P5", "P6", "P9",
    "P10", "P12", "P13", "L14", "V4", "L4", "L1", "L10", "L5", "L6", "L7", "L8", "L11", "L17",
    "R12",
)  # fmt: skip
# These cost the dump although a crash kernel is loaded; the others are risks and advice.
_LOADED = (
    "L19", "L20", "P11", "P14", "R6", "R8", "R10", "R4", "O3", "O1", "O8", "O2", "O4", "V3", "S8", "B11",
    "B15", "L13", "O5", "S5", "S15", "V4", "S6", "S1", "S2", "S12", "S9", "S3", "S4", "V1", "L15",
)  # fmt: skip


def first(findings: Sequence[Finding], *, armed: bool, ending: Ending | None = None) -> Finding | None:
    """Return the finding that most likely prevents a dump; None where nothing is known to.

    If kdump is armed, the known cause of a failed capture comes first; if not, what prevents a load does.
    """
    wrong: Mapping[str, Finding] = {each.id: each for each in findings if each.verdict is Verdict.WRONG}
    failed = (ending.finding,) if ending is not None and ending.finding else ()
    order = (*failed, *_LOADED) if armed else (*_NOTHING_LOADED, *failed, *_LOADED)
    return next((wrong[each] for each in order if each in wrong), None)
