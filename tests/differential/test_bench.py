"""tools/bench as it is run: every number it gives is there, and of a kind that can be."""

import json
import subprocess
from pathlib import Path

from tools.lab import X86_64, Kernel
from tools.lab.bench.measure import MIB

_ROOT = Path(__file__).parents[2]


def test_results() -> None:
    """Which targets are met is not asked: a machine that runs tests is busy."""
    command = ["tools/bench", "--runs", "1", "--json", "--only", "version", "--only", "load-30"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=120)
    rows = {row["what"]: row for row in json.loads(done.stdout)}
    assert done.returncode == (not all(row["met"] for row in rows.values())), done.stderr
    assert [row["case"] for row in rows.values()] == ["load-30", "load-30", "version"]
    memory = rows["`-l`, initrd of 30 MiB: memory"]
    # The C tool has every file in memory as its own; mapped files are nobody's.
    files = Kernel.get("6.1", X86_64).image.stat().st_size + 30 * MIB
    assert memory["pykexec"] < 30 * MIB < files < memory["kexec"]
    assert all(row["pykexec"] > 0 and row["ratio"] > 0 for row in rows.values())
