"""Who has loaded the crash kernel. `pykexec -p -u` needs this, so nothing slow is imported here."""

from __future__ import annotations

import os

from pykexec import log
from pykexec.machine.root import Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.machine import Machine

RECEIPT = "run/pykdump/loaded.json"
"""The file, below the root, in which pykdump says what it has loaded."""


def invalidate_receipt(machine: Machine) -> None:
    """Remove pykdump's receipt: from now on another kernel than pykdump's is loaded for a crash."""
    if not isinstance(machine.root, Folder):
        return
    path = machine.root.path_of(RECEIPT)
    try:
        os.lstat(path)  # a load that does not concern pykdump changes no file
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        log.warning("%s stays, and pykdump status tells what it says: %s", path, error.strerror)
