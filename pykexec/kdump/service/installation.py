"""The service as systemd and udev know it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pykexec.integration.install import python_command
from pykexec.integration.steps import Remove, Run, Step, Write

_TEMPLATES = Path(__file__).with_name("systemd")
_UNIT, _RULES = "pykdump.service", "98-pykdump.rules"


def steps(root: Path) -> Iterator[Step]:
    """What installs it; in another root nothing is told to systemd and udev. Raises PykexecError."""
    yield Write(_unit_in(root), _unit(), executable=False)
    yield Write(_rules_in(root), (_TEMPLATES / _RULES).read_text(), executable=False)
    if _is_running(root):
        yield Run(("systemctl", "daemon-reload"))
        yield Run(("udevadm", "control", "--reload"))


def removal(root: Path) -> Iterator[Step]:
    """What undoes that; a capture kernel that is loaded is unloaded. Nothing where nothing is installed."""
    there = [path for path in (_rules_in(root), _unit_in(root)) if path.exists()]
    if not there:
        return
    if _is_running(root):
        yield Run(("systemctl", "disable", "--now", _UNIT))
    yield from map(Remove, there)
    if _is_running(root):
        yield Run(("systemctl", "daemon-reload"))
        yield Run(("udevadm", "control", "--reload"))


def _unit_in(root: Path) -> Path:
    return root / "etc/systemd/system" / _UNIT


def _rules_in(root: Path) -> Path:
    return root / "etc/udev/rules.d" / _RULES


def _is_running(root: Path) -> bool:
    return root == Path("/") and Path("/run/systemd/system").is_dir()


def _unit() -> str:
    command = f"{python_command()} -m pykexec.kdump"
    if not command.startswith("/"):  # systemd looks for nothing
        command = f"/usr/bin/{command}"
    return (_TEMPLATES / _UNIT).read_text().replace("@PYKDUMP@", command)
