"""The command ``kexec`` as a link the administrator can turn (update-alternatives(1), dpkg-divert(1))."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from pykexec.errors import FileError, PykexecError, UsageError
from pykexec.integration.steps import Move, Run, Step

_LINK = "etc/alternatives/kexec"
_C_TOOL_PATHS = ("/sbin/kexec", "/usr/sbin/kexec")
_C_TOOL_SUFFIX = ".kexec-tools"
_HELPER_PRIORITY, _C_TOOL_PRIORITY, _PRIORITY = 40, 50, 60
"""The helper, which cannot do all that kexec can, is never chosen by itself where there is another."""


def register(root: Path, program: Path) -> Iterator[Step]:
    """Make ``kexec`` a link to that program (a path in the root), with the C tool beside it.

    Raises PykexecError where something stands in the way.
    """
    if not os.access(_in(root, str(program)), os.X_OK):
        raise FileError(
            f"{program}: there is no such program below {root}",
            hint="install pykexec there first (pip install pykexec), or name it: --program PATH",
        )
    link, owned = _c_tool(root)
    aside = f"{link}{_C_TOOL_SUFFIX}"
    if _in(root, str(program)) == _in(root, link):
        raise UsageError(f"{program} is where the link to it would be", hint="name another: --program PATH")
    if not shutil.which("update-alternatives"):
        raise PykexecError("there is no update-alternatives here", hint=f"link {link} to {program} yourself")
    if _is_file(root, link):
        if not owned:
            raise PykexecError(
                f"{link} is there, and no package manager that could keep it beside pykexec (dpkg-divert)",
                hint=f"move it to {aside} yourself, then try again",
            )
        divert = ("--local", "--rename", "--divert", aside, "--add", link)
        yield Run(("dpkg-divert", *_option(root), *divert))
    if _is_file(root, link) or _is_file(root, aside):
        yield _alternative(root, "--install", link, "kexec", aside, str(_C_TOOL_PRIORITY))
    priority = _HELPER_PRIORITY if _is_helper(str(program)) else _PRIORITY
    yield _alternative(root, "--install", link, "kexec", str(program), str(priority))


def unregister(root: Path, program: Path | None) -> Iterator[Step]:
    """Undo that for a program, or for pykexec and its helper wherever they are, or were.

    The C tool gets its place back, unless others than it are left to choose from.
    """
    link, owned = _c_tool(root)
    aside = f"{link}{_C_TOOL_SUFFIX}"
    there = registered(root)
    gone = [str(program)] if program else [each for each in there if is_ours(each)]
    for each in gone:
        yield _alternative(root, "--remove", "kexec", each)
    if _is_file(root, aside) and not set(there) - {*gone, aside}:
        if there:  # update-alternatives itself may be what failed
            yield _alternative(root, "--remove", "kexec", aside)
        if owned:
            undo = ("--local", "--rename", "--divert", aside, "--remove", link)
            yield Run(("dpkg-divert", *_option(root), *undo))
        elif not _is_file(root, link):  # else a package manager has put a newer one there
            yield Move(_in(root, aside), _in(root, link))


def recover(root: Path, program: Path) -> Iterator[Step]:
    """Undo what `register` did before a step failed; nothing if the program was there before."""
    if has_moved(root) and str(program) not in registered(root):
        yield from unregister(root, program)


def has_moved(root: Path) -> bool:
    """Whether the C tool is not in its place, but beside it."""
    return _is_file(root, f"{_c_tool(root)[0]}{_C_TOOL_SUFFIX}")


def registered(root: Path) -> Sequence[str]:
    """What ``kexec`` can be in that system, and what it is, though that may be gone; nothing if no link."""
    link = root / _LINK
    if not link.is_symlink():
        return ()
    try:
        query = ["update-alternatives", *_option(root), "--query", "kexec"]
        told = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    except OSError:
        told = ""
    found = re.findall(r"^(?:Alternative|Value): (/.*)$", told, re.MULTILINE)
    return tuple(dict.fromkeys([*found, str(link.readlink())]))


def is_ours(program: str) -> bool:
    """Whether a program is pykexec or its helper, wherever it is."""
    return Path(program).name == "pykexec" or _is_helper(program)


def _is_helper(program: str) -> bool:
    return Path(program).match("purgatory/exec/prebuilt/*.elf")


def _alternative(root: Path, *arguments: str) -> Run:
    return Run(("update-alternatives", *_option(root), *arguments))


def _option(root: Path) -> tuple[str, ...]:
    return () if root == Path("/") else ("--root", str(root))


def _c_tool(root: Path) -> tuple[str, bool]:
    """Where the C kexec is or would be, as its package calls that place, and whether it is dpkg's."""
    listing = root / "var/lib/dpkg/info/kexec-tools.list"
    if listing.is_file():
        paths = listing.read_text().split("\n")
        for path in _C_TOOL_PATHS:
            if path in paths:
                return path, True
    return _C_TOOL_PATHS[1], False


def _is_file(root: Path, path: str) -> bool:
    place = _in(root, path)
    return place.is_file() and not place.is_symlink()


def _in(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
