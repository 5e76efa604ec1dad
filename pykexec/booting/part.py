"""The part of an architecture that the main path uses: its loader."""

from __future__ import annotations

from pykexec.arch import Arch, for_machine, part
from pykexec.errors import MachineError, UsageError
from pykexec.options import OPTIONS
from pykexec.plan import SPECIAL
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pykexec.machine import Machine
    from pykexec.plan import LoadPlan, Request


@dataclass(frozen=True, slots=True)
class LoaderPart:
    """An architecture's loader (arch/<name>/loader.py)."""

    plan: Callable[[Machine, Request], LoadPlan]
    """Decide what goes where, without side effects. Raises PykexecError."""


def _no_loader(machine: Machine, _: Request) -> LoadPlan:
    raise MachineError(f"no loader for machine type {machine.uname_machine}")


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return the plan that the machine's architecture makes. Raises PykexecError."""
    arch = for_machine(machine)
    _require_honoured(arch, request)
    return part(arch, "loader", LoaderPart(_no_loader)).plan(machine, request)


def _require_honoured(arch: Arch, request: Request) -> None:
    """Raise UsageError for an option that has no meaning on that architecture."""
    options = {option.special: option for option in OPTIONS}
    for name, special in SPECIAL.items():
        option = options[name]
        if name not in arch.honours and request.asks(option):
            what = special.refusal.format(option=option.spelling, arch=arch.name)
            raise UsageError(what, hint=special.hint)
