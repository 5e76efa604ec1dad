"""What the main path asks of an architecture: a plan."""

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
    """Decide what goes where. Raises PykexecError; has no side effect."""


def _no_loader(machine: Machine, _: Request) -> LoadPlan:
    raise MachineError(f"no loader for machine type {machine.uname_machine}")


def plan(machine: Machine, request: Request) -> LoadPlan:
    """Return the plan of the machine's architecture. Raises PykexecError."""
    arch = for_machine(machine)
    _require_honoured(arch, request)
    return part(arch, "loader", LoaderPart(_no_loader)).plan(machine, request)


def _require_honoured(arch: Arch, request: Request) -> None:
    """Raises UsageError for what is asked for and has no meaning on that architecture."""
    options = {option.special: option for option in OPTIONS}
    for name, special in SPECIAL.items():
        option = options[name]
        if name not in arch.honours and request.asks(option):
            what = special.refusal.format(option=option.spelling, arch=arch.name)
            raise UsageError(what, hint=special.hint)
