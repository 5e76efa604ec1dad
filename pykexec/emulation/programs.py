"""QEMU's programs: where they are, and the packages that have those that are missing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

from pykexec import names
from pykexec.distribution import Family, family
from pykexec.emulation.errors import EmulationError
from pykexec.emulation.part import Emulation, Packages

_RHEL_PROGRAM, _RHEL_PACKAGE = "/usr/libexec/qemu-kvm", "qemu-kvm-core"
"""RHEL has QEMU for its own architecture alone, and not in PATH."""


def program(emulation: Emulation) -> tuple[str, ...]:
    """Return the command that starts the QEMU of an architecture.

    Raises EmulationError where it is not installed, with the package that has it.
    """
    found = shutil.which(emulation.command)
    if found is not None:
        return (found,)
    native = is_native(emulation, os.uname().machine)
    if native and os.access(_RHEL_PROGRAM, os.X_OK):
        return (_RHEL_PROGRAM,)
    raise missing(emulation, _release(), native=native)


def firmware(emulation: Emulation) -> Path | None:
    """Return the firmware that a machine starts with; None for QEMU's own.

    Raises EmulationError where it is not installed, with the package that has it.
    """
    wanted = emulation.firmware
    if wanted is None:
        return None
    found = next((each for each in map(Path, wanted.paths) if each.is_file()), None)
    if found is None:
        package = package_name(wanted.packages, family(_release()))
        install = f"install the package {package}" if package else f"it is {' or '.join(wanted.paths)}"
        raise EmulationError("the UEFI firmware is missing that the machine starts with", hint=install)
    return found


def missing(emulation: Emulation, release: Mapping[str, str], *, native: bool) -> EmulationError:
    """Return the error for a program that a system does not have; `release` is its os-release(5)."""
    of = family(release)
    if of is Family.RHEL:
        package = _RHEL_PACKAGE if native else None
    else:
        package = package_name(emulation.packages, of)
    hint = f"install the package {package}" if package else "install the package of QEMU that has it"
    return EmulationError(f"there is no {emulation.command}, which emulates the machine", hint=hint)


def package_name(packages: Packages, of: Family | None) -> str | None:
    """Return what a distribution of that family calls the package; None where that is not known."""
    known = {
        Family.DEBIAN: packages.debian,
        Family.FEDORA: packages.fedora,
        Family.RHEL: packages.fedora,
        Family.SUSE: packages.suse,
    }
    return None if of is None else known[of]


def is_native(emulation: Emulation, machine: str) -> bool:
    """Tell whether a processor of which `uname -m` says that can be such a machine's own."""
    row = names.of_uname(machine)
    return row is not None and emulation.kvm is not None and row.name in emulation.kvm.hosts


def _release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}
