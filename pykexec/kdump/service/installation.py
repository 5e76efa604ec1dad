"""The service as systemd and udev know it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pykexec.integration.install import python_command
from pykexec.integration.steps import Run, Step, Write

_TEMPLATES = Path(__file__).with_name("systemd")
_UNIT, _RULES = "pykdump.service", "98-pykdump.rules"


def steps(root: Path) -> Iterator[Step]:
    """What installs it; in another root nothing is told to systemd and udev. Raises PykexecError."""
    yield Write(root / "etc/systemd/system" / _UNIT, _unit(), executable=False)
    yield Write(root / "etc/udev/rules.d" / _RULES, (_TEMPLATES / _RULES).read_text(), executable=False)
    if root == Path("/") and Path("/run/systemd/system").is_dir():
        yield Run(("systemctl", "daemon-reload"))
        yield Run(("udevadm", "control", "--reload"))


def _unit() -> str:
    command = f"{python_command()} -m pykexec.kdump"
    if not command.startswith("/"):  # systemd looks for nothing
        command = f"/usr/bin/{command}"
    return (_TEMPLATES / _UNIT).read_text().replace("@PYKDUMP@", command)
