"""Machines to plan for: snapshots of real guests, and trees of files made by hand."""

import functools
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pykexec.machine import Machine
from pykexec.memory import Range

FOLDER = Path(__file__).parent.parent / "machines"
SNAPSHOTS = sorted(path.stem for path in FOLDER.glob("*.tar"))
ARM64_SNAPSHOTS = [name for name in SNAPSHOTS if name.startswith("qemu-arm64-")]
ARM_SNAPSHOTS = [name for name in SNAPSHOTS if name.startswith("qemu-arm-")]
I386_SNAPSHOTS = [name for name in SNAPSHOTS if name.startswith("qemu-i386-")]
PPC64LE_SNAPSHOTS = [name for name in SNAPSHOTS if name.startswith("qemu-ppc64le-")]
RISCV64_SNAPSHOTS = [name for name in SNAPSHOTS if name.startswith("qemu-riscv64-")]
X86_64_SNAPSHOTS = [name for name in SNAPSHOTS if name[len("qemu-")].isdigit()]


@functools.cache
def snapshot(name: str) -> Machine:
    """Return one of the committed snapshots, which remembers what of it was read."""
    return Machine.from_snapshot(FOLDER / f"{name}.tar")


def iomem(name: str, what: str) -> list[Range]:
    """Return the ranges of a snapshot's /proc/iomem with that name, read by a regular expression."""
    with tarfile.open(FOLDER / f"{name}.tar") as tar:
        file = tar.extractfile("proc/iomem")
        assert file is not None
        text = file.read().decode()
    found = re.findall(rf"^ *([0-9a-f]+)-([0-9a-f]+) : {what}$", text, re.MULTILINE)
    return [Range(int(start, 16), int(end, 16) + 1) for start, end in found]


def unpacked(name: str, folder: Path, changes: Mapping[str, str | bytes | None] | None = None) -> Machine:
    """Return a snapshot as a folder, with files replaced, added, or (None) removed."""
    folders = set[Path]()
    for path, data in _files(name):
        file = folder / path
        if file.parent not in folders:
            file.parent.mkdir(parents=True, exist_ok=True)
            folders.add(file.parent)
        file.write_bytes(data)
    for path, content in (changes or {}).items():
        write(folder, path, content)
    return Machine.from_snapshot(folder)


@functools.cache
def _files(name: str) -> Sequence[tuple[str, bytes]]:
    """Return what a snapshot has; there is nothing else than files in one."""
    with tarfile.open(FOLDER / f"{name}.tar") as tar:
        members = tar.getmembers()
        assert all(member.isfile() for member in members)
        return [(member.name, tar.extractfile(member).read()) for member in members]  # type: ignore[union-attr]


def write(folder: Path, path: str, content: str | bytes | None) -> None:
    """Put a file below a root, or (None) remove it."""
    place = folder / path
    if content is None:
        place.unlink()
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content.encode() if isinstance(content, str) else content)
