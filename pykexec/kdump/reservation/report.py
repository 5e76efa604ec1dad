"""What `pykdump crashkernel` prints: what a crashkernel= asks for, and what the running kernel reserved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pykexec.kdump.reservation import crashkernel
from pykexec.kdump.reservation.crashkernel import Reservation, size_text
from pykexec.kdump.reservation.support import CrashkernelSupport
from pykexec.memory import Range
from pykexec.terminal import WIDTH, folded

SCHEMA = 1
"""The version of the JSON form."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What the running kernel has reserved."""

    size: int | None
    """In bytes, as the kernel counts them; None: it does not say."""
    regions: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A command line, a machine's memory, and its kernel's support."""

    command_line: str
    total_memory: int
    kernel: CrashkernelSupport
    reserved: Reserved | None = None
    """None: the command line is not the one that the machine was booted with."""

    @property
    def expected(self) -> Reservation:
        """The reservation that the command line asks for. Raises MachineError."""
        return crashkernel.reservation(self.command_line, self.total_memory, self.kernel)


def as_text(report: Report, columns: int = WIDTH) -> str:
    """Return lines for people. Raises MachineError where it is not known what such kernels do."""
    return "\n".join(line for text in _lines(report) for line in folded(text, columns)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    reserved = report.reserved
    if reserved is not None and not crashkernel.values(report.command_line):
        yield "the kernel's command line has no crashkernel="
    else:
        yield from crashkernel.explain(report.command_line, report.total_memory, report.kernel)
    if reserved is None:
        return
    if reserved.size is None:
        yield "reserved: not known, as this kernel does not say it"
    elif reserved.size and not report.expected.size:
        size = size_text(reserved.size)
        yield f"but {size} are reserved: the running kernel understood it otherwise"
    elif reserved.size:
        yield f"reserved: {size_text(reserved.size)} ({_places(reserved)})"
    elif crashkernel.values(report.command_line):
        yield "reserved: nothing; pykdump doctor says why"
    else:
        yield "reserved: nothing; pykdump estimate says how much it takes, pykdump setup asks for it"


def _places(reserved: Reserved) -> str:
    return ", ".join(map(str, reserved.regions)) or "where is not known"


def as_json(report: Report) -> str:
    """Return one JSON object; sizes and addresses are in bytes. Raises MachineError as `as_text` does."""
    found, reserved = report.expected, report.reserved
    content = {
        "schema": SCHEMA,
        "values": list(crashkernel.values(report.command_line)),
        "total_memory": report.total_memory,
        "deciding": found.text or None,
        "size": found.size,
        "offset": found.offset,
        "above_4g": found.above_4g,
        "low_size": found.low_size,
        "cma_size": found.cma_size,
        "why_nothing": found.why_nothing or None,
        "notes": list(found.notes),
        "reserved": None if reserved is None else _reserved(reserved),
    }
    return json.dumps(content, indent=2) + "\n"


def _reserved(reserved: Reserved) -> dict[str, object]:
    regions = [{"start": each.start, "end": each.end} for each in reserved.regions]
    return {"size": reserved.size, "regions": regions}
