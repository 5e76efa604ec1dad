"""Versions of installed packages."""

from __future__ import annotations

import re

DPKG_STATUS = "var/lib/dpkg/status"
_ENTRY_MAX = 4000


def debian_version(status: str, package: str) -> str | None:
    """Return a package's version from dpkg's status file; None where the package is not installed."""
    at = re.search(rf"^Package: {re.escape(package)}$", status, re.M)
    if at is None:
        return None
    entry = status[at.start() : at.start() + _ENTRY_MAX].partition("\n\n")[0]
    version = re.search(r"^Version: (\S{1,100})$", entry, re.M)
    if version is None or "\nStatus: install ok installed" not in entry:
        return None
    return version[1]
