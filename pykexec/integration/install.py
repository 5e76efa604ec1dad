"""Hooking pykexec into a system: what to write and which commands to run is decided first, then done."""

from __future__ import annotations

import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec.errors import UsageError
from pykexec.integration import alternatives as links
from pykexec.integration import documentation as texts
from pykexec.integration import files
from pykexec.integration.imports import PACKAGE
from pykexec.integration.steps import Remove, Step, Write

_TEMPLATES = Path(__file__).parent
_DRACUT = "usr/lib/dracut/modules.d"
_DRACUT_CONFIGURATION = "etc/dracut.conf.d/90-pykexec.conf"
_DRACUT_MODULE = f"{_DRACUT}/90pykexec/module-setup.sh"
_INITRAMFS_TOOLS = "etc/initramfs-tools"
_HOOK = f"{_INITRAMFS_TOOLS}/hooks/pykexec"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to install where, or to remove."""

    root: Path = Path("/")
    dracut: bool = False
    initramfs_tools: bool = False
    alternatives: bool = False
    documentation: bool = False
    static: bool = False
    """The small static helper instead of Python."""
    program: Path | None = None
    """What ``kexec`` shall be, as a path in the root; by default the command installed with this package."""

    def found(self) -> Wanted:
        """With the generators that are there, if nothing was asked for. Raises UsageError where none is."""
        self._check()
        if self._asked():
            return self
        dracut = (self.root / _DRACUT).is_dir()
        initramfs_tools = (self.root / _INITRAMFS_TOOLS).is_dir()
        if not (dracut or initramfs_tools):
            raise UsageError(
                f"neither dracut nor initramfs-tools is installed below {self.root}",
                hint="ask for what is wanted: --dracut, --initramfs-tools, --alternatives, --documentation",
            )
        return replace(self, dracut=dracut, initramfs_tools=initramfs_tools)

    def installed(self) -> Wanted:
        """With all that is installed, if nothing was asked for. Raises UsageError."""
        self._check()
        if self._asked():
            return self
        ours = links.has_moved(self.root) or any(map(links.is_ours, links.registered(self.root)))
        return replace(self, dracut=True, initramfs_tools=True, alternatives=ours, documentation=True)

    def _asked(self) -> bool:
        return self.dracut or self.initramfs_tools or self.alternatives or self.documentation

    def _check(self) -> None:
        """Raises UsageError for an option that would change nothing."""
        if self.program is not None and not self.alternatives:
            raise UsageError("--program says what kexec shall be", hint="give --alternatives, too")
        if self.program is not None and self.static:
            raise UsageError("--program and --static name two programs", hint="give one of them")
        places = self.dracut or self.initramfs_tools or self.alternatives
        if self.static and self.documentation and not places:
            raise UsageError("--static has no meaning for --documentation", hint="leave it out")


def installation(wanted: Wanted) -> Sequence[Step]:
    """The steps that install. Raises PykexecError where something stands in the way; changes nothing."""
    steps: list[Step] = []
    if wanted.dracut:
        steps.append(Write(wanted.root / _DRACUT_MODULE, _filled("dracut/module-setup.sh", wanted)))
        text = _filled("dracut/pykexec.conf", wanted)
        steps.append(Write(wanted.root / _DRACUT_CONFIGURATION, text, executable=False))
    if wanted.initramfs_tools:
        steps.append(Write(wanted.root / _HOOK, _filled("initramfs-tools/pykexec", wanted)))
    if wanted.documentation:
        for path, (kind, name) in texts.places().items():
            steps.append(Write(wanted.root / path, texts.text(kind, name), executable=False))
    if wanted.alternatives:
        steps += links.register(wanted.root, _program(wanted))
    return steps


def recovery(wanted: Wanted) -> Sequence[Step]:
    """The steps after an installation that failed: without them there might be no kexec at all."""
    return list(links.recover(wanted.root, _program(wanted))) if wanted.alternatives else []


def removal(wanted: Wanted) -> Sequence[Step]:
    """The steps that undo what there is of an installation. Raises PykexecError; changes nothing."""
    steps: list[Step] = []
    removed = {
        _DRACUT_CONFIGURATION: wanted.dracut,
        _DRACUT_MODULE: wanted.dracut,
        _HOOK: wanted.initramfs_tools,
        **dict.fromkeys(texts.places(), wanted.documentation),
    }
    for path, asked in removed.items():
        if asked and (wanted.root / path).exists():
            steps.append(Remove(wanted.root / path, with_folder=path == _DRACUT_MODULE))
    if wanted.alternatives:
        steps += links.unregister(wanted.root, wanted.program)
    return steps


def advice(wanted: Wanted) -> Iterator[str]:
    """What is left to do afterwards."""
    if wanted.dracut:
        yield "dracut --force makes the initramfs anew"
    if wanted.initramfs_tools:
        yield "update-initramfs -u makes the initramfs anew"
    if wanted.alternatives:
        yield "update-alternatives --config kexec changes which one kexec is"
        if (wanted.root / _DRACUT).is_dir() and not (wanted.root / _DRACUT_MODULE).exists():
            # It copies kexec from the old root, alone, and resets the machine when that does not run.
            yield "install --dracut --static: else dracut's shutdown script cannot start what is loaded"


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


def _program(wanted: Wanted) -> Path:
    if wanted.static:
        return files.helper()
    return wanted.program or Path(sysconfig.get_path("scripts")) / "pykexec"
