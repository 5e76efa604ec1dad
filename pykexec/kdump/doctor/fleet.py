"""The doctor for many machines: one result for each, whatever is wrong with another's snapshot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pykexec.errors import PykexecError, printable
from pykexec.kdump import doctor
from pykexec.kdump.console.diagnosis import ConsoleLog
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Finding, Verdict
from pykexec.kdump.doctor.hostfiles import LISTING, HostFiles, RecordedFiles
from pykexec.kdump.options import chosen
from pykexec.machine import IDENTITY, Machine
from pykexec.machine.sysfs import read_object
from pykexec.terminal import WIDTH, folded

SCHEMA = 1
"""The version of the JSON form."""
_CANNOT_TELL = 3
_ARCHIVES = (".gz", ".bz2", ".xz", ".tar")


def facts_of(snapshot: str | None, console: ConsoleLog | None = None) -> Facts:
    """Return the facts of a snapshot's machine, or of this one. Raises PykexecError."""
    machine = chosen(snapshot)
    return Facts(machine, places=_places(snapshot, machine), console=console)


def _places(snapshot: str | None, machine: Machine) -> HostFiles:
    if snapshot is None:
        return HostFiles("/")
    listing = read_object(machine.root, LISTING)
    if listing is not None:
        return RecordedFiles(listing)
    # A folder is either a whole system's root or an unpacked snapshot.
    is_system = Path(snapshot).is_dir() and not Path(snapshot, IDENTITY).exists()
    return HostFiles(snapshot if is_system else None)


@dataclass(frozen=True, slots=True)
class Result:
    """What the doctor found of a machine."""

    path: str
    """Its snapshot."""
    architecture: str = ""
    """Our name of it; "" where that is not known."""
    kernel: str = ""
    """The running kernel's release; "" where that is not known."""
    findings: tuple[Finding, ...] = ()
    error: str = ""
    """Why the snapshot cannot be judged; then there are no findings."""

    @property
    def name(self) -> str:
        """The snapshot's name, without what archives' names end with."""
        name = Path(self.path).name or Path(self.path).resolve().name or self.path
        for ending in _ARCHIVES:
            name = name.removesuffix(ending)
        return name

    @property
    def is_armed(self) -> bool | None:
        """Whether a crash would start a capture kernel; None: unknown."""
        return doctor.is_armed(self.findings)

    @property
    def is_proven(self) -> bool:
        return doctor.is_proven(self.findings)

    @property
    def is_rehearsed(self) -> bool:
        return doctor.is_rehearsed(self.findings)

    @property
    def wrong(self) -> Sequence[Finding]:
        """What is wrong, the worst first."""
        first = doctor.first_to_mend(self.findings)
        others = (each for each in self.findings if each.verdict is Verdict.WRONG and each is not first)
        return (*(() if first is None else (first,)), *others)

    @property
    def exit_code(self) -> int:
        """The exit status for this machine alone."""
        return _CANNOT_TELL if self.error else doctor.exit_code(self.findings)


def examine(path: str) -> Result:
    """Judge the machine of a snapshot. Raises nothing that a snapshot can cause."""
    try:
        facts = facts_of(path)
        release = printable(facts.machine.kernel_release)
        return Result(path, printable(facts.arch), release, doctor.diagnose(facts))
    except PykexecError as error:
        return Result(path, error=error.what)
    except OSError as error:
        return Result(path, error=printable(f"cannot read {error.filename or path}: {error.strerror}"))
    except MemoryError:
        return Result(path, error="there is not enough memory to read it")


# As a table

_HEADS = ("MACHINE", "ARCH", "KERNEL", "ARMED", "FIRST")
_NAME, _ARCH, _KERNEL = range(3)
_ARCH_MAX = 12  # an unknown machine's is what uname says, which may be anything
_GAP = "  "


def as_table(results: Sequence[Result], columns: int = WIDTH) -> str:
    """Return a table with a line for each machine, and below it each cause that is to be mended first."""
    rows = [_HEADS, *(_cells(each) for each in results)]
    sizes = _sizes(rows, columns)
    lines = [
        _GAP.join(f"{_cut(cell, size):<{size}}" for cell, size in zip(row, sizes, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join((*lines, *_legend(results, columns), *_summary(results, columns))) + "\n"


def _cells(result: Result) -> tuple[str, ...]:
    proof = "proven" if result.is_proven else "rehearsed" if result.is_rehearsed else "unproven"
    told = {True: proof, False: "no", None: "unknown"}
    first = "error" if result.error else next((each.id for each in result.wrong), "")
    name = printable(result.name)
    return name, result.architecture or "-", result.kernel or "-", told[result.is_armed], first


def _sizes(rows: Sequence[Sequence[str]], columns: int) -> list[int]:
    """Return each column's width: as its longest cell; names and releases are cut where that is too much."""
    sizes = [max(len(row[index]) for row in rows) for index in range(len(_HEADS))]
    sizes[_ARCH] = min(sizes[_ARCH], _ARCH_MAX)
    room = columns - sum(sizes) - len(_GAP) * (len(sizes) - 1) + sizes[_NAME] + sizes[_KERNEL]
    sizes[_KERNEL] = min(sizes[_KERNEL], max(room - sizes[_NAME], room // 2, len(_HEADS[_KERNEL])))
    sizes[_NAME] = min(sizes[_NAME], max(room - sizes[_KERNEL], len(_HEADS[_NAME])))
    return sizes


def _cut(text: str, size: int) -> str:
    """Return the text without its middle where it is too long: names of a kind differ at their ends."""
    if len(text) <= size:
        return text
    tail = (size - 2) // 2
    return f"{text[: size - 2 - tail]}..{text[len(text) - tail :]}"


def _legend(results: Sequence[Result], columns: int) -> Iterator[str]:
    causes = {(each.wrong[0].id, each.wrong[0].cause): None for each in results if each.wrong}
    for id, cause in sorted(causes):
        yield from folded(cause, columns, first=f"  {id:<5} ")
    for each in results:
        if each.error:
            yield from folded(
                f"{printable(each.name)}: {each.error}", columns, first="  error ", lines_max=3
            )


def _summary(results: Sequence[Result], columns: int) -> Iterator[str]:
    armed = sum(result.is_armed is True for result in results)
    unarmed = sum(result.is_armed is False for result in results)
    unknown = len(results) - armed - unarmed
    counts = f"{len(results)} machines: {armed} armed, {unarmed} not armed, {unknown} cannot be told"
    hint = "pykdump doctor --machine FILE says all of one, --explain ID what a check is about"
    yield from folded(counts, columns)
    yield from folded(hint, columns)


# As JSON Lines


def as_json_line(result: Result) -> str:
    """Return one JSON object on one line."""
    first = next(iter(result.wrong), None)
    content = {
        "schema": SCHEMA,
        "machine": result.path,
        "name": result.name,
        "architecture": result.architecture or None,
        "kernel": result.kernel or None,
        "armed": result.is_armed,
        "proven": result.is_proven,
        "rehearsed": result.is_rehearsed,
        "mend_first": None if first is None else _object(first),
        "wrong": [finding.id for finding in result.wrong],
        "error": result.error or None,
    }
    return json.dumps(content) + "\n"


def _object(finding: Finding) -> dict[str, str]:
    return {
        "id": finding.id,
        "cause": finding.cause,
        "remedy": finding.remedy,
        "command": finding.command,
    }
