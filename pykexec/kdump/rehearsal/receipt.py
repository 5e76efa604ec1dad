"""Receipts of rehearsals: what each has shown, and whether that still holds for what would be loaded now.

There is one for each kernel that was crashed, the last one.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path

from pykexec import __version__, writing
from pykexec.errors import FileError, printable
from pykexec.files import FileData
from pykexec.kdump.config.settings import Settings
from pykexec.kdump.console.rules import Stage
from pykexec.kdump.files import STATE
from pykexec.kdump.service import receipt as receipts
from pykexec.kdump.service.receipt import Receipt
from pykexec.machine.root import Root, unreadable
from pykexec.machine.sysfs import JSON_MAX, parse_object
from pykexec.memory import MIB
from pykexec.versions import version_key

PASSED = "passed"
"""The verdict of a rehearsal that left a whole dump."""

FACTS = (f"{str(STATE).lstrip('/')}/rehearsed-*.json",)
"""The files of all receipts, for snapshots."""

_NAME = re.compile(r"rehearsed-([\w.+~-]{1,100})\.json", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_KEPT = 8
"""How many receipts are kept: those of kernels that are gone have no other end."""
_NUMBER_MAX = 1 << 62


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A rehearsal: what was rehearsed, and what came of it; sizes are in bytes."""

    time: str
    """When it ended: UTC, as in ISO 8601."""
    kernel_sha256: str
    """The capture kernel's file."""
    initrd_sha256: str
    """The capture image, as it is on disk."""
    command_line: str
    """The capture kernel's."""
    configuration: str
    """What `configuration` returns of the settings."""
    verdict: str
    """PASSED, or the name of the stage where the capture failed (`Stage`), in small letters."""
    cause: str
    """Why it failed, for people; empty for one that passed."""
    reservation: int
    """What was reserved."""
    smallest: int | None
    """The smallest reservation that a dump came of; None where that was not looked for."""
    high_water: int | None
    """The most of the reservation that was in use at once: `reservation` without the least that was
    available. None where that was not measured."""
    seconds: float
    """How long it took."""
    first_kernel: str
    """The release of the kernel that was crashed."""
    version: str = __version__
    """The pykdump that rehearsed."""

    @property
    def is_passed(self) -> bool:
        return self.verdict == PASSED

    @property
    def date(self) -> str:
        """The day of it."""
        return self.time.partition("T")[0]

    @property
    def failure(self) -> str:
        """How it failed, for people: the stage, and the cause."""
        stage = Stage.__members__.get(self.verdict.upper())
        return f"{self.verdict if stage is None else stage.value}: {self.cause}"

    @property
    def measured(self) -> int | None:
        """The memory that the capture system needed; None where that was not measured."""
        return self.high_water if self.smallest is None else self.smallest


@dataclass(frozen=True, slots=True)
class Now:
    """What would be rehearsed now; None: not known, and so not compared."""

    kernel_sha256: str | None = None
    initrd_sha256: str | None = None
    command_line: str | None = None
    configuration: str | None = None
    reservation: int | None = None


def now(loaded: Receipt | None, settings: Settings | None, reservation: int | None) -> Now:
    """Return what rehearsals are compared with: what is loaded, and the configuration.

    `settings`: None where there is no configuration, or one that cannot be understood.
    """
    asked = "" if settings is None else configuration(settings)
    if loaded is None:
        return Now(configuration=asked, reservation=reservation)
    return Now(loaded.kernel_sha256, loaded.initrd_sha256, loaded.command_line, asked, reservation)


def changes(rehearsed: Rehearsed, now: Now) -> tuple[str, ...]:
    """Return what differs now from what was rehearsed, so that the same may not come of it.

    More memory changes nothing for a rehearsal that passed, nor less for one that failed; nor does less than
    a MiB.
    """
    pairs = {
        "the kernel": (rehearsed.kernel_sha256, now.kernel_sha256),
        "the capture image": (rehearsed.initrd_sha256, now.initrd_sha256),
        "the command line": (rehearsed.command_line, now.command_line),
        "the configuration": (rehearsed.configuration, now.configuration),
    }
    found = [name for name, (then, value) in pairs.items() if value is not None and value != then]
    if now.reservation is not None:
        more = now.reservation - rehearsed.reservation
        if more <= -MIB if rehearsed.is_passed else more >= MIB:
            found.append("the reservation")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Compared:
    """A rehearsal, compared with now."""

    rehearsed: Rehearsed
    changed: tuple[str, ...] = ()
    """What has changed since, as far as it is known."""

    @property
    def shows_dump(self) -> bool:
        """Whether it has shown that a dump would come of what there is now."""
        return self.rehearsed.is_passed and not self.changed

    @property
    def shows_none(self) -> bool:
        """Whether it has shown that none would."""
        return not self.rehearsed.is_passed and not self.changed


# The files


def save(rehearsed: Rehearsed, folder: Path = STATE) -> None:
    """Write a receipt, whole or not at all; it takes the place of the one of the same first kernel.

    Raises FileError, also where the kernel's release cannot be part of a file's name.
    """
    name = f"rehearsed-{rehearsed.first_kernel}.json"
    if not _NAME.fullmatch(name):
        raise FileError(f"no kernel has the release {rehearsed.first_kernel!r}: no receipt is kept")
    receipts.save_json(asdict(rehearsed), folder / name)
    with contextlib.suppress(OSError, FileError):  # another one may do the same now
        for path in _by_age(folder)[_KEPT:]:
            writing.remove_file(path)


def _by_age(folder: Path) -> list[Path]:
    """Return the receipts in a folder, the newest first."""
    found = [each for each in folder.iterdir() if _NAME.fullmatch(each.name)]
    return sorted(found, key=lambda path: path.lstat().st_mtime_ns, reverse=True)


def load(root: Root, folder: str = str(STATE)) -> Mapping[str, Rehearsed]:
    """Return the receipts below a root by the release of the kernel that was crashed.

    One that is damaged, or of another version, is none. Raises MachineError where they cannot be read.
    """
    place, found = folder.lstrip("/"), {}
    for release in filter(None, map(_NAME.fullmatch, root.names(place))):
        rehearsed = _read(root, f"{place}/{release[0]}")
        if rehearsed is not None and rehearsed.first_kernel == release[1]:
            found[release[1]] = rehearsed
    return found


def _read(root: Root, path: str) -> Rehearsed | None:
    """Return the receipt in a file; None where it is not understood. Raises MachineError."""
    file = root.open(path)
    if file is None:
        return None
    with file:
        try:
            return _parsed(parse_object(file.read(JSON_MAX)))
        except OSError as error:
            raise unreadable(f"/{path}", error) from error
        except ValueError:
            return None


def _parsed(content: dict[str, object]) -> Rehearsed | None:
    """Return the receipt that an object is, with texts that can be printed; None where it is none."""
    if content.keys() != {each.name for each in fields(Rehearsed)}:
        return None
    if not all(_KINDS.get(name, _is_text)(value) for name, value in content.items()):
        return None
    shown = {name: printable(str(content[name])) for name in ("verdict", "cause", "version")}
    return Rehearsed(**{**content, **shown})  # type: ignore[arg-type]  # checked above


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_time(value: object) -> bool:
    return isinstance(value, str) and _TIME.fullmatch(value) is not None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _NUMBER_MAX


def _is_size(value: object) -> bool:
    return isinstance(value, int) and _is_number(value)


def _is_size_or_none(value: object) -> bool:
    return value is None or _is_size(value)


_KINDS: Mapping[str, Callable[[object], bool]] = {
    "time": _is_time,
    "reservation": _is_size,
    "smallest": _is_size_or_none,
    "high_water": _is_size_or_none,
    "seconds": _is_number,
}
"""What the values have to be that are not just texts."""


def measured(root: Root, kernel: FileData, initrd: FileData, command_line: str) -> Rehearsed | None:
    """Return the last rehearsal that measured what these need; None where none did.

    Raises MachineError where receipts cannot be read.
    """
    found = [each for each in load(root).values() if each.is_passed and each.measured is not None]
    found = [each for each in found if each.command_line == command_line]
    if not found:
        return None
    files = receipts.digest(kernel), receipts.digest(initrd)
    same = (each for each in found if (each.kernel_sha256, each.initrd_sha256) == files)
    return max(same, key=lambda each: each.time, default=None)


@dataclass(frozen=True, slots=True)
class Review:
    """What rehearsals tell a machine."""

    running: Compared | None = None
    """The last one of the running kernel's crash; None where there was none."""
    newer: tuple[Compared, ...] = ()
    """Those of newer kernels that are installed, the newest first: one of these may be booted next."""


def review(root: Root, release: str, now: Now) -> Review:
    """Return what the rehearsals below a root tell, where the kernel of that release runs.

    Of what newer kernels would load only the configuration is known. Raises MachineError.
    """
    found = load(root)
    then, next_time = found.get(release), Now(configuration=now.configuration)
    newer = sorted(
        (each for each in found if version_key(each) > version_key(release) and _is_installed(root, each)),
        key=version_key,
        reverse=True,
    )
    return Review(
        None if then is None else Compared(then, changes(then, now)),
        tuple(Compared(found[each], changes(found[each], next_time)) for each in newer),
    )


def _is_installed(root: Root, release: str) -> bool:
    # A snapshot has the configurations alone.
    return f"config-{release}" in root.names("boot") or bool(root.names(f"lib/modules/{release}/kernel"))


# The configuration

_BESIDE = ("files", "warnings")
"""What is about the files, and not about what they ask for."""


def configuration(settings: Settings) -> str:
    """Return a digest of settings, as `config.read` returns them: of what they ask for, not of their words.

    Secrets have no part in it. A setting that a later pykdump knows has none where it is not made.
    """
    text = json.dumps(_plain(settings), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _plain(value: object) -> object:
    """Return a value as JSON has it; of dataclasses only what differs from the defaults."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if not is_dataclass(value):
        return value
    made = (each for each in fields(value) if each.repr and each.name not in _BESIDE)
    found = ((each, getattr(value, each.name)) for each in made)
    return {each.name: _plain(item) for each, item in found if item != each.default}
