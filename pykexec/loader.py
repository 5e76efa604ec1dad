"""The main path: a request becomes a plan, a plan is loaded; what is loaded can be unloaded."""

import logging

from pykexec import arch, explain, syscalls
from pykexec.errors import PlacementError
from pykexec.machine import Machine
from pykexec.plan import KEXEC_ON_CRASH, KEXEC_SEGMENT_MAX, LoadPlan, Purpose, Request

log = logging.getLogger(__name__)


def plan_load(machine: Machine, request: Request) -> LoadPlan:
    """Decide what goes where in the memory of `machine`.

    Reads facts and files, changes nothing. Raises PykexecError when the request cannot be fulfilled.
    """
    plan = arch.for_machine(machine).plan(machine, request)
    _check(plan)
    return plan


def load(plan: LoadPlan, machine: Machine) -> None:
    """Hand the plan to the running kernel with kexec_load(2); it replaces what was loaded for that purpose.

    Raises SystemCallError, which says why; what was loaded before then stays loaded.
    """
    log.debug(
        "kexec_load: entry = %#x flags = %#x segments = %d", plan.entry, plan.flags, len(plan.segments)
    )
    try:
        syscalls.kexec_load(plan.entry, plan.segments, plan.flags)
    except OSError as error:
        raise explain.explain_load_failure(error.errno or 0, plan, machine) from error


def unload(purpose: Purpose, machine: Machine) -> None:
    """Forget the kernel loaded for that purpose; nothing happens when there is none.

    Raises SystemCallError.
    """
    flags = KEXEC_ON_CRASH if purpose is Purpose.CRASH else 0
    try:
        syscalls.kexec_unload(flags)
    except OSError as error:
        raise explain.explain_unload_failure(error.errno or 0, purpose, machine) from error


def status(purpose: Purpose, machine: Machine) -> bool | None:
    """Whether a kernel is loaded for that purpose; None when the running kernel does not say."""
    state = machine.kexec_state
    return state.crash_loaded if purpose is Purpose.CRASH else state.loaded


def _check(plan: LoadPlan) -> None:
    """What the running kernel checks too (kernel/kexec_core.c sanity_check_segment_list), with names."""
    if len(plan.segments) > KEXEC_SEGMENT_MAX:
        raise PlacementError(f"{len(plan.segments)} segments; the kernel takes {KEXEC_SEGMENT_MAX} at most")
    for before, after in zip(plan.segments, plan.segments[1:], strict=False):
        if before.range.overlaps(after.range):
            raise PlacementError(
                f"segments overlap: {before.name} {before.range}, {after.name} {after.range}"
            )
