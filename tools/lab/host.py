"""What the lab does to the machine it runs on: commands, the cache folder, missing Debian packages."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import progress

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".cache"


class LabError(Exception):
    """The lab itself could not do its part; the message says what, and what to try."""


def run(command: Sequence[str | Path], what: str, *, cwd: Path | None = None, retries: int = 0) -> str:
    """Run a command to its end and return its standard output; `what` names the step in an error.

    `retries` is for commands that use the network. Raises LabError with the end of the command's output.
    """
    for left in range(retries, -1, -1):
        done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout
        if left == 0:
            break
    tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
    raise LabError(f"{what} failed: {' '.join(map(str, command))} (status {done.returncode})\n{tail}")


def digest(*parts: str | bytes) -> str:
    """A short name for contents: what is cached under it is rebuilt when a part changes."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8) + data)
    return state.hexdigest()[:12]


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Keep other processes of the lab away from `target` (which need not exist)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """`target`, made by `build(path)` if it is not there yet; path is a file or folder to be created.

    Test workers share the cache: a lock lets one build while the others wait, and the rename at the end
    means that a target that exists is complete.
    """
    if target.exists():
        return target
    with locked(target):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
                made = Path(scratch, target.name)
                build(made)
                made.rename(target)
    return target


def ensure_commands(packages: Mapping[str, str]) -> None:
    """Install the Debian packages (values) of those commands or files (keys) that are missing.

    Raises LabError when that takes root, or apt-get fails.
    """
    there = (
        name for name in packages if (Path(name).exists() if name.startswith("/") else shutil.which(name))
    )
    missing = sorted({*packages.values()} - {packages[name] for name in there})
    if missing:
        apt_install(missing)


def apt_install(packages: Sequence[str]) -> None:
    """Install Debian packages on this machine. Raises LabError."""
    if os.geteuid() != 0:
        raise LabError(f"missing Debian packages: {' '.join(packages)}\nRun as root, or install them.")
    progress.say(f"Installing on this machine: {' '.join(packages)}")
    env = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-oDPkg::Lock::Timeout=300")
    run([*env, "update"], "updating apt's package lists", retries=2)
    run([*env, "install", "--no-install-recommends", *packages], "installing packages", retries=2)
