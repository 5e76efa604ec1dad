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


def invalidate_receipt(machine: Machine) -> None:
    """Remove pykdump's receipt: what is loaded for a crash from now on is another kernel than its own."""
    if not isinstance(machine.root, Folder):
        return
    path = machine.root.path_of(RECEIPT)
    try:
        os.lstat(path)  # a load that is none of pykdump's business changes no file
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        log.warning("%s stays, and pykdump status tells what it says: %s", path, error.strerror)
