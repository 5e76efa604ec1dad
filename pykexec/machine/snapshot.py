"""Write a snapshot: a .tar with the files that a plan for this machine needs, and no memory contents."""

import errno
import io
import itertools
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import IO, TypeVar

from pykexec import redact, writing
from pykexec.errors import FileError, MachineError
from pykexec.machine import FACTS, IDENTITY, Machine, iomem, kcore, sysfs
from pykexec.machine.root import Root

T = TypeVar("T")


def write_snapshot(
    machine: Machine,
    path: str | os.PathLike[str],
    arch_facts: Sequence[str],
    more: Iterable[tuple[str, bytes]] = (),
) -> int:
    """Write the snapshot and return the number of files in it; see `contents` for `arch_facts`.

    `more` are further files, name and contents.

    Raises MachineError for a fact that cannot be read. Raises FileError when the archive cannot be written,
    or its name is that of a link. An earlier archive is replaced only by a complete one.
    """
    if not os.fspath(path):
        raise FileError("the snapshot needs a name", hint="name a file: machine.tar")
    # Only its owner may read it: it holds addresses that the kernel shows to nobody else.
    with writing.new_file(path, mode=0o600, make_folders=False) as file:
        return _write(file, itertools.chain(contents(machine, arch_facts), more))


def _write(file: IO[bytes], contents: Iterable[tuple[str, bytes]]) -> int:
    """Write the files and return their number; of two with one name the first is written."""
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


def contents(machine: Machine, arch_facts: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the files; `arch_facts` are the patterns of the machine's architecture.

    Raises MachineError, at the end, for a file that may not be read: without it plans would differ.
    """
    identity = {"machine": machine.uname_machine, "page_size": machine.page_size}
    yield IDENTITY, json.dumps(identity, indent=1).encode() + b"\n"
    reader = Reader(machine.root)
    for pattern in patterns(arch_facts):
        yield from reader.safe_files(pattern)
    reader.require_all()


def patterns(arch_facts: Iterable[str]) -> list[str]:
    """Return the glob patterns of all files of a snapshot; `arch_facts` are the architecture's."""
    return [kcore.PATH, *sorted([*FACTS, *arch_facts])]


class Reader:
    """Reads the files of a snapshot, and remembers those it may not read."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self.refused: list[str] = []

    def files(self, patterns: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of the files that exist; of logs only the end."""
        for pattern in patterns:
            for name in self._try(pattern, glob) or ():
                data = self._try(name, _read)
                if data is not None:
                    yield name, data

    def safe_files(self, pattern: str) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of the files as a snapshot has them: without memory and secrets.

        Raises MachineError for a damaged /proc/kcore.
        """
        if pattern == kcore.PATH:
            if self.may_read(pattern):
                yield pattern, kcore.without_memory(self._root)
            return
        for name, data in self.files([pattern]):
            if name == "proc/iomem" and iomem.hides_addresses(data):
                self.refused.append("proc/iomem (addresses)")
            safe = redact.fact(name, data)
            if safe is not None:
                yield name, safe

    def may_read(self, path: str) -> bool:
        """Return whether a file exists and can be opened."""
        file = self._try(path, lambda root, path: root.open(path))
        if file is not None:
            file.close()
        return file is not None

    def require_all(self) -> None:
        """Raise MachineError if some file may not be read."""
        if self.refused:
            names = [f"/{name}" for name in dict.fromkeys(self.refused)]
            more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
            raise MachineError(
                f"cannot take a snapshot: {', '.join(names[:_NAMED_MAX])}{more} cannot be read",
                hint="run as root",
            )

    def _try(self, name: str, work: Callable[[Root, str], T]) -> T | None:
        try:
            return work(self._root, name)
        except MachineError as error:
            # Other errors come from write-only files and the like, which even root cannot read and no plan
            # uses.
            if getattr(error.__cause__, "errno", None) == errno.EACCES:
                self.refused.append(name)
            return None


def _read(root: Root, name: str) -> bytes | None:
    return sysfs.read_end(root, name, sysfs.LOG_MAX) if name.startswith(_LOGS) else sysfs.read(root, name)


_NAMED_MAX = 5
_LOGS = "var/log/"


def _below(root: Root, folder: str) -> Iterator[str]:
    """Yield the path of every file below a folder. Raises MachineError where there are too many."""
    stack, count = [folder], 0
    while stack:
        path = stack.pop()
        for name, is_folder in root.entries(path):
            count += 1
            if count > _BELOW_MAX:
                raise MachineError(f"/{folder} has more than {_BELOW_MAX} files below it")
            if is_folder:
                stack.append(f"{path}/{name}")
            else:
                yield f"{path}/{name}"


_BELOW_MAX = 1 << 16


def glob(root: Root, pattern: str) -> list[str]:
    """Return the paths below a root that match, part by part; only parts with a wildcard list their folder.

    "FOLDER/**" stands for every file below a folder. Raises MachineError.
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
