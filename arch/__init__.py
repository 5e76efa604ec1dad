"""Architectures: one folder each, found by name; nothing else in the project knows which there are.

A folder's ``__init__`` defines ``ARCH``, an object with the attributes of `Arch`, and imports its loader
only when that is used.
"""

import importlib
import os
from collections.abc import Sequence
from functools import cache

from pykexec.errors import MachineError
from pykexec.files import FileData
from pykexec.machine import Machine
from pykexec.plan import LoadPlan, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


class Arch(Protocol):
    """What the rest of pykexec asks of an architecture."""

    @property
    def name(self) -> str:
        """The folder's name, which is also the purgatory's."""

    @property
    def machines(self) -> Sequence[str]:
        """What ``uname -m`` says on it."""

    @property
    def formats(self) -> Sequence[str]:
        """The types of kernel that can be loaded, by kexec-tools' names for them (-t)."""

    @property
    def facts(self) -> Sequence[str]:
        """Glob patterns (relative to the root) of the files only this architecture's loader reads."""

    @property
    def hands_device_tree_on(self) -> bool:
        """Whether kernels loaded with kexec_load(2) get the running kernel's device tree, too."""

    def has_file_format(self, kernel: FileData) -> bool:
        """Whether it is in the format that kexec_file_load(2) takes. Raises ImageError for a damaged one."""

    def plan(self, machine: Machine, request: Request) -> LoadPlan:
        """Decide what goes where. Raises PykexecError; has no side effect."""


@cache
def architectures() -> tuple[Arch, ...]:
    """All architectures pykexec can load for, in order of name."""
    folders = [entry for folder in __path__ for entry in os.scandir(folder)]
    names = sorted({each.name for each in folders if _is_package(each.path)})
    return tuple(importlib.import_module(f"{__name__}.{name}").ARCH for name in names)


def _is_package(folder: str) -> bool:
    """Whether it can be imported: an initramfs has the byte code alone."""
    return any(os.path.exists(os.path.join(folder, f"__init__{suffix}")) for suffix in (".py", ".pyc"))


def for_machine(machine: Machine) -> Arch:
    """The architecture of that machine. Raises MachineError for one pykexec has no loader for."""
    for arch in architectures():
        if machine.uname_machine in arch.machines:
            return arch
    known = ", ".join(name for arch in architectures() for name in arch.machines)
    raise MachineError(
        f"no loader for machine type {machine.uname_machine}", hint=f"pykexec can load for: {known}"
    )
