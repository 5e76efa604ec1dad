"""Writing a snapshot: a .tar with the files a plan for this machine needs, and no memory contents."""

import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import IO

from pykexec import writing
from pykexec.errors import FileError, MachineError
from pykexec.machine import FACTS, IDENTITY, Machine, kcore
from pykexec.machine.root import Root


def write_snapshot(
    machine: Machine,
    path: str | os.PathLike[str],
    arch_facts: Sequence[str],
    more: Iterable[tuple[str, bytes]] = (),
) -> int:
    """Write the snapshot and return the number of files in it; `arch_facts` are its architecture's patterns.

    `more` are further files, name and contents.

    Raises MachineError for a fact that cannot be read, FileError when the archive cannot be written, or its
    name is that of a link; an archive that was there before is replaced only by a complete one.
    """
    if not os.fspath(path):
        raise FileError("the snapshot needs a name", hint="name a file: machine.tar")
    # Readable for its owner only: it holds addresses that the kernel shows to nobody else.
    with writing.new_file(path, mode=0o600, make_folders=False) as file:
        return _write(file, itertools.chain(_contents(machine, arch_facts), more))


def _write(file: IO[bytes], contents: Iterable[tuple[str, bytes]]) -> int:
    """The number of files; of two with one name the first is written."""
    names = set[str]()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in contents:
            if name in names:
                continue
            names.add(name)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return len(names)


def _contents(machine: Machine, arch_facts: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    identity = {"machine": machine.uname_machine, "page_size": machine.page_size}
    yield IDENTITY, json.dumps(identity, indent=1).encode() + b"\n"
    if machine.root.open(kcore.PATH) is not None:
        yield kcore.PATH, kcore.without_memory(machine.root)
    for pattern in sorted([*FACTS, *arch_facts]):
        for name in glob(machine.root, pattern):
            try:
                data = machine.read(name)
            except MachineError:
                continue  # such as a write-only file: what cannot be read, no plan can use
            if data is not None:
                yield name, data


def _below(root: Root, folder: str) -> Iterator[str]:
    """Every path below a folder."""
    for name in root.names(folder):
        yield f"{folder}/{name}"
        yield from _below(root, f"{folder}/{name}")


def glob(root: Root, pattern: str) -> list[str]:
    """The paths below a root that match, part by part; a part without wildcard need not be listable.

    "FOLDER/**" stands for everything below a folder.
    """
    if pattern.endswith("/**"):
        return sorted(_below(root, pattern.removesuffix("/**")))
    paths = [""]
    for part in pattern.split("/"):
        if any(character in part for character in "*?["):
            paths = [
                f"{path}{name}/"
                for path in paths
                for name in root.names(path.rstrip("/"))
                if fnmatchcase(name, part)
            ]
        else:
            paths = [f"{path}{part}/" for path in paths]
    return [path.rstrip("/") for path in paths]
