"""Commands as links that the administrator can switch, with the C tools beside them.

update-alternatives(1) switches the links, dpkg-divert(1) moves the C tools aside (diversions.py).
"""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pykexec import children, writing
from pykexec.errors import FileError, PykexecError, UsageError
from pykexec.integration import diversions
from pykexec.integration.commands import OWN
from pykexec.integration.diversions import is_file, root_option
from pykexec.integration.steps import Move, Run, Step

_LINKS = "etc/alternatives"
_FOLDERS = ("/sbin", "/usr/sbin")
_C_TOOL_SUFFIX = diversions.SUFFIX
_C_TOOL_PRIORITY = 50
_SECONDS = 60.0
_QUESTIONS = {
    "--query": r"^(?:Alternative|Value): (/.*)$",
    "--display": r"^(/.*?) - .*\d$",
}


def register(
    root: Path, command: str, program: str, priority: int, package: str | None = None
) -> Iterator[Step]:
    """Make a command a link to that program (a path in the root), with the C tool beside it.

    By default the link points to the program of highest priority; the C tool has 50. The diversions of that
    Debian package are there also for a C tool that comes later. Raises PykexecError where something is in
    the way.
    """
    link = _c_tool(root, command)[0] if package is None else _paths(command)[1]
    if not shutil.which("update-alternatives"):
        raise PykexecError("there is no update-alternatives here", hint=f"link {link} to {program} yourself")
    if package is None:
        yield from _divert_by_hand(root, command)
    else:
        yield from _divert_for(package, root, command, link)
    yield _alternative(root, "--install", link, command, program, str(priority))


def _divert_by_hand(root: Path, command: str) -> Iterator[Step]:
    """Move the C tool aside, and offer it there."""
    link, owned = _c_tool(root, command)
    aside = f"{link}{_C_TOOL_SUFFIX}"
    if is_file(root, link):
        if not owned:
            raise PykexecError(
                f"{link} is there, and no package manager that could keep it beside pykexec (dpkg-divert)",
                hint=f"move it to {aside} yourself, then try again",
            )
        yield diversions.divert(root, None, link, aside, rename=True)
    if is_file(root, link) or is_file(root, aside):
        yield _alternative(root, "--install", link, command, aside, str(_C_TOOL_PRIORITY))


def _divert_for(package: str, root: Path, command: str, link: str) -> Iterator[Step]:
    """Have a package divert the C tool, and offer it where it is there. Who had chosen it gets it again."""
    place, _ = _c_tool(root, command)
    aside = diversions.aside(place)
    by_hand = f"{place}{_C_TOOL_SUFFIX}"
    is_there = any(is_file(root, each) for each in (place, by_hand, aside))
    chosen = _chosen(root, command)
    yield from diversions.of_package(package, root, _paths(command), place)
    if aside != by_hand and is_file(root, by_hand):
        yield Move(_in(root, by_hand), _in(root, aside), root)
    if is_there:
        yield _alternative(root, "--install", link, command, aside, str(_C_TOOL_PRIORITY))
        if chosen in _c_tools(command):
            yield _alternative(root, "--set", command, aside)


def require_program(root: Path, command: str, program: Path) -> None:
    """Raise PykexecError where a link to that program could not work."""
    found = writing.follow(_in(root, str(program)), root=root)
    if found is None or not stat.S_ISREG(found.status.st_mode) or not found.status.st_mode & 0o111:
        raise FileError(
            f"{program}: there is no such program below {root}",
            hint="install pykexec there first (pip install pykexec), or name it: --program PATH",
        )
    if str(program) in _paths(command):
        raise UsageError(f"{program} is where the link to it would be", hint="name another: --program PATH")


def unregister(
    root: Path, command: str, program: Path | None = None, package: str | None = None
) -> Iterator[Step]:
    """Undo `register` for pykexec's programs and for this one, wherever they are or were.

    The C tool gets its place back, unless there are other programs to choose from.
    """
    link, owned = _c_tool(root, command)
    aside = f"{link}{_C_TOOL_SUFFIX}"
    there = registered(root, command)
    gone = [each for each in there if is_ours(each) or each == str(program)]
    for each in gone:
        yield _alternative(root, "--remove", command, each)
    c_tools = _c_tools(command)
    has_others = bool(set(there) - {*gone, *c_tools})
    if not has_others:
        for each in c_tools:
            if each in there:  # it may be update-alternatives itself that failed
                yield _alternative(root, "--remove", command, each)
    if package is not None:
        yield from diversions.no_longer_of_package(package, root, _paths(command), stays=has_others)
    elif is_file(root, aside) and not has_others:
        if owned:
            yield diversions.undo(root, None, link, aside, rename=True)
        elif not is_file(root, link):  # else a package manager has installed a newer one
            yield Move(_in(root, aside), _in(root, link), root)


def recover(root: Path, command: str, package: str | None = None) -> Iterator[Step]:
    """Undo what `register` did before a step failed; nothing if the command was pykexec's before."""
    is_done = package is not None or has_moved(root, command)
    if is_done and not any(map(is_ours, registered(root, command))):
        yield from unregister(root, command, package=package)


def has_moved(root: Path, command: str) -> bool:
    """Return whether the C tool has been moved aside."""
    return is_file(root, f"{_c_tool(root, command)[0]}{_C_TOOL_SUFFIX}")


def registered(root: Path, command: str) -> Sequence[str]:
    """Return the programs a command can be, and the one it is, even if that is gone; none without a link."""
    link = writing.look(root / _LINKS / command, root=root)
    if link is None or link.link is None:
        return ()
    return tuple(dict.fromkeys([*_told(root, command), link.link]))


def _told(root: Path, command: str) -> Sequence[str]:
    """Return the programs that update-alternatives knows. Chkconfig's, of Fedora, has no --query."""
    for question, line in _QUESTIONS.items():
        asked = ["update-alternatives", *root_option(root), question, command]
        with suppress(children.ChildError):
            done = children.run(asked, seconds=_SECONDS)
            if done.returncode == 0:
                return re.findall(line, done.stdout.decode("utf-8", "surrogateescape"), re.MULTILINE)
    return ()


def _chosen(root: Path, command: str) -> str | None:
    """Return the program that the administrator chose; None where it is the one of highest priority."""
    link = writing.look(root / _LINKS / command, root=root)
    asked = ["update-alternatives", *root_option(root), "--query", command]
    is_manual = b"\nStatus: manual\n" in children.run(asked, seconds=_SECONDS).stdout
    return link.link if link is not None and is_manual else None


def is_ours(program: str) -> bool:
    """Return whether a program is pykexec's, wherever it is."""
    path = Path(program)
    # Earlier versions linked to the command itself, and to the helper in its package.
    return str(path.parent) == OWN or path.name == "pykexec" or path.match("purgatory/exec/prebuilt/*.elf")


def _alternative(root: Path, *arguments: str) -> Run:
    return Run(("update-alternatives", *root_option(root), *arguments))


def _paths(command: str) -> Sequence[str]:
    return [f"{folder}/{command}" for folder in _FOLDERS]


def _c_tools(command: str) -> Sequence[str]:
    """Return all places where the C tool may be beside pykexec."""
    paths = _paths(command)
    return [*(f"{each}{_C_TOOL_SUFFIX}" for each in paths), *map(diversions.aside, paths)]


def _c_tool(root: Path, command: str) -> tuple[str, bool]:
    """Return where the C tool is or would be, as its package names that place, and whether it is dpkg's."""
    listing = writing.read_file(root / "var/lib/dpkg/info/kexec-tools.list", root=root)
    paths = _paths(command)
    owned = (listing or b"").decode("utf-8", "surrogateescape").split("\n")
    for path in paths:
        if path in owned:
            return path, True
    return paths[1], False


def _in(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
