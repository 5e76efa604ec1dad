"""How a machine is started again so that its boot loader gives the kernel the command line."""

from __future__ import annotations

import re

from pykexec.errors import MachineError
from pykexec.machine.root import Root
from pykexec.machine.sysfs import read_text

REBOOT = "reboot"
_SCRIPT, _DEFAULTS, _SNIPPETS = "etc/init.d/kexec-load", "etc/default/kexec", "etc/default/kexec.d"


def command(root: Root) -> str:
    """Return the command that does that.

    The kexec-tools of Debian 12 and before turn a reboot into a kexec with the running kernel's command line
    (the default answer to their question), unless they are to read GRUB's menu. Their coldreboot goes
    through the boot loader.
    """
    try:
        keeps_line = _is_true(root, "LOAD_KEXEC") and not _is_true(root, "USE_GRUB_CONFIG")
        return "coldreboot" if keeps_line and read_text(root, _SCRIPT) is not None else REBOOT
    except MachineError:
        return REBOOT


def _is_true(root: Root, name: str) -> bool:
    """Return whether kexec-tools' configuration has that set: its scripts compare with this one word.

    Raises MachineError.
    """
    files = [_DEFAULTS, *(f"{_SNIPPETS}/{each}" for each in root.names(_SNIPPETS))]
    text = "\n".join(read_text(root, path) or "" for path in files)
    values = re.findall(rf"""^[ \t]*{name}=["']?(\w*)""", text, re.M)
    return values[-1:] == ["true"]
