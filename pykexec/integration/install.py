"""Hooking pykexec into a system: what to write and which commands to run is decided first, then done."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pykexec.errors import FileError, PykexecError, UsageError
from pykexec.integration.imports import PACKAGE

_TEMPLATES = Path(__file__).parent
_DRACUT = "usr/lib/dracut/modules.d"
_DRACUT_CONFIGURATION = "etc/dracut.conf.d/90-pykexec.conf"
_DRACUT_MODULE = f"{_DRACUT}/90pykexec/module-setup.sh"
_INITRAMFS_TOOLS = "etc/initramfs-tools"
_HOOK = f"{_INITRAMFS_TOOLS}/hooks/pykexec"

_C_TOOL_PATHS = ("/sbin/kexec", "/usr/sbin/kexec")
_C_TOOL_SUFFIX = ".kexec-tools"
_C_TOOL_PRIORITY, _PRIORITY = 50, 60


class Step(Protocol):
    """One thing to do, that can be undone."""

    def describe(self) -> str:
        """What is done, in one line."""

    def do(self) -> None:
        """Raises PykexecError."""


@dataclass(frozen=True, slots=True)
class Write:
    """Write a file, and the folders it is in."""

    path: Path
    text: str
    executable: bool = True

    def describe(self) -> str:
        return f"write {self.path}"

    def do(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.text)
            self.path.chmod(0o755 if self.executable else 0o644)
        except OSError as error:
            raise FileError(f"{self.path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file, and the folder it was in where nothing else is."""

    path: Path

    def describe(self) -> str:
        return f"remove {self.path}"

    def do(self) -> None:
        try:
            self.path.unlink(missing_ok=True)
            if self.path.parent.name == "90pykexec" and not any(self.path.parent.iterdir()):
                self.path.parent.rmdir()
        except OSError as error:
            raise FileError(f"{self.path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Run:
    """Run a command."""

    command: tuple[str, ...]

    def describe(self) -> str:
        return f"run {shlex.join(self.command)}"

    def do(self) -> None:
        try:
            done = subprocess.run(self.command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise PykexecError(f"{self.command[0]}: {error.strerror}") from error
        if done.returncode != 0:
            last = next(reversed(done.stderr.strip().splitlines()), f"exit status {done.returncode}")
            raise PykexecError(f"{shlex.join(self.command)} failed: {last}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to install where."""

    root: Path = Path("/")
    dracut: bool = False
    initramfs_tools: bool = False
    alternatives: bool = False
    static: bool = False
    """The small static helper instead of Python."""
    program: Path | None = None
    """What ``kexec`` shall be, as a path in the root; by default the command installed with this package."""

    def found(self) -> Wanted:
        """With the generators that are there, if none was asked for. Raises UsageError where none is."""
        if self.dracut or self.initramfs_tools or self.alternatives:
            return self
        dracut = (self.root / _DRACUT).is_dir()
        initramfs_tools = (self.root / _INITRAMFS_TOOLS).is_dir()
        if not (dracut or initramfs_tools):
            raise UsageError(
                f"neither dracut nor initramfs-tools is installed below {self.root}",
                hint="ask for what is wanted: --dracut, --initramfs-tools, --alternatives",
            )
        return replace(self, dracut=dracut, initramfs_tools=initramfs_tools)


def installation(wanted: Wanted) -> Sequence[Step]:
    """The steps that install. Raises PykexecError where something stands in the way; changes nothing."""
    steps: list[Step] = []
    if wanted.dracut:
        steps.append(Write(wanted.root / _DRACUT_MODULE, _filled("dracut/module-setup.sh", wanted)))
        text = _filled("dracut/pykexec.conf", wanted)
        steps.append(Write(wanted.root / _DRACUT_CONFIGURATION, text, executable=False))
    if wanted.initramfs_tools:
        steps.append(Write(wanted.root / _HOOK, _filled("initramfs-tools/pykexec", wanted)))
    if wanted.alternatives:
        steps += _register(wanted)
    return steps


def removal(wanted: Wanted) -> Sequence[Step]:
    """The steps that undo an installation. Raises PykexecError; changes nothing."""
    steps: list[Step] = []
    if wanted.dracut:
        steps += [Remove(wanted.root / _DRACUT_CONFIGURATION), Remove(wanted.root / _DRACUT_MODULE)]
    if wanted.initramfs_tools:
        steps.append(Remove(wanted.root / _HOOK))
    if wanted.alternatives:
        steps += _unregister(wanted)
    return steps


def advice(wanted: Wanted) -> Iterator[str]:
    """What is left to do afterwards."""
    if wanted.dracut:
        yield "dracut --force makes the initramfs anew"
    if wanted.initramfs_tools:
        yield "update-initramfs -u makes the initramfs anew"
    if wanted.alternatives:
        yield "update-alternatives --config kexec changes which one kexec is"


def _filled(template: str, wanted: Wanted) -> str:
    values = {
        "@PYTHON@": python_command(),
        "@OPTIONS@": " --static" if wanted.static else "",
        "@CONTENT@": "a small static helper" if wanted.static else "Python and pykexec",
    }
    text = (_TEMPLATES / template).read_text()
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def python_command() -> str:
    """The command of an interpreter that finds this package, for a shell."""
    command = [sys.executable]
    import_it = [sys.executable, "-I", "-c", "import pykexec.integration, sys; print(pykexec.__path__[0])"]
    done = subprocess.run(import_it, capture_output=True, text=True, check=False)
    if done.stdout.strip() != str(PACKAGE):
        command = ["env", f"PYTHONPATH={PACKAGE.parent}", *command]
    return shlex.join(command)


def _register(wanted: Wanted) -> Iterator[Step]:
    """Make ``kexec`` a link that the administrator can turn: to pykexec, or to the C tool beside it."""
    link, owned = _c_tool(wanted.root)
    program = _program(wanted)
    aside = f"{link}{_C_TOOL_SUFFIX}"
    if _in(wanted.root, program) == _in(wanted.root, link):
        raise UsageError(f"{program} is where the link to it would be", hint="name another: --program PATH")
    if not shutil.which("update-alternatives"):
        raise PykexecError("there is no update-alternatives here", hint=f"link {link} to {program} yourself")
    if _is_file(wanted.root, link):
        if not owned:
            raise PykexecError(
                f"{link} is there, and no package manager that could keep it beside pykexec (dpkg-divert)",
                hint=f"move it to {aside} yourself, then try again",
            )
        divert = ("--local", "--rename", "--divert", aside, "--add", link)
        yield Run(("dpkg-divert", *_root(wanted), *divert))
    if _is_file(wanted.root, link) or _is_file(wanted.root, aside):
        yield _alternative(wanted, "--install", link, "kexec", aside, str(_C_TOOL_PRIORITY))
    yield _alternative(wanted, "--install", link, "kexec", program, str(_PRIORITY))


def _unregister(wanted: Wanted) -> Iterator[Step]:
    link, owned = _c_tool(wanted.root)
    aside = f"{link}{_C_TOOL_SUFFIX}"
    yield _alternative(wanted, "--remove", "kexec", _program(wanted))
    if _is_file(wanted.root, aside):
        yield _alternative(wanted, "--remove", "kexec", aside)
        if owned:
            undo = ("--local", "--rename", "--divert", aside, "--remove", link)
            yield Run(("dpkg-divert", *_root(wanted), *undo))


def _alternative(wanted: Wanted, *arguments: str) -> Run:
    return Run(("update-alternatives", *_root(wanted), *arguments))


def _root(wanted: Wanted) -> tuple[str, ...]:
    return () if wanted.root == Path("/") else ("--root", str(wanted.root))


def _c_tool(root: Path) -> tuple[str, bool]:
    """Where the C kexec is or would be, as its package calls that place, and whether it is dpkg's."""
    listing = root / "var/lib/dpkg/info/kexec-tools.list"
    if listing.is_file():
        files = listing.read_text().split("\n")
        for path in _C_TOOL_PATHS:
            if path in files:
                return path, True
    return _C_TOOL_PATHS[1], False


def _is_file(root: Path, path: str) -> bool:
    place = _in(root, path)
    return place.is_file() and not place.is_symlink()


def _in(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _program(wanted: Wanted) -> str:
    """The command ``pykexec``, as a path in the root. Raises FileError where it is not."""
    program = wanted.program or Path(sysconfig.get_path("scripts")) / "pykexec"
    if not os.access(_in(wanted.root, str(program)), os.X_OK):
        raise FileError(
            f"{program}: there is no such program below {wanted.root}",
            hint="install pykexec there first (pip install pykexec), or name it: --program PATH",
        )
    return str(program)
