"""The service's state: if this machine panics now, will there be a dump, where, and roughly how large."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pykexec import loader
from pykexec.errors import FileError, PykexecError, printable
from pykexec.kdump import config, makedumpfile
from pykexec.kdump.capture import blockdevice
from pykexec.kdump.config.settings import DEFAULT_PATH, Settings, TargetKind
from pykexec.kdump.dumpsize import expected_size
from pykexec.kdump.mounts import parse_mounts
from pykexec.kdump.service import actions, dumps, trial
from pykexec.kdump.service import receipt as receipts
from pykexec.kdump.service.dumps import Dump
from pykexec.kdump.service.receipt import Receipt
from pykexec.kdump.service.trial import Outcome
from pykexec.machine import Machine
from pykexec.machine.sysfs import read_text
from pykexec.memory import MIB
from pykexec.purpose import Purpose

_LINES_MAX = 10


class Readiness(enum.Enum):
    """The answer to whether a panic will leave a dump."""

    NOT_ARMED = "no"
    UNKNOWN = "yes, but cannot tell what"
    UNPROVEN = "yes, but unproven"
    PROVEN = "yes, and proven"


@dataclass(frozen=True, slots=True)
class State:
    """All facts that `pykdump status` shows."""

    readiness: Readiness
    why: str
    receipt: Receipt | None
    reserved: int | None
    """The reserved bytes."""
    folder: Path | None
    """The folder with the dumps, if the running system can see it."""
    free: int | None
    """The bytes free there."""
    size: int | None
    """The bytes of a dump, roughly, before compression."""
    dumps: tuple[Dump, ...]
    trial: Outcome
    problem: str = ""
    """What is wrong with the configuration."""
    unseen: str = ""
    """The reason why the dumps in the folder cannot be looked at."""
    passed_over: int = 0
    """The number of folders there with a dump's name that others than root can have changed."""

    @property
    def is_armed(self) -> bool:
        return self.readiness is not Readiness.NOT_ARMED


def read(machine: Machine) -> State:
    """Return the state. Settle a test that has a dump. Raises PykexecError."""
    settings, problem = _settings(machine)
    folder = visible_folder(settings) if settings else None
    log_alone = settings is not None and not settings.save_dump
    found, unseen = _dumps(folder, log_alone=log_alone)
    receipt, outcome = None, Outcome.NONE
    try:
        outcome = _settle(found)
        receipt = actions.loaded_now(machine)
        readiness, why = _readiness(machine, receipt, outcome)
    except FileError as error:
        hint = f" ({error.hint})" if error.hint else ""
        readiness, why = _not_armed(machine) or (Readiness.UNKNOWN, f"{error.what}{hint}")
    return State(
        readiness,
        why,
        receipt,
        machine.kexec_state.crash_size,
        folder,
        _free(folder),
        _size(machine, settings) if settings else None,
        tuple(found or ()),
        outcome,
        problem,
        unseen,
        dumps.count_of_others(folder) if folder else 0,
    )


def _dumps(folder: Path | None, *, log_alone: bool) -> tuple[Sequence[Dump] | None, str]:
    """Return the dumps there, None where they cannot be looked at, and the reason."""
    if folder is None:
        return None, ""
    try:
        return dumps.in_folder(folder, log_alone=log_alone), ""
    except FileError as error:
        return None, f"{error.what}{f' ({error.hint})' if error.hint else ''}"


def as_text(state: State) -> str:
    """Return a text of at most ten lines."""
    return "\n".join(printable(line) for line in list(_lines(state))[:_LINES_MAX]) + "\n"


def _lines(state: State) -> Iterator[str]:
    yield f"armed:    {state.readiness.value}: {state.why}"
    if state.problem:
        yield f"problem:  {state.problem}"
    if state.receipt:
        yield f"kernel:   {state.receipt.kernel} ({state.receipt.system_call}, {state.receipt.time})"
        yield f"initrd:   {state.receipt.initrd}"
        yield f"target:   {state.receipt.target}"
    if state.reserved is not None:
        yield f"reserved: {state.reserved / MIB:.0f} MiB"
    if state.size is not None:
        free = "" if state.free is None else f"; {state.free / MIB:,.0f} MiB are free"
        yield f"size:     about {state.size / MIB:,.0f} MiB before compression{free}"
    if state.folder is None:
        known = "cannot be looked at from here" if not state.problem else "is not known"
        yield f"dumps:    where they go {known}"
    elif state.unseen:
        yield f"dumps:    {state.unseen}"
    else:
        passed_over = f"; {state.passed_over} that others can change" if state.passed_over else ""
        yield f"dumps:    {len(state.dumps)} in {state.folder}{passed_over}"
        yield from (f"          {dump}" for dump in state.dumps)


def _readiness(machine: Machine, receipt: Receipt | None, outcome: Outcome) -> tuple[Readiness, str]:
    """Return the readiness and its reason. Raises FileError."""
    if not_armed := _not_armed(machine):
        return not_armed
    if receipt is None:
        return (
            Readiness.UNPROVEN,
            "there is no receipt of what is loaded; pykdump start loads again, and leaves one",
        )
    proven = receipts.load(receipts.PROVEN)
    if proven is not None and proven.proves(receipt):
        return (
            Readiness.PROVEN,
            f"a test passed with the same kernel, initrd and command line ({proven.time})",
        )
    if outcome is Outcome.FAILED:
        return Readiness.UNPROVEN, "the last pykdump test left no whole dump; see pykdump doctor"
    if outcome is Outcome.UNSEEN:
        return (
            Readiness.UNPROVEN,
            f"look for the test's dump there; then pykdump test --passed ({_marker()})",
        )
    if proven is None:
        return Readiness.UNPROVEN, "no pykdump test has been made"
    return Readiness.UNPROVEN, "kernel, initrd or command line changed since the last pykdump test"


def _not_armed(machine: Machine) -> tuple[Readiness, str] | None:
    """Return the readiness and its reason where nothing is loaded; None where something is."""
    is_loaded = loader.status(Purpose.CRASH, machine)
    if is_loaded is None:
        return Readiness.NOT_ARMED, "the running kernel does not say that a capture kernel is loaded"
    if is_loaded:
        return None
    return Readiness.NOT_ARMED, "no capture kernel is loaded; pykdump start loads one"


def _marker() -> str:
    begun = trial.pending()
    return begun[0].marker if begun else ""


def _size(machine: Machine, settings: Settings) -> int | None:
    meminfo = read_text(machine.root, "proc/meminfo") or ""
    return expected_size(settings, meminfo, makedumpfile.here(machine, settings.collector))


def _settle(found: Sequence[Dump] | None) -> Outcome:
    """Judge the last test. Keep what it has proven, if we may write that. Raises FileError."""
    begun = trial.pending()
    if begun is None:
        return Outcome.NONE
    test, loaded = begun
    outcome = test.judge(receipts.boot_id(), found)
    if outcome is Outcome.PASSED and os.geteuid() == 0:
        trial.settle(loaded)
    return outcome


def _settings(machine: Machine) -> tuple[Settings | None, str]:
    try:
        settings = config.read(machine.root)
    except PykexecError as error:
        return None, error.what
    return settings, "" if settings else f"{config.UNCONFIGURED}; {config.BEGINNING}"


def visible_folder(settings: Settings) -> Path | None:
    """Return the folder where the running system can see dumps; None where it cannot."""
    target = settings.target
    if target.kind is TargetKind.LOCAL:
        return Path(settings.path)
    if target.kind is TargetKind.RAW:
        return Path(DEFAULT_PATH)  # `rawdump` copies the dump there
    if target.kind is not TargetKind.FILESYSTEM:
        return None
    try:
        device = Path(blockdevice.find(target.address)).resolve()
        mounts = parse_mounts(Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape"))
    except (PykexecError, OSError):
        return None
    for mount in mounts:
        if mount.top == "/" and Path(mount.source).resolve() == device:
            return Path(mount.point) / settings.path.lstrip("/")
    return None


def _free(folder: Path | None) -> int | None:
    for each in (folder, *folder.parents) if folder else ():
        try:
            found = os.statvfs(each)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return None
        return found.f_bavail * found.f_frsize
    return None
