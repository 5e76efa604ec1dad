"""Which distribution a system is of, as far as it matters for what its packages are called."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Family(enum.Enum):
    """Distributions whose packages have the same names."""

    DEBIAN = enum.auto()
    FEDORA = enum.auto()
    RHEL = enum.auto()
    SUSE = enum.auto()


_NAMES = {
    "debian": Family.DEBIAN,
    "ubuntu": Family.DEBIAN,
    "rhel": Family.RHEL,
    "centos": Family.RHEL,
    "almalinux": Family.RHEL,
    "ol": Family.RHEL,
    "rocky": Family.RHEL,
    "fedora": Family.FEDORA,
    "sles": Family.SUSE,
}
"""What distributions call themselves, or say that they are like; the first one that fits counts."""


def family(release: Mapping[str, str]) -> Family | None:
    """Return the family of a system by its settings of os-release(5); None where that is not known."""
    called = (release.get("ID", ""), *release.get("ID_LIKE", "").split())
    if any(each.startswith(("suse", "opensuse")) for each in called):
        return Family.SUSE
    return next((found for name, found in _NAMES.items() if name in called), None)
