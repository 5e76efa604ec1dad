"""Architectures: one folder each, found by name. A folder is a slice through the program, not a floor.

`ARCH` in a folder's ``__init__`` is data only. What else an architecture knows stands in further files of
its folder, each named for the part of the program that asks (`part`). A folder without ``ARCH`` is shared.
"""

from __future__ import annotations

import importlib
import os

from pykexec import names
from pykexec.errors import MachineError
from pykexec.memory import MIB
from pykexec.uapi import KEXEC_CRASH_HOTPLUG_SUPPORT
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from pykexec.machine import Machine

    P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Arch:
    """An architecture: what it is, as data. Importing it imports nothing else."""

    name: str
    """Its folder's, and its purgatory's; the row of `names` is of the same name."""
    formats: tuple[str, ...]
    """The types of kernel that can be loaded, by kexec-tools' names for them (-t)."""
    honours: frozenset[str] = frozenset()
    """What of `plan.SPECIAL` its loader takes; all else of that is refused before it is asked."""
    facts: tuple[str, ...] = ()
    """Glob patterns (relative to the root) of the files that only this architecture's loader reads."""
    page_sizes: tuple[int, ...] = (4096,)
    """What its kernels may have, in bytes."""
    address_end: int = 1 << 64
    """The first physical address that no segment can have."""
    cma: int | None = None
    """The bytes that distributions' kernels set aside for devices (CMA) by default; None: not known."""
    swiotlb: int | None = None
    """The bytes that kernels reserve for DMA even where all their memory is below 4 GiB; None: not known."""
    running: int = 20 * MIB
    """The bytes that a running kernel takes at least, besides its image: see
    pykexec.kdump.reservation.estimate."""
    hotplug_flag: int = KEXEC_CRASH_HOTPLUG_SUPPORT
    """kexec_load's flag for core headers that the running kernel keeps up to date."""
    hotplug_rewrites: tuple[str, ...] = ("elfcorehdr",)
    """The segments that it keeps up to date then."""

    @property
    def names(self) -> names.ArchNames:
        """All its names, its word size and byte order."""
        return names.named(self.name)

    @property
    def kexec_flag(self) -> int:
        """The high half of kexec_load's flags."""
        return self.names.kexec_flag


def find(uname: str) -> Arch | None:
    """Return the architecture of which `uname -m` says that; None where there is no loader for it."""
    row = names.of_uname(uname)
    return None if row is None else _arch_in(row.name)


def for_machine(machine: Machine) -> Arch:
    """Return the architecture of that machine. Raises MachineError for one that there is no loader for."""
    found = find(machine.uname_machine)
    if found is not None:
        return found
    raise MachineError(
        f"no loader for machine type {machine.uname_machine}",
        hint=f"pykexec can load for: {', '.join(each.name for each in all_architectures())}",
    )


def facts_for(machine: Machine) -> tuple[str, ...]:
    """Return the patterns of what only its architecture's loader reads; none where there is no loader."""
    found = find(machine.uname_machine)
    return () if found is None else found.facts


def facts_of(name: str) -> tuple[str, ...]:
    """Return the same by our name."""
    found = _arch_in(name)
    return () if found is None else found.facts


def all_architectures() -> tuple[Arch, ...]:
    """Return all that there are loaders for, by name: for lists that people read."""
    folders = sorted(entry.name for folder in __path__ for entry in os.scandir(folder) if entry.is_dir())
    return tuple(found for name in folders if (found := _arch_in(name)) is not None)


def part(arch: Arch, kind: str, default: P) -> P:
    """Return `PART` of that architecture's file for that kind of question, of the type that `default` has.

    `default` where there is no such file: it says "cannot tell", never "fine".
    """
    return part_of(arch.name, kind, default)


def part_of(name: str, kind: str, default: P) -> P:
    """Return the same by our name: there may be no loader, as for the machine of a foreign dump.

    `default` for a name that `names` does not have, as where a snapshot tells of an unknown machine.
    """
    module = _module(f"{name}.{kind}") if any(row.name == name for row in names.ALL) else None
    return default if module is None else module.PART  # type: ignore[attr-defined]


def _arch_in(folder: str) -> Arch | None:
    return getattr(_module(folder), "ARCH", None) if folder.isidentifier() else None


def _module(name: str) -> object | None:
    full = f"{__name__}.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if not f"{full}.".startswith(f"{error.name}."):  # something that it needs is missing
            raise
        return None
