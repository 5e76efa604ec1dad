"""Whose the loaded crash kernel is. `pykexec -p -u` asks for it, so that nothing slow is imported here."""

from __future__ import annotations

import os

from pykexec import log
from pykexec.machine.root import Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.machine import Machine

RECEIPT = "run/pykdump/loaded.json"
"""What pykdump says of what it has loaded, below the root."""


def disown(machine: Machine) -> None:
    """What is loaded for a crash from now on is not what pykdump has loaded before."""
    if not isinstance(machine.root, Folder):
        return
    path = machine.root.path_of(RECEIPT)
    if not os.path.exists(path):  # a load that is none of pykdump's business changes no file
        return
    try:
        os.unlink(path)
    except OSError as error:
        log.debug("%s: %s", path, error.strerror)
