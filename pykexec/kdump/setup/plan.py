"""Decide what setup has to do: nothing is changed here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pykexec.formats.uki import properties
from pykexec.kdump import config, packages
from pykexec.kdump.capture import destination
from pykexec.kdump.capture.image import program_names
from pykexec.kdump.config import fedora
from pykexec.kdump.config.settings import Settings
from pykexec.kdump.reservation import restart
from pykexec.kdump.service import installation
from pykexec.kdump.setup import bootloader
from pykexec.kdump.setup.change import (
    Change,
    Command,
    Edit,
    SetupError,
    is_file,
    is_read_only,
    program,
    read,
)
from pykexec.kdump.setup.need import Need
from pykexec.kdump.setup.steps import InstallUnit, Run, Step, Write
from pykexec.machine import Machine
from pykexec.machine.root import Folder, Root
from pykexec.privilege import require_no_xen

UNIT = "pykdump.service"
_OTHERS = ("kdump.service", "kdump-tools.service")
_UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_BOOT = "/boot"
"""Where the commands of boot loaders write to, whatever they read."""
_WANTS = "/etc/systemd/system/multi-user.target.wants"
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
"""What may be a package's name: no path, and nothing that apt-get(8) takes for more: NAME-, a pattern."""

NeedOf = Callable[[Settings, bool], Need]
"""Returns what these settings need; the other argument tells whether an image can be made now."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What setup does, and what it says."""

    steps: tuple[Step, ...] = ()
    remarks: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()
    """What is left for an administrator."""
    next: str = ""
    """What comes after that."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What is to be done about one of the things that kdump takes."""

    steps: tuple[Step, ...] = ()
    remarks: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()


def make(machine: Machine, need_of: NeedOf, root: Path = Path("/")) -> Plan:
    """Return what is missing on a machine whose files are below a root. Raises PykexecError."""
    require_no_xen(machine)
    files = Folder(root)
    settings = _settings(files)
    missing = _missing(files, settings)
    need = need_of(settings, not missing)
    parts = (
        _packages(files, missing),
        _memory(machine, files, root, need),
        _configuration(files, root),
        *_service(files, root),
        _restart(machine, files, need),
    )
    steps = tuple(step for part in parts for step in part.steps)
    return Plan(
        steps,
        tuple(each for part in parts for each in part.remarks),
        tuple(each for part in parts for each in part.by_hand),
        _next(machine, files, need, has_steps=bool(steps)),
    )


def _settings(root: Root) -> Settings:
    """Return the configuration, or the one that setup writes. Raises PykexecError where it is off."""
    settings = config.read(root) or config.assumed()
    if not settings.enabled:
        raise SetupError(f"{settings.files[0]} turns kdump off", hint="USE_KDUMP=1 turns it on")
    return settings


def _missing(root: Root, settings: Settings) -> Sequence[str]:
    """Return the programs that the capture image needs and that are not there."""
    if settings.initrd:  # another's image has its programs in it
        return []
    way = destination.way_of(settings.target)
    wanted = program_names(settings, ways=[way] if way else [], assemblers=())
    return [each for each in wanted if program(root, each) is None]


def _packages(root: Root, missing: Sequence[str]) -> _Part:
    if not missing:
        return _Part()
    release = properties(read(root, "/etc/os-release") or "")
    manager = packages.manager(release, lambda name: program(root, name) is not None)
    others = [each for each in missing if not _PACKAGE.fullmatch(each)]
    if manager is None or others:
        return _Part(by_hand=(f"install {', '.join(others or missing)}: the capture image takes that",))
    names = tuple(dict.fromkeys(manager.package(each) for each in missing))
    return _Part((Run(Command((*manager.install, *names), ((*manager.remove, *names),))),))


def _memory(machine: Machine, files: Root, root: Path, need: Need) -> _Part:
    """Return what has the next boot reserve enough. Raises PykexecError."""
    told = f" ({need.remark})" if need.remark else ""
    remarks = (f"{need.parameter} has room for the capture kernel: pykdump estimate says why{told}",)
    try:
        change = bootloader.change(files, machine.uname_machine, need)
    except SetupError as error:
        if not _has_enough(machine, need):
            raise
        return _Part(
            remarks=(f"the running kernel has enough memory reserved; the next may not: {error.what}",)
        )
    if change.by_hand:
        return _Part(remarks=remarks, by_hand=() if _has_enough(machine, need) else (change.by_hand,))
    if fixed := _read_only(change, root):
        by_hand = (
            f"{fixed} is mounted read only: mount -o remount,rw {fixed}, then setup again;"
            f" or put {need.parameter} on the kernel's command line by hand"
        )
        return _Part(remarks=remarks, by_hand=() if _has_enough(machine, need) else (by_hand,))
    steps = _steps_of(change, root)
    return _Part(steps, remarks if steps else (f"{change.loader} reserves enough already",))


def _read_only(change: Change, root: Path) -> str | None:
    """Return the folder of what a boot loader's change writes and cannot; None where all can be written."""
    written = [each.path.rpartition("/")[0] for each in change.edits]
    written += [_BOOT] if change.commands else []
    below = [_BOOT if each.startswith(_BOOT) else each for each in written]
    return next((each for each in below if is_read_only(root / each.lstrip("/"))), None)


def _steps_of(change: Change, root: Path) -> tuple[Step, ...]:
    return (*(Write(each, root) for each in change.edits), *(Run(each) for each in change.commands))


def _has_enough(machine: Machine, need: Need) -> bool:
    """Return whether the running kernel has reserved enough."""
    return (machine.kexec_state.crash_size or 0) >= need.least


def _configuration(files: Root, root: Path) -> _Part:
    if config.find(files) is not None:
        return _Part()
    return _Part((Write(Edit(f"/{fedora.CONF}", None, config.FIRST), root),))


def _service(files: Root, root: Path) -> Iterator[_Part]:
    """Yield what has the service start at each boot, and no other one beside it. Raises PykexecError."""
    if program(files, "systemctl") is None:
        yield _Part(by_hand=("have pykdump start run at each boot: there is no systemd here",))
        return
    if not any(is_file(files, f"{folder}/{UNIT}") for folder in _UNIT_FOLDERS):
        yield _Part((InstallUnit(tuple(installation.steps(root))),))
    enabled = files.names(_WANTS.lstrip("/"))
    for other in _OTHERS:
        if other in enabled:
            yield _Part((_toggle("disable", "enable", other),))
    if UNIT not in enabled:
        yield _Part((_toggle("enable", "disable", UNIT),))


def _toggle(verb: str, back: str, unit: str) -> Step:
    return Run(Command(("systemctl", verb, unit), (("systemctl", back, unit),)))


def _restart(machine: Machine, files: Root, need: Need) -> _Part:
    """Return why it takes another command than reboot, if it does."""
    command = restart.command(files)
    if _has_enough(machine, need) or command == restart.REBOOT:
        return _Part()
    return _Part(
        remarks=(f"kexec-tools has reboot keep the kernel's command line: {command} takes the new one",)
    )


def _next(machine: Machine, files: Root, need: Need, *, has_steps: bool) -> str:
    if not _has_enough(machine, need):
        return f"{restart.command(files)}, then pykdump status"
    return "systemctl start pykdump.service, then pykdump status" if has_steps else "pykdump status"
