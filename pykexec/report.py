"""Show a plan to people (text) and to programs (JSON)."""

import hashlib
import json
from collections.abc import Iterator

from pykexec.errors import printable
from pykexec.memory import Range
from pykexec.plan import KEXEC_ON_CRASH, FileLoadPlan, LoadPlan

SCHEMA = 1
"""The version of the JSON form; it is raised when a key changes its meaning or goes away."""


def as_text(plan: LoadPlan | FileLoadPlan) -> str:
    """Return the plan as lines: sizes in bytes, addresses physical and as /proc/iomem writes them."""
    lines = _file_lines(plan) if isinstance(plan, FileLoadPlan) else _lines(plan)
    return "\n".join(map(printable, lines)) + "\n"


def as_json(plan: LoadPlan | FileLoadPlan) -> str:
    """Return the plan as one JSON object.

    Addresses and sizes are integers, ends are exclusive, contents are given by their SHA-256.
    """
    content = _file_object(plan) if isinstance(plan, FileLoadPlan) else _object(plan)
    return json.dumps(content, indent=2) + "\n"


def _file_lines(plan: FileLoadPlan) -> Iterator[str]:
    yield f"{plan.purpose.value} load for {plan.arch} with kexec_file_load: the kernel places everything"
    yield f"kernel        {plan.kernel.path} ({plan.kernel.size:,} bytes)"
    yield f"initrd        {f'{plan.initrd.path} ({plan.initrd.size:,} bytes)' if plan.initrd else 'none'}"
    yield f"command line  {plan.command_line}"
    yield f"flags         {plan.flags:#x}"
    yield from _taken_lines(plan)
    for warning in plan.warnings:
        yield f"warning: {warning}"


def _file_object(plan: FileLoadPlan) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "arch": plan.arch,
        "purpose": plan.purpose.value,
        "system_call": "kexec_file_load",
        "tried_first": None,
        "kernel": plan.kernel.path,
        "initrd": plan.initrd.path if plan.initrd else None,
        "command_line": plan.command_line,
        "flags": plan.flags,
        "taken": list(plan.taken),
        "losses": [],
        "warnings": list(plan.warnings),
    }


def _lines(plan: LoadPlan) -> Iterator[str]:
    yield f"{plan.purpose.value} load for {plan.arch}"
    if plan.tried_first:
        yield f"system call   {plan.tried_first}; if the running kernel refuses that, kexec_load as follows"
    yield f"kernel        {plan.image} ({plan.image_format})"
    yield f"initrd        {plan.initrd or 'none'}"
    yield f"command line  {plan.command_line}"
    yield f"entry         {plan.entry:#x}"
    yield f"flags         {plan.flags:#x}{' (KEXEC_ON_CRASH)' if plan.flags & KEXEC_ON_CRASH else ''}"
    yield from _taken_lines(plan)
    yield ""
    yield "segments (physical addresses, bytes)"
    width = max((len(str(segment.range)) for segment in plan.segments), default=0)
    for segment in plan.segments:
        sizes = f"{segment.data.nbytes:>11,} of {segment.memsz:>11,}"
        yield f"  {segment.name:<12} {segment.range!s:<{width}}  {sizes}  {segment.why}"
    yield ""
    yield "memory map for the loaded kernel"
    for entry in plan.memory_map:
        yield f"  {entry}  ({_size(entry.range)})"
    for what in plan.losses:
        yield f"with kexec_load: {what} will not be handed on"
    for warning in plan.warnings:
        yield f"warning: {warning}"


def _taken_lines(plan: LoadPlan | FileLoadPlan) -> Iterator[str]:
    return (f"taken         {line}" for line in plan.taken)


def _size(what: Range) -> str:
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if what.size >= 10 << shift:
            return f"{what.size >> shift} {unit}"
    return f"{what.size} bytes"


def _object(plan: LoadPlan) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "arch": plan.arch,
        "purpose": plan.purpose.value,
        "system_call": "kexec_load",
        "tried_first": plan.tried_first,
        "kernel": plan.image,
        "kernel_format": plan.image_format,
        "initrd": plan.initrd,
        "command_line": plan.command_line,
        "entry": plan.entry,
        "flags": plan.flags,
        "segments": [
            {
                "name": segment.name,
                "address": segment.address,
                "memsz": segment.memsz,
                "bufsz": segment.data.nbytes,
                "sha256": hashlib.sha256(segment.data).hexdigest(),
                "why": segment.why,
            }
            for segment in plan.segments
        ],
        "memory_map": [
            {"start": entry.range.start, "end": entry.range.end, "kind": entry.kind.value}
            for entry in plan.memory_map
        ],
        "taken": list(plan.taken),
        "losses": list(plan.losses),
        "warnings": list(plan.warnings),
    }
