"""The parts of a snapshot that only doctor needs: the files checks read, and a listing of others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator

from pykexec.kdump import doctor
from pykexec.kdump.doctor import redaction
from pykexec.kdump.doctor.facts import FACTS, LOG, Facts
from pykexec.kdump.doctor.hostfiles import LISTING, RecordingFiles
from pykexec.machine import Machine
from pykexec.machine.snapshot import Reader
from pykexec.machine.sysfs import LOG_MAX

SCHEMA = 1
"""The version of the JSON form of a snapshot's contents."""


def contents(machine: Machine, top: str | os.PathLike[str] = "/") -> Iterator[tuple[str, bytes]]:
    """Yield paths in the snapshot with their data, without secrets; no kernel or image is in it.

    `top` is the machine's root folder. Raises MachineError, at the end, for files that may not be read.
    """
    places = RecordingFiles(top)
    facts = Facts(machine, places=places)
    doctor.diagnose(facts)
    yield LISTING, redaction.fact(LISTING, places.as_json().encode())
    if facts.log is not None:
        yield LOG, redaction.fact(LOG, facts.log.encode()[-LOG_MAX:])
    reader = Reader(machine.root)
    for name, data in reader.files(pattern for pattern in FACTS if pattern != LOG):
        yield name, redaction.fact(name, data)
    if facts.log is None and machine.is_live and os.geteuid() != 0:
        reader.refused.append("dev/kmsg")
    reader.require_all()


def listing(files: Iterable[tuple[str, bytes]]) -> str:
    """Return paths in a snapshot, with their sizes, as a JSON object."""
    content = {"schema": SCHEMA, "files": [{"path": name, "size": len(data)} for name, data in files]}
    return json.dumps(content, indent=2) + "\n"
