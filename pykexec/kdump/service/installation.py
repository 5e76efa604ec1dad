"""Install the service into systemd and udev, and the hook for new kernels."""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pykexec import writing
from pykexec.errors import FileError
from pykexec.integration import files
from pykexec.integration.commands import command_of, is_packaged
from pykexec.integration.imports import PACKAGE
from pykexec.integration.steps import Keep, Remove, Run, Step, Write, removals, turned_off

_TEMPLATES = Path(__file__).with_name("systemd")
_HOOK = Path(__file__).with_name("hooks") / "kernel-update"
UNIT, RULES = "pykdump.service", "98-pykdump.rules"
PACKAGED_UNIT, PACKAGED_RULES = f"usr/lib/systemd/system/{UNIT}", f"usr/lib/udev/rules.d/{RULES}"
"""Where a distribution's package has them, below a root."""
_DEBIAN_HOOK, _HOOK_NAME = "etc/kernel/postinst.d/zz-pykdump", "95-pykdump.install"
_HOOKS = {
    _DEBIAN_HOOK: "etc/kernel/postinst.d",
    f"etc/kernel/install.d/{_HOOK_NAME}": "usr/lib/kernel/install.d",
}
"""Where the hook is, and the folder of who calls it there: Debian's kernels, kernel-install(8)."""
PACKAGED_HOOKS = (_DEBIAN_HOOK, f"usr/lib/kernel/install.d/{_HOOK_NAME}")
"""Where a distribution's package has it."""
_WRITTEN_BY = "# Written by `pykdump install`. {}\n"
_PLAIN = re.compile(r"[\w@=:,./+-]+", re.ASCII)


def steps(root: Path) -> Sequence[Step]:
    """Return the steps that install it. In another root, systemd and udev are not told.

    Raises PykexecError, also where the administrator has turned the unit or the rule off.
    """
    _require_wanted(root)
    if kept := _packaged(root):
        return kept
    written = [
        Write(_unit_in(root), _unit(), 0o644, root),
        Write(_rules_in(root), _rules(), 0o644, root),
    ]
    return [*written, *_hooks(root), *(_told() if _is_running(root) else ())]


def removal(root: Path) -> Sequence[Step]:
    """Return the steps that undo that and unload the capture kernel; none where nothing is installed.

    Raises PykexecError.
    """
    unit, rules = removals(_unit_in(root), root), removals(_rules_in(root), root)
    kept = _packaged(root)
    rules = [*_hooks_removed(root), *rules]
    if not _is_running(root):
        return [*rules, *unit, *kept]
    is_installed = (kept and not unit) or any(isinstance(each, Remove) for each in unit)
    stopped = [Run(("systemctl", "disable", "--now", UNIT))] if is_installed else []
    return [*stopped, *rules, *unit, *kept, *(_told() if unit or rules else ())]


def absent(root: Path) -> Sequence[str]:
    """Return what the unit starts and another root does not have at its place: Python, and pykexec."""
    needed = (sys.executable, str(PACKAGE))
    return [path for path in needed if not os.path.lexists(root / path.lstrip("/"))]


def _packaged(root: Path) -> Sequence[Step]:
    """Return the steps for what a distribution's package has installed; none where it has not."""
    if not is_packaged(root):
        return []
    hooks = (each for each in PACKAGED_HOOKS if os.path.lexists(root / each))
    paths = (PACKAGED_UNIT, PACKAGED_RULES, *hooks)
    return [Keep(root / path, "the package has it") for path in paths]


def _hooks(root: Path) -> Iterator[Step]:
    """Yield the steps that install the hook for new kernels, where somebody would call it."""
    for path, callers in _HOOKS.items():
        found = writing.follow(root / callers, root=root)
        if found is None or not stat.S_ISDIR(found.status.st_mode):
            continue
        how = turned_off(root / path, root)
        yield Write(root / path, _hook(), 0o755, root) if how is None else Keep(root / path, how)


def _hooks_removed(root: Path) -> Iterator[Step]:
    """Yield the steps that remove the hook, but not a package's."""
    kept = PACKAGED_HOOKS if is_packaged(root) else ()
    for path in _HOOKS:
        if path not in kept:
            yield from removals(root / path, root)


def _require_wanted(root: Path) -> None:
    """Raise FileError where the unit or the rule is turned off, because an installation would undo that."""
    how = turned_off(unit := _unit_in(root), root)
    if how is not None:
        other = () if root == Path("/") else (f"--root={root}",)
        command = shlex.join(["systemctl", *other, "unmask", UNIT])
        raise FileError(f"{UNIT} is masked: {unit} is {how}", hint=command)
    how = turned_off(rules := _rules_in(root), root)
    if how is not None:
        raise FileError(
            f"the rule {RULES} is turned off: {rules} is {how}", hint=shlex.join(["rm", str(rules)])
        )


def _told() -> Iterator[Step]:
    yield Run(("systemctl", "daemon-reload"))
    yield Run(("udevadm", "control", "--reload"))


def _unit_in(root: Path) -> Path:
    return root / "etc/systemd/system" / UNIT


def _rules_in(root: Path) -> Path:
    return root / "etc/udev/rules.d" / RULES


def _is_running(root: Path) -> bool:
    return root == Path("/") and Path("/run/systemd/system").is_dir()


def unit(command: Sequence[str]) -> str:
    """Return the service's unit, in which these words run pykdump."""
    return files.read(_TEMPLATES / UNIT).decode().replace("@PYKDUMP@", " ".join(map(_word, command)))


def rules() -> str:
    """Return the rules for udev."""
    return files.read(_TEMPLATES / RULES).decode()


def hook(command: Sequence[str], origin: str) -> str:
    """Return the hook, in which these words run pykdump; `origin` says in a sentence where it comes from."""
    text = files.read(_HOOK).decode().replace("@ORIGIN@", origin)
    return text.replace("@PROGRAM@", shlex.quote(command[0])).replace("@PYKDUMP@", shlex.join(command))


def _hook() -> str:
    return hook(command_of("pykexec.kdump"), "Written by `pykdump install`.")


def _unit() -> str:
    head = _WRITTEN_BY.format(f"What shall be different goes into {UNIT}.d: systemctl edit {UNIT}")
    return head + unit(command_of("pykexec.kdump"))


def _rules() -> str:
    return _WRITTEN_BY.format("A link to /dev/null in its place turns it off.") + rules()


def _word(text: str) -> str:
    """Return a word quoted for a command line of systemd (systemd.service(5), COMMAND LINES)."""
    if _PLAIN.fullmatch(text):
        return text
    for special, written in (("\\", r"\\"), ('"', r"\""), ("\n", r"\n"), ("%", "%%"), ("$", "$$")):
        text = text.replace(special, written)
    return f'"{text}"'
