"""A plan as JSON, for programs."""

import hashlib
import json

from pykexec.plan import FileLoadPlan, LoadPlan

SCHEMA = 1
"""The version of the JSON form; it is raised when a key changes its meaning or goes away."""


def as_json(plan: LoadPlan | FileLoadPlan) -> str:
    """Return the plan as one JSON object.

    Addresses and sizes are integers, ends are exclusive, contents are given by their SHA-256.
    """
    content = _file_object(plan) if isinstance(plan, FileLoadPlan) else _object(plan)
    return json.dumps(content, indent=2) + "\n"


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
