"""What hashing a byte costs in the purgatories, in instructions: a count, the same on every machine.

The counting is that of the tests, whose libraries take the virtual environment's Python: run as a module,
this one prints what they count.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .. import progress
from ..arches import ARCHES
from ..host import PROJECT, ensure_commands, run
from ..venv import python
from .table import Row

_CPUS = {"with SHA instructions": 0.15, "without": 1.0}
"""Kinds of CPUs, and which part of the C tool's instructions may be executed there; its are always plain."""


def rows(case: str, runs: int) -> Iterator[Row]:
    """A row for each architecture and kind of CPU. Raises LabError."""
    ensure_commands({"ld": "binutils", "aarch64-linux-gnu-ld": "binutils-aarch64-linux-gnu"})
    command = [os.fspath(python()), "-m", "tools.lab.bench.instructions"]
    with progress.step("Counting purgatory's instructions"):
        counts = json.loads(run(command, "counting purgatory's instructions", cwd=PROJECT))
    for arch, count in counts.items():
        for (cpu, limit), pykexec in zip(_CPUS.items(), count["pykexec"], strict=True):
            what = f"{arch} purgatory, CPU {cpu}: instructions per byte"
            yield Row.against_kexec(case, what, "instructions", pykexec, count["kexec"], limit)


def main() -> int:
    """Print the counts as JSON."""
    from tests.differential import test_purgatory
    from tests.emulated import machine, test_purgatory_cost
    from tests.emulated.arm64 import PLAIN

    ours = {
        "x86_64": [test_purgatory_cost.x86_64_per_byte(cpu) for cpu in (machine.SHA, machine.PLAIN)],
        "arm64": [test_purgatory_cost.arm64_per_byte(cpu) for cpu in (PLAIN, test_purgatory_cost.NO_SHA)],
    }
    small, large = 4096, 20480
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, pykexec in ours.items():
            elf = test_purgatory.c_purgatory(ARCHES[name], Path(folder))
            few, many = (test_purgatory.c_instructions(ARCHES[name], elf, size) for size in (small, large))
            found[name] = {"pykexec": pykexec, "kexec": (many - few) / (large - small)}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
