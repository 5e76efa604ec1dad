"""Hook pykexec into a system. The files to write and commands to run are decided first, then done."""

from __future__ import annotations

import shlex
import stat
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec import writing
from pykexec.errors import UsageError
from pykexec.integration import alternatives as links
from pykexec.integration import documentation as texts
from pykexec.integration import files
from pykexec.integration.commands import OWN, command_of, is_packaged
from pykexec.integration.steps import Link, Remove, Step, Write, removals

_TEMPLATES = Path(__file__).parent
DRACUT_TEMPLATE, HOOK_TEMPLATE = "dracut/module-setup.sh", "initramfs-tools/pykexec"
"""The hooks of the two generators, for `filled`."""
_DRACUT = "usr/lib/dracut/modules.d"
_DRACUT_CONFIGURATION = "etc/dracut.conf.d/90-pykexec.conf"
DRACUT_MODULE = f"{_DRACUT}/90pykexec/module-setup.sh"
_INITRAMFS_TOOLS = "etc/initramfs-tools"
_HOOK = f"{_INITRAMFS_TOOLS}/hooks/pykexec"
_KEXEC, _LOG = "kexec", "vmcore-dmesg"
_COMMANDS = {_KEXEC: 60, _LOG: 45}
"""The priority of each command's alternative. A C vmcore-dmesg comes first where there is one: it is copied
into capture images, where this one is useless."""
_STATIC, _STATIC_PRIORITY = f"{OWN}/kexec-static", 40
"""The helper cannot do all that kexec can. So it never comes first where there is another program."""
_WRITTEN_BY = "Written by `python -m pykexec.integration install`."
_BESIDE = ".program"
"""The suffix of the program that the helper runs in its own place (purgatory/exec/main.c)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to install where, or what to remove."""

    root: Path = Path("/")
    dracut: bool = False
    initramfs_tools: bool = False
    alternatives: bool = False
    documentation: bool = False
    static: bool = False
    """Whether to install the small static helper instead of Python."""
    program: Path | None = None
    """The program for ``kexec``, as a path in the root; None: the command installed with this package."""
    package: str | None = None
    """The Debian package that does this: the diversions of the C tools are its own."""

    def found(self) -> Wanted:
        """Return this with the generators that exist, if nothing was asked for.

        Raises UsageError where none does.
        """
        self._check()
        if self._asked():
            return self
        dracut, initramfs_tools = map(self._has_folder, (_DRACUT, _INITRAMFS_TOOLS))
        if not (dracut or initramfs_tools):
            raise UsageError(
                f"neither dracut nor initramfs-tools is installed below {self.root}",
                hint="ask for what is wanted: --dracut, --initramfs-tools, --alternatives, --documentation",
            )
        return replace(self, dracut=dracut, initramfs_tools=initramfs_tools)

    def installed(self) -> Wanted:
        """Return this with all that can be installed, if nothing was asked for. Raises UsageError."""
        self._check()
        if self._asked():
            return self
        if is_packaged(self.root):
            return replace(self, alternatives=True)
        return replace(self, dracut=True, initramfs_tools=True, alternatives=True, documentation=True)

    def _has_folder(self, path: str) -> bool:
        found = writing.follow(self.root / path, root=self.root)
        return found is not None and stat.S_ISDIR(found.status.st_mode)

    def _asked(self) -> bool:
        return self.dracut or self.initramfs_tools or self.alternatives or self.documentation

    def _check(self) -> None:
        """Raise UsageError for an option that would change nothing, or a package's files."""
        if is_packaged(self.root) and (self.dracut or self.initramfs_tools or self.documentation):
            raise UsageError(
                "the distribution's package has installed that",
                hint="its README says how initramfs images get pykexec: /usr/share/doc/pykexec",
            )
        if self.package is not None and not self.alternatives:
            raise UsageError("--package is whose diversions there are", hint="give --alternatives, too")
        if self.program is not None and not self.alternatives:
            raise UsageError(
                "--program names the program to install as kexec", hint="give --alternatives, too"
            )
        if self.program is not None and self.static:
            raise UsageError("--program and --static name two programs", hint="give one of them")
        places = self.dracut or self.initramfs_tools or self.alternatives
        if self.static and self.documentation and not places:
            raise UsageError("--static has no meaning for --documentation", hint="leave it out")


def installation(wanted: Wanted) -> Sequence[Step]:
    """Return the steps that install; changes nothing. Raises PykexecError where something is in the way."""
    steps: list[Step] = []
    if wanted.dracut:
        steps.append(_write(wanted, DRACUT_MODULE, _filled(DRACUT_TEMPLATE, wanted)))
        steps.append(_write(wanted, _DRACUT_CONFIGURATION, _filled("dracut/pykexec.conf", wanted), 0o644))
    if wanted.initramfs_tools:
        steps.append(_write(wanted, _HOOK, _filled(HOOK_TEMPLATE, wanted)))
    if wanted.documentation:
        for path, (kind, name) in texts.places().items():
            steps.append(_write(wanted, path, texts.text(kind, name), 0o644))
    if wanted.alternatives:
        steps += _alternatives(wanted)
    return steps


def _alternatives(wanted: Wanted) -> Iterator[Step]:
    """Yield the steps that make kexec and vmcore-dmesg pykexec's.

    The links point to the static helper, which runs the Python program beside it. So a copy of the links'
    target in an image is a program that needs nothing else.
    """
    helper = files.read(files.helper())
    if wanted.static:
        yield _write(wanted, _STATIC, helper)
        yield from links.register(wanted.root, _KEXEC, _STATIC, _STATIC_PRIORITY, wanted.package)
        return
    program = wanted.program or Path(sysconfig.get_path("scripts")) / "pykexec"
    links.require_program(wanted.root, _KEXEC, program)
    kexec, log = f"{OWN}/{_KEXEC}", f"{OWN}/{_LOG}"
    command = shlex.join(command_of("pykexec.vmcore"))
    yield Link(_in(wanted, f"{kexec}{_BESIDE}"), str(program), wanted.root)
    yield _write(wanted, kexec, helper)
    yield _write(wanted, f"{log}{_BESIDE}", f'#!/bin/sh\nexec {command} "$@"\n')
    yield _write(wanted, log, helper)
    for each, priority in _COMMANDS.items():
        yield from links.register(wanted.root, each, f"{OWN}/{each}", priority, wanted.package)


def _write(wanted: Wanted, path: str, data: bytes | str, mode: int = 0o755) -> Write:
    return Write(_in(wanted, path), data, mode, wanted.root)


def _in(wanted: Wanted, path: str) -> Path:
    return wanted.root / path.lstrip("/")


def recovery(wanted: Wanted) -> Sequence[Step]:
    """Return the steps after a failed installation: without them there might be no kexec at all."""
    if not wanted.alternatives:
        return []
    return [step for command in _COMMANDS for step in links.recover(wanted.root, command, wanted.package)]


def removal(wanted: Wanted) -> Sequence[Step]:
    """Return the steps that undo all there is of an installation; changes nothing. Raises PykexecError."""
    steps: list[Step] = []
    removed = {
        _DRACUT_CONFIGURATION: wanted.dracut,
        DRACUT_MODULE: wanted.dracut,
        _HOOK: wanted.initramfs_tools,
        **dict.fromkeys(texts.places(), wanted.documentation),
    }
    for path, asked in removed.items():
        if asked:
            steps += removals(_in(wanted, path), wanted.root, with_folder=path == DRACUT_MODULE)
    if wanted.alternatives:
        for command in _COMMANDS:
            steps += links.unregister(wanted.root, command, wanted.program, wanted.package)
        steps += _programs_removed(wanted)
    return steps


def _programs_removed(wanted: Wanted) -> Iterator[Step]:
    beside = _in(wanted, f"{OWN}/{_KEXEC}{_BESIDE}")
    if writing.look(beside, root=wanted.root) is not None:
        yield Remove(beside, wanted.root)
    for name in (_KEXEC, f"{_LOG}{_BESIDE}", _LOG, Path(_STATIC).name):
        yield from removals(_in(wanted, f"{OWN}/{name}"), wanted.root, with_folder=True)


def advice(wanted: Wanted) -> Iterator[str]:
    """Yield what is left to do afterwards."""
    if wanted.dracut:
        yield "dracut --force makes the initramfs anew"
    if wanted.initramfs_tools:
        yield "update-initramfs -u makes the initramfs anew"
    if wanted.alternatives:
        yield "update-alternatives --config kexec changes which one kexec is"
        if not wanted.dracut and writing.look(wanted.root / _DRACUT, root=wanted.root) is not None:
            # The old initramfs has a link copied from the old root that leads nowhere, so its shutdown
            # script resets the machine.
            yield "dracut --force makes the initramfs anew: its shutdown script starts what is loaded"


def filled(
    template: str, command: Sequence[str], *, origin: str, static: bool = False, guard: str | None = None
) -> str:
    """Return a hook of an initramfs generator.

    These words run ``python -m pykexec.integration``. `origin` says in a sentence where the file comes from;
    `guard` is shell code that ends the hook where it is not wanted, and sets $options for the command.
    """
    option = " --static" if static else ""
    values = {
        "@PYKEXEC@": shlex.join(command),
        "@OPTIONS@": " $options" if guard is not None else option,
        "@CONTENT@": "a small static helper" if static else "Python and pykexec",
        "@ORIGIN@": origin,
        "@GUARD@\n": "" if guard is None else f"{guard}\n",
    }
    text = files.read(_TEMPLATES / template).decode()
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _filled(template: str, wanted: Wanted) -> str:
    command = command_of("pykexec.integration")
    return filled(template, command, origin=_WRITTEN_BY, static=wanted.static)
