"""Packages: versions of those that are installed, and what distributions call those that kdump needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pykexec.distribution import Family, family

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


@dataclass(frozen=True, slots=True)
class Manager:
    """A distribution's package manager, and its packages that are not called as the program they have."""

    install: tuple[str, ...]
    """The command that installs the packages named after it, without questions."""
    remove: tuple[str, ...]
    """The command that removes them, and refuses where other packages need them."""
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def package(self, program: str) -> str:
        """Return the package that has a program."""
        return self.names.get(program, program)


_APT = Manager(
    # makedumpfile recommends kexec-tools, which may change what a reboot does.
    ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--no-install-recommends", "--yes"),
    ("dpkg", "--remove"),
    MappingProxyType({"ssh": "openssh-client", "fence_kdump_send": "fence-agents"}),
)
_RPM_NAMES = MappingProxyType({"ssh": "openssh-clients", "fence_kdump_send": "fence-agents-kdump"})
_DNF = Manager(("dnf", "install", "--assumeyes"), ("rpm", "--erase"), _RPM_NAMES)
_ZYPPER = Manager(("zypper", "--non-interactive", "install"), ("rpm", "--erase"), _RPM_NAMES)
# Fedora 40 and RHEL 10 made makedumpfile a package of its own.
_DNF_BEFORE = Manager(
    _DNF.install, _DNF.remove, MappingProxyType({**_RPM_NAMES, "makedumpfile": "kexec-tools"})
)
_WITH_KEXEC_TOOLS = {"rhel": 10, "centos": 10, "rocky": 10, "almalinux": 10, "ol": 10, "fedora": 40}
"""The first version of each distribution whose kexec-tools has no makedumpfile."""


def manager(release: Mapping[str, str], has: Callable[[str], bool]) -> Manager | None:
    """Return the package manager of a system; None for one that is not known.

    `release` has the settings of os-release(5); `has` tells whether there is a program of some name.
    """
    system, of = release.get("ID", ""), family(release)
    if of is Family.DEBIAN and has("apt-get"):
        return _APT
    if of is Family.SUSE and has("zypper"):
        return _ZYPPER
    if not has("dnf"):
        return None
    major = release.get("VERSION_ID", "").partition(".")[0]
    is_before = major.isdecimal() and int(major) < _WITH_KEXEC_TOOLS.get(system, 0)
    return _DNF_BEFORE if is_before or system == "openEuler" else _DNF
