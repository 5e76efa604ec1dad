"""Whether a panic now will leave a dump, why, and the one command that comes next."""

from __future__ import annotations

import enum
from contextlib import suppress
from dataclasses import dataclass, replace

from pykexec import loader
from pykexec.errors import FileError, MachineError, PykexecError
from pykexec.kdump import config
from pykexec.kdump.config.settings import Settings
from pykexec.kdump.rehearsal.receipt import Compared
from pykexec.kdump.reservation import bootfiles, crashkernel, restart, running
from pykexec.kdump.reservation.crashkernel import size_text
from pykexec.kdump.service import receipt as receipts
from pykexec.kdump.service import trial
from pykexec.kdump.service.receipt import Receipt
from pykexec.kdump.service.trial import Outcome
from pykexec.machine import Machine
from pykexec.purpose import Purpose


class Readiness(enum.Enum):
    """The answer to whether a panic will leave a dump."""

    NOT_ARMED = "no"
    UNKNOWN = "yes, but cannot tell what"
    UNPROVEN = "yes, but unproven"
    REHEARSED = "yes, rehearsed"
    PROVEN = "yes, and proven"


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next."""

    command: str
    purpose: str

    def __str__(self) -> str:
        return f"{self.command}: {self.purpose}"


SET_UP = Step("pykdump setup", "reserves memory, writes a configuration, and turns the service on")
REBOOT = Step("reboot", "memory is reserved at the next boot; the boot loader knows how much")
LOOK = Step("pykdump doctor", "says what stands in the way, and how to mend it")
START = Step("pykdump start", "loads a capture kernel")
START_AGAIN = Step("pykdump start", "loads one that status knows")
START_CORRECTED = Step("pykdump start", "when the configuration is corrected")
TEST = Step("pykdump test", "crashes this machine, to prove that a dump comes of it")
REHEARSE = Step("pykdump rehearse", "shows without a crash whether a dump comes of what is loaded")
REHEARSE_AGAIN = Step("pykdump rehearse", "says more of it, and whether it is mended")
PASSED = Step("pykdump test --passed", "when the test's dump is there")
AS_ROOT = Step("sudo pykdump status", "root can be told more")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer, its reason, and the next step; None where there is nothing to do."""

    readiness: Readiness
    why: str
    next: Step | None = None
    limit: str = ""
    """What belongs to the answer, too."""

    def __str__(self) -> str:
        return f"{self.readiness.value}{self.limit}: {self.why}"


def judge(
    machine: Machine,
    settings: Settings | None,
    receipt: Receipt | None,
    outcome: Outcome,
    rehearsal: Compared | None = None,
) -> Judgement:
    """Judge by what is loaded, its receipt, the last test, and the last rehearsal. Raises FileError."""
    if found := not_armed(machine, settings):
        return found
    if receipt is None:
        return Judgement(Readiness.UNPROVEN, "there is no receipt of what is loaded", START_AGAIN)
    proven = receipts.load(receipts.PROVEN)
    if proven is not None and proven.proves(receipt):
        why = f"a test passed with the same kernel, initrd and command line ({proven.time})"
        return Judgement(Readiness.PROVEN, why)
    if outcome is Outcome.FAILED:
        return Judgement(Readiness.UNPROVEN, "the last pykdump test left no whole dump", LOOK)
    if outcome is Outcome.UNSEEN:
        why = f"the last test's dump cannot be seen from here; its log has {_marker()!r}"
        return Judgement(Readiness.UNPROVEN, why, PASSED)
    if rehearsal is not None:
        return _rehearsed(rehearsal)
    if proven is None:
        return Judgement(Readiness.UNPROVEN, "no pykdump test has been made", TEST)
    why = "kernel, initrd or command line changed since the last pykdump test"
    return Judgement(Readiness.UNPROVEN, why, TEST)


def _rehearsed(rehearsal: Compared) -> Judgement:
    """Judge what no crash has proven by its rehearsal."""
    then = rehearsal.rehearsed
    if rehearsal.changed:
        ending = "" if then.is_passed else ", which failed"
        why = f"changed since the rehearsal of {then.date}{ending}: {', '.join(rehearsal.changed)}"
        return Judgement(Readiness.UNPROVEN, why, REHEARSE)
    if not then.is_passed:
        why = f"the rehearsal of {then.date} failed: {then.failure}"
        return Judgement(Readiness.UNPROVEN, why, REHEARSE_AGAIN)
    limit = f" on {then.date} but never proven by a crash"
    why = "the same kernel, image, command line and configuration left a dump"
    return Judgement(Readiness.REHEARSED, why, TEST, limit)


def untold(machine: Machine, settings: Settings | None, error: FileError | MachineError) -> Judgement:
    """Judge where that error keeps from telling what is loaded."""
    hint = f" ({error.hint})" if error.hint else ""
    found = Judgement(Readiness.UNKNOWN, f"{error.what}{hint}", AS_ROOT if error.hint else None)
    return not_armed(machine, settings) or found


def not_armed(machine: Machine, settings: Settings | None) -> Judgement | None:
    """Return the judgement where nothing is loaded; None where something is.

    `settings`: None where there is no configuration, or one that cannot be understood.
    """
    is_loaded = loader.status(Purpose.CRASH, machine)
    if is_loaded:
        return None
    if is_loaded is None:
        why, step = "the running kernel does not say that a capture kernel is loaded", LOOK
    elif (machine.kexec_state.crash_size or 0) < crashkernel.SMALLEST:
        why, step = _without_memory(machine)
    else:
        why, step = _without_kernel(machine, settings)
    return Judgement(Readiness.NOT_ARMED, why, step)


def _without_memory(machine: Machine) -> tuple[str, Step]:
    """Return why no memory is reserved, and what to do."""
    nothing = "no memory is reserved for a capture kernel"
    try:
        if crashkernel.values(machine.command_line):
            return f"{nothing}: {_why_in_vain(machine)}", LOOK
    except MachineError:
        return nothing, LOOK
    nothing += ", as the kernel's command line has no crashkernel="
    with suppress(MachineError):
        if any(True for _ in bootfiles.configured(machine.root)):
            return nothing, replace(REBOOT, command=restart.command(machine.root))
    return nothing, SET_UP


def _why_in_vain(machine: Machine) -> str:
    """Return why the crashkernel= of the command line has reserved nothing."""
    try:
        found = running.expected(machine)
    except PykexecError:  # memory is hidden from who is not root
        return f"crashkernel={crashkernel.values(machine.command_line)[-1]} has reserved none"
    if found.why_nothing:
        return f"crashkernel={found.text}: {found.why_nothing}"
    return f"the kernel found no room for the {size_text(found.size)} of crashkernel={found.text}"


def _without_kernel(machine: Machine, settings: Settings | None) -> tuple[str, Step]:
    """Return why the memory that is reserved holds no capture kernel, and what to do."""
    nothing = "no capture kernel is loaded"
    state = machine.kexec_state
    if state.load_disabled or state.load_limit_panic == 0:
        return f"{nothing}, and the running kernel allows no more loads", LOOK
    if settings is None:
        return nothing, SET_UP if _is_unconfigured(machine) else START_CORRECTED
    if not settings.enabled:
        return f"{nothing}: {settings.files[0]} turns kdump off", START_CORRECTED
    return nothing, START


def _is_unconfigured(machine: Machine) -> bool:
    try:
        return config.find(machine.root) is None
    except PykexecError:
        return False


def _marker() -> str:
    begun = trial.pending()
    return begun[0].marker if begun else ""
