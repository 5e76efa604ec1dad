"""The commands that are compared, and their measurement in the sandbox."""

import functools
import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from .. import progress
from ..arches.x86_64 import ARCH as X86_64
from ..host import CACHE, PROJECT, LabError, build_once
from ..images import kexec_tools
from ..venv import python
from . import sandbox
from .sandbox import Command

FOLDER = CACHE / "bench"
MIB = 1 << 20
_ZSTD = b"\x28\xb5\x2f\xfd"  # RFC 8878, 3.1.1

# As of a service: no terminal, no locale of a user.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_SCRIPT = "import sys\n\nfrom pykexec.cli import main\n\nif __name__ == '__main__':\n    sys.exit(main())\n"


@dataclass(slots=True)
class Sample:
    """What the runs of one command gave."""

    seconds: list[float] = field(default_factory=list)
    anonymous: int = 0
    """The most anonymous memory, in bytes; 0 where it was not asked for."""
    loaded: int | None = None

    @property
    def median(self) -> float:
        """Seconds of wall time, a fresh process each."""
        return statistics.median(self.seconds)


def measure(
    title: str, commands: Sequence[Command], runs: int, *, memory: bool = False
) -> dict[str, Sample]:
    """Run these commands in turn, in the sandbox. Raises LabError when one fails, or the sandbox."""
    job = sandbox.Job(commands, runs, memory)
    samples = {command.name: Sample() for command in commands}
    newest = ["warming up"]
    with progress.step(title, lambda: newest[0]):
        for line in _lines(job):
            name = line.pop("name")
            sample = samples[name]
            if "seconds" in line:
                sample.seconds.append(line["seconds"])
                newest[0] = f"{name} {len(sample.seconds)}/{runs}"
            else:
                sample.anonymous, sample.loaded = line["anonymous"], line["loaded"]
    return samples


def _lines(job: sandbox.Job) -> Iterator[dict[str, Any]]:
    """What the sandbox says, while it goes on. Raises LabError when it fails."""
    command = [os.fspath(python()), "-m", "tools.lab.bench.sandbox"]
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(job.as_json())
        process.stdin.close()
        yield from map(json.loads, process.stdout)
        complaint = process.stderr.read().strip()
    if process.returncode != 0:
        raise LabError(complaint or f"the sandbox ended with status {process.returncode}")


def pykexec(*arguments: str | Path, loads: int | None = None) -> Command:
    """pykexec of the working tree, started as the script of an installed one starts it."""
    argv = [os.fspath(python()), os.fspath(_script()), *map(str, arguments)]
    return Command("pykexec", argv, {**_ENVIRONMENT, "PYTHONPATH": os.fspath(PROJECT)}, loads=loads)


def kexec(*arguments: str | Path, loads: int | None = None, statuses: Sequence[int] = (0,)) -> Command:
    """Debian's C kexec with kexec_load."""
    program, libraries = kexec_tools(X86_64)
    argv = [os.fspath(program), *map(str, arguments)]
    environment = {**_ENVIRONMENT, "LD_LIBRARY_PATH": ":".join(map(str, libraries))}
    return Command("C kexec", argv, environment, statuses, loads)


def bare_python() -> Command:
    """The interpreter that runs pykexec, with nothing to do."""
    return Command("python", [os.fspath(python()), "-c", "pass"], _ENVIRONMENT)


@functools.cache
def _script() -> Path:
    def build(target: Path) -> None:
        target.write_text(_SCRIPT)

    return build_once(FOLDER / "pykexec", build)


def compressed_file(size: int) -> Path:
    """A file of that many bytes which begins as one that zstd has made, and which nothing makes smaller.

    The same each time, and for whoever looks at it an initrd as distributions have them.
    """

    def build(target: Path) -> None:
        random = Random(size)
        with target.open("wb") as file:
            file.write(_ZSTD)
            for start in range(len(_ZSTD), size, MIB):
                file.write(random.randbytes(min(MIB, size - start)))

    return build_once(FOLDER / f"compressed-{size}", build)
