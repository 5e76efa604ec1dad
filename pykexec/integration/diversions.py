"""Files of other packages that dpkg-divert(1) moves aside, for the administrator or a package of ours."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from pykexec import children, writing
from pykexec.integration.steps import Run, Step

SUFFIX = ".kexec-tools"
_SECONDS = 60.0
_LOCAL = "LOCAL"
"""The holder of a diversion that is no package's, as dpkg-divert names it."""


def aside(path: str) -> str:
    """Return the name to which a package diverts that path.

    The names differ for /sbin and /usr/sbin, which are one folder (merged /usr): where a newer package has
    its file in the other of them, dpkg removes the old one after it has unpacked the new one.
    """
    return f"{path}{SUFFIX}" if path.startswith("/usr/") else f"{path}{SUFFIX}.sbin"


def divert(root: Path, package: str | None, path: str, to: str, *, rename: bool = False) -> Run:
    """Return the step that diverts a path; `rename`: with the file that is there."""
    return _run(root, package or _LOCAL, "--add", path, to, rename)


def undo(root: Path, package: str | None, path: str, to: str, *, rename: bool = False) -> Run:
    """Return the step that undoes `divert`."""
    return _run(root, package or _LOCAL, "--remove", path, to, rename)


def of_package(package: str, root: Path, paths: Sequence[str], place: str) -> Iterator[Step]:
    """Yield the steps after which a package diverts all these paths; `place` is where the file is."""
    for path in paths:
        holder = _holder(root, path)
        if holder == package:
            continue
        if holder is not None:
            yield _run(root, holder, "--remove", path, f"{path}{SUFFIX}", False)
        yield divert(root, package, path, aside(path), rename=path == place and is_file(root, path))


def no_longer_of_package(package: str, root: Path, paths: Sequence[str], *, stays: bool) -> Iterator[Step]:
    """Yield the steps that undo that; what `stays` aside is diverted for the administrator then."""
    for path in paths:
        if _holder(root, path) != package:
            continue
        yield undo(root, package, path, aside(path), rename=not stays and is_file(root, aside(path)))
        if stays:
            yield divert(root, None, path, aside(path))


def _run(root: Path, holder: str, action: str, path: str, to: str, rename: bool) -> Run:
    by = ("--local",) if holder == _LOCAL else ("--package", holder)
    moving = "--rename" if rename else "--no-rename"
    return Run(("dpkg-divert", *root_option(root), *by, moving, "--divert", to, action, path))


def _holder(root: Path, path: str) -> str | None:
    """Return whose diversion there is of that path: a package's, or LOCAL."""
    done = children.run(["dpkg-divert", *root_option(root), "--listpackage", path], seconds=_SECONDS)
    return done.stdout.decode("utf-8", "surrogateescape").strip() or None


def root_option(root: Path) -> tuple[str, ...]:
    """Return the option by which dpkg's programs work below a root."""
    return () if root == Path("/") else ("--root", str(root))


def is_file(root: Path, path: str) -> bool:
    """Return whether there is a regular file of that path below a root."""
    found = writing.look(root / path.lstrip("/"), root=root)
    return found is not None and stat.S_ISREG(found.status.st_mode)
