"""What a snapshot for the doctor has besides what plans take: what checks read, and a listing of files."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pykexec.errors import MachineError
from pykexec.kdump import doctor
from pykexec.kdump.doctor.facts import FACTS, LOG, Facts
from pykexec.kdump.doctor.places import LISTING, Recorder
from pykexec.machine import Machine
from pykexec.machine.snapshot import glob
from pykexec.memory import MIB

_END_MAX = MIB
"""Of a log that has no end: what is of use is at its end."""
_LOGS = ("var/log/audit/audit.log", LOG)


def contents(machine: Machine, top: str | os.PathLike[str] = "/") -> Iterator[tuple[str, bytes]]:
    """Paths in the snapshot and what is there; nothing of kernels or images. `top` is its root folder."""
    places = Recorder(top)
    facts = Facts(machine, places=places)
    doctor.diagnose(facts)
    yield LISTING, places.as_json().encode()
    log = (facts.log or "").encode()
    for pattern in FACTS:
        for name in [pattern] if pattern == LOG else glob(machine.root, pattern):
            data = log if name == LOG else _read(machine, name)
            if data:
                yield name, data[-_END_MAX:] if name in _LOGS else data


def _read(machine: Machine, name: str) -> bytes | None:
    try:
        return machine.read(name)
    except MachineError:
        return None
