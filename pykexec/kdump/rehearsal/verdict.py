"""What comes of a rehearsal: how far it came and when, why it stopped, and whether the dump is whole."""

from __future__ import annotations

import enum
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec import children, names
from pykexec.emulation import Accelerator
from pykexec.errors import PykexecError
from pykexec.kdump import programs
from pykexec.kdump.console import diagnosis, signs
from pykexec.kdump.console.diagnosis import Ending, Stage
from pykexec.kdump.console.rules import NEWER_MAKEDUMPFILE
from pykexec.vmcore import Dump, info
from pykexec.vmcore.log import KernelLog

_READ_SECONDS = 120
_DUMP = re.compile(r".+-\d{4}(?:-\d\d){3}(?::\d\d){2}")
"""The name of a dump's folder, as the capture image makes it; a scratch disk has one."""
_DOES_NOT_KNOW = "S8"
"""The finding that makedumpfile does not know a kernel."""
_COPIED = (
    "all of memory was copied, as makedumpfile failed or does not know this kernel: the target needs room"
    " for all of the machine's memory"
)


class Milestone(enum.Enum):
    """The places that a rehearsal passes, in order."""

    FIRST_KERNEL = "the first kernel is up"
    LOADED = "the capture kernel is loaded"
    PANIC = "the first kernel panics"
    CAPTURE_KERNEL = "the capture kernel is up"
    INIT = "its first process runs"
    TARGET = "the target is mounted"
    LOG = "the log is saved"
    DUMP = "the dump is saved"
    RESET = "the machine is reset"


_SIGNS = {
    Milestone.PANIC: re.compile(rf"{signs.PANIC}|{signs.SYSRQ}"),
    Milestone.CAPTURE_KERNEL: re.compile(signs.BANNER),
    Milestone.INIT: re.compile(signs.USERLAND),
    Milestone.TARGET: re.compile(r"pykdump: saving to "),
    Milestone.LOG: re.compile(signs.LOG_SAVED),
    # makedumpfile says so, too, of a dump that is thrown away again.
    Milestone.DUMP: re.compile(r"pykdump: saving vmcore complete"),
}
"""The lines of the console that show them."""
_OVER = re.compile(rf"{signs.LEFT}|{signs.NOT_TAKEN_OVER}")
"""Nothing comes after these lines but a reset, if that."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A milestone, and the seconds since the machine was started."""

    milestone: Milestone
    seconds: float


class Timeline:
    """Watches a console for milestones."""

    def __init__(self) -> None:
        self.is_over = False
        """Whether the last kernel has come to its end, with or without a reset."""
        self._passed: list[Passed] = []
        self._looked_at = 0
        """The characters of the console that need no second look."""

    @property
    def passed(self) -> tuple[Passed, ...]:
        """What was passed so far, in order."""
        return tuple(self._passed)

    def has(self, *milestones: Milestone) -> bool:
        """Return whether one of these was passed."""
        return any(each.milestone in milestones for each in self._passed)

    def note(self, milestone: Milestone, seconds: float) -> None:
        """Note that a milestone was passed."""
        self._passed.append(Passed(milestone, seconds))

    def look(self, console: str, seconds: float) -> None:
        """Note the milestones in the lines that were written since the last look."""
        end = console.rfind("\n") + 1
        for line in console[self._looked_at : end].splitlines():
            for milestone in self._next(line):
                self.note(milestone, seconds)
            self.is_over = self.is_over or (self.has(Milestone.PANIC) and bool(_OVER.search(line)))
        self._looked_at = max(end, self._looked_at)

    def _next(self, line: str) -> Iterator[Milestone]:
        """Yield the first milestone behind those passed that the line shows."""
        waiting = list(_SIGNS)
        passed = [each.milestone for each in self._passed if each.milestone in _SIGNS]
        # A kernel's banner is the second one's only after the panic.
        waiting = waiting[waiting.index(passed[-1]) + 1 :] if passed else waiting[:1]
        yield from [each for each in waiting if _SIGNS[each].search(line)][:1]


@dataclass(frozen=True, slots=True)
class Found:
    """A dump on the scratch disk."""

    size: int
    """Bytes of the file with memory; 0 where there is none."""
    problems: tuple[str, ...]
    """Why it would be of no use, or less; empty for a whole one."""
    was_read: bool = True
    """Whether its memory was looked at; a packed dump is not unpacked."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a rehearsal."""

    ending: Ending
    """How far it came, and why no further: as `pykdump doctor --console-log` has it."""
    passed: tuple[Passed, ...]
    dump: Found | None
    """None where nothing was looked for, because the capture failed."""
    unproven: tuple[str, ...]
    """What it cannot show, for people."""
    accelerated: Accelerator
    """How the processors were made."""
    seconds: float
    console: str

    @property
    def is_good(self) -> bool:
        """Return whether a whole dump was saved."""
        return self.ending.stage is Stage.SAVED


def judge(console: str, dump: Found | None, *, fits: bool = False) -> Ending:
    """Return how it ended, by the console's text and what is on the disk.

    `fits`: the image's makedumpfile is known to fit the kernel, whatever it says itself.
    """
    log = diagnosis.parse(console)
    told = diagnosis.diagnose(log)
    if dump is None:
        return told
    if dump.problems:
        if told.stage is Stage.SAVED or dump.size:
            return replace(told, stage=Stage.COLLECTOR, cause="; ".join(dump.problems))
        return told
    if told.stage is Stage.SAVED:
        other = log.find(signs.OTHER_WAY)
        return told if other is None else replace(told, cause=_COPIED, remedy=NEWER_MAKEDUMPFILE)
    if told.finding == _DOES_NOT_KNOW:
        return Ending(Stage.SAVED, "the dump was saved", told.evidence[-1:]) if fits else told
    return Ending(
        Stage.SAVED,
        "the dump was saved, though the console does not tell so",
        remedy="console= of the capture kernel's command line says where it writes",
    )


def check(folder: Path, marker: str, arch: str, *, saves_memory: bool) -> Found:
    """Look at the dump in the folder for dumps."""
    found = (
        sorted(each for each in folder.glob("*") if _DUMP.fullmatch(each.name)) if folder.is_dir() else []
    )
    if not found:
        return Found(0, ("there is no dump on the disk",))
    files = [each for each in found[-1].iterdir() if each.is_file() and not each.is_symlink()]
    log = next((each for each in files if each.name == "vmcore-dmesg.txt"), None)
    cores = [each for each in files if re.fullmatch(r"vmcore(?:\.flat)?(?:\.\w+)?", each.name)]
    problems = []
    if log is not None and marker.encode() not in log.read_bytes():
        problems.append("the log that was saved is not that of the crash")
    was_read = all(each.name == "vmcore" for each in cores)
    if saves_memory and not cores:
        problems.append("the dump has no memory in it")
    elif not saves_memory and log is None:
        problems.append("the log was not saved")
    elif was_read:
        problems += [problem for each in cores for problem in _of_core(each, marker, arch)]
    return Found(sum(each.stat().st_size for each in cores), tuple(problems), was_read)


def _of_core(core: Path, marker: str, arch: str) -> Sequence[str]:
    try:
        with Dump.open(core) as dump:
            facts = info.gather(dump)
            logged = any(marker.encode() in record.text for record in KernelLog(dump))
    except PykexecError as error:
        return [f"the dump cannot be read: {error.what}"]
    problems = [f"the dump is damaged: {each}" for each in facts.damage]
    if not logged:
        problems.append("the crashed kernel's log in the dump is not that of the crash")
    if not any(each.registers for each in facts.processors):
        problems.append("the dump has no processor's registers")
    return [*problems, *_of_makedumpfile(core, arch)]


def _of_makedumpfile(core: Path, arch: str) -> Sequence[str]:
    """Return what this machine's makedumpfile says against a dump, where it is one for such dumps."""
    program = programs.find("makedumpfile")
    if program is None or names.name_of_uname(os.uname().machine) != arch:
        return []
    with tempfile.TemporaryDirectory() as folder:
        command = [str(program), "--dump-dmesg", str(core), f"{folder}/log"]
        done = children.run(command, seconds=_READ_SECONDS)
    if done.returncode == 0:
        return []
    said = done.stdout.decode("utf-8", "replace").strip().splitlines()[-1:]
    return [f"this machine's makedumpfile cannot read the dump: {''.join(said)}"]
