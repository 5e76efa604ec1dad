"""The service's state: if this machine panics now, will there be a dump, where, and roughly how large."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pykexec.errors import FileError, MachineError, PykexecError
from pykexec.kdump import config, makedumpfile, mounts
from pykexec.kdump.capture import blockdevice
from pykexec.kdump.config.settings import DEFAULT_PATH, Settings, TargetKind
from pykexec.kdump.dumpsize import expected_size
from pykexec.kdump.rehearsal import receipt as rehearsed
from pykexec.kdump.rehearsal.receipt import Review
from pykexec.kdump.service import actions, dumps, readiness, trial
from pykexec.kdump.service import receipt as receipts
from pykexec.kdump.service.dumps import Dump
from pykexec.kdump.service.readiness import Judgement, Readiness
from pykexec.kdump.service.receipt import Receipt
from pykexec.kdump.service.trial import Outcome
from pykexec.machine import Machine
from pykexec.machine.sysfs import read_text


@dataclass(frozen=True, slots=True)
class State:
    """All facts that `pykdump status` shows."""

    judgement: Judgement
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
    rehearsals: Review = field(default_factory=Review)

    @property
    def is_armed(self) -> bool:
        return self.judgement.readiness is not Readiness.NOT_ARMED

    @property
    def dumps_are_known(self) -> bool:
        """Whether the dumps that there are could be looked at."""
        return self.folder is not None and not self.unseen

    @property
    def is_proven(self) -> bool | None:
        """Whether a test has proven what is loaded; None where that cannot be told."""
        readiness = self.judgement.readiness
        return None if readiness is Readiness.UNKNOWN else readiness is Readiness.PROVEN

    @property
    def is_rehearsed(self) -> bool | None:
        """Whether a rehearsal has shown that what is loaded leaves a dump; None: not known."""
        if self.judgement.readiness is Readiness.UNKNOWN:
            return None
        last = self.rehearsals.running
        return self.receipt is not None and last is not None and last.shows_dump


def read(machine: Machine) -> State:
    """Return the state. Settle a test that has a dump. Raises PykexecError."""
    settings, problem = _settings(machine)
    folder = visible_folder(settings) if settings else None
    log_alone = settings is not None and not settings.save_dump
    found, unseen = _dumps(folder, log_alone=log_alone)
    receipt, outcome, rehearsals = None, Outcome.NONE, Review()
    try:
        outcome = _settle(found)
        receipt = actions.loaded_now(machine)
        now = rehearsed.now(receipt, settings, machine.kexec_state.crash_size)
        rehearsals = rehearsed.review(machine.root, machine.kernel_release, now)
        judgement = readiness.judge(machine, settings, receipt, outcome, rehearsals.running)
    except (FileError, MachineError) as error:
        judgement = readiness.untold(machine, settings, error)
    return State(
        judgement,
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
        rehearsals,
    )


def _dumps(folder: Path | None, *, log_alone: bool) -> tuple[Sequence[Dump] | None, str]:
    """Return the dumps there, None where they cannot be looked at, and the reason."""
    if folder is None:
        return None, ""
    try:
        return dumps.in_folder(folder, log_alone=log_alone), ""
    except FileError as error:
        return None, f"{error.what}{f' ({error.hint})' if error.hint else ''}"


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
    return settings, "" if settings else config.UNCONFIGURED


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
        mount = mounts.of_device(blockdevice.find(target.address), mounts.read())
    except (PykexecError, OSError):
        return None
    # What a bind mount has is not all of the file system; in a subvolume of btrfs the folder itself is.
    if mount is None or (mount.top != "/" and mount.type != "btrfs"):
        return None
    return Path(mount.point) / settings.path.lstrip("/")


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
