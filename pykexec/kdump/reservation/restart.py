"""How a machine is started again so that its boot loader gives the kernel the command line."""

from __future__ import annotations

import re

from pykexec.errors import MachineError
from pykexec.machine.root import Root
from pykexec.machine.sysfs import read_text

REBOOT = "reboot"
_SCRIPTS = ("etc/init.d/kexec-load", "etc/init.d/kexec")
_UNIT, _UNITS = "kexec.service", ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
_DEFAULTS, _SNIPPETS = "etc/default/kexec", "etc/default/kexec.d"


def command(root: Root) -> str:
    """Return the command that does that.

    kexec-tools' init scripts turn a reboot into a kexec with the running kernel's command line (the default
    answer to its question), unless they are to read GRUB's menu; coldreboot goes through the boot loader.
    Debian 12 masks one's unit since kexec-tools 1:2.0.25-3+deb12u1 (https://bugs.debian.org/1028416).
    """
    try:
        keeps_line = _is_true(root, "LOAD_KEXEC") and not _is_true(root, "USE_GRUB_CONFIG")
        return "coldreboot" if keeps_line and _runs_script(root) else REBOOT
    except MachineError:
        return REBOOT


def _runs_script(root: Root) -> bool:
    """Return whether the scripts run that load and start a kernel. Raises MachineError.

    systemd runs no script whose name is a unit's, and a masked unit is one.
    """
    if any(_UNIT in root.names(folder) for folder in _UNITS):
        return False
    return all(read_text(root, path) is not None for path in _SCRIPTS)


def _is_true(root: Root, name: str) -> bool:
    """Return whether kexec-tools' configuration has that set: its scripts compare with this one word.

    Raises MachineError.
    """
    files = [_DEFAULTS, *(f"{_SNIPPETS}/{each}" for each in root.names(_SNIPPETS))]
    text = "\n".join(read_text(root, path) or "" for path in files)
    values = re.findall(rf"""^[ \t]*{name}=["']?(\w*)""", text, re.M)
    return values[-1:] == ["true"]
