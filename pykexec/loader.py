"""The main path: a request becomes a plan, a plan is loaded; what is loaded can be unloaded.

Functions import what they need, so that unloading does not pay for the planner.
"""

from __future__ import annotations

import errno

from pykexec import log
from pykexec.errors import FileLoadUnavailable, PlacementError, PykexecError
from pykexec.purpose import Purpose
from pykexec.uapi import KEXEC_FILE_ON_CRASH, KEXEC_ON_CRASH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pykexec.machine import Machine
    from pykexec.plan import FileLoadPlan, LoadPlan, Request


def plan_load(machine: Machine, request: Request) -> LoadPlan:
    """Decide what goes where in the memory of `machine`, for kexec_load(2).

    Reads facts and files, changes nothing. Raises PykexecError when the request cannot be fulfilled.
    """
    return _plan_load(machine, _resolved(machine, request))


def load(plan: FileLoadPlan | LoadPlan, machine: Machine) -> None:
    """Hand the plan to the running kernel by the system call that it is for.

    Raises SystemCallError, which says why; FileLoadUnavailable where kexec_load(2) may do what
    kexec_file_load(2) did not. A kernel loaded before for a boot then stays loaded; one for a crash may be
    gone: the running kernel frees it before it looks at the segments. Raises PykexecError where one of the
    plan's files has changed meanwhile.
    """
    from pykexec.plan import LoadPlan

    if isinstance(plan, LoadPlan):
        _load_segments(plan, machine)
    else:
        _load_files(plan, machine)
    _require_unchanged(plan, machine)


def _load_segments(plan: LoadPlan, machine: Machine) -> None:
    from pykexec import syscalls

    log.debug("kexec_load: entry = %#x flags = %#x", plan.entry, plan.flags)
    try:
        syscalls.kexec_load(plan.entry, plan.segments, plan.flags)
    except OSError as error:
        from pykexec import explain

        _tell_segments(plan)
        raise explain.explain_load_failure(error.errno or 0, plan, machine) from error


def _load_files(plan: FileLoadPlan, machine: Machine) -> None:
    from pykexec import kexec_file

    try:
        kexec_file.load(plan)
    except OSError as error:
        from pykexec import explain

        raise explain.explain_file_load_failure(error.errno or 0, plan, machine) from error


def _require_unchanged(plan: FileLoadPlan | LoadPlan, machine: Machine) -> None:
    """Unload what was made of a file that was written anew meanwhile: half old, half new.

    Purgatory would refuse to start it. Raises PykexecError, where there is such a file.
    """
    for file in plan.files:
        if not file.has_changed:
            continue
        changed = f"{file.path} changed while it was being loaded"
        try:
            unload(plan.purpose, machine)
        except PykexecError as error:
            hint = "do not start it; " + (error.hint or "unload it")
            raise PykexecError(f"{changed} and stays loaded, damaged: {error.what}", hint=hint) from error
        raise PykexecError(f"{changed}; nothing is loaded now", hint="load it again")


def _tell_segments(plan: LoadPlan) -> None:
    """Tell each segment, as the C tool does after a refusal."""
    log.debug("entry       = %#x flags = %#x", plan.entry, plan.flags)
    log.debug("nr_segments = %d", len(plan.segments))
    for index, segment in enumerate(plan.segments):
        log.debug("segment[%d].buf   = %s", index, segment.name)
        log.debug("segment[%d].bufsz = %#x", index, segment.data.nbytes)
        log.debug("segment[%d].mem   = %#x", index, segment.address)
        log.debug("segment[%d].memsz = %#x", index, segment.memsz)


def plan(machine: Machine, request: Request, system_call: str = "auto") -> FileLoadPlan | LoadPlan:
    """Return the plan to show, of what `load_request` would do.

    With "auto" that is the one for kexec_load(2), which says where everything would go, unless only
    kexec_file_load(2) can do it; its `tried_first` says what comes before it. Raises PykexecError.
    """
    request = _resolved(machine, request)
    if system_call == "load":
        return _plan_load(machine, request)
    from pykexec import kexec_file
    from pykexec.values import replace

    files = _first_try(machine, request, system_call)
    if files is None:
        return _plan_load(machine, request)
    doubts = kexec_file.doubts(machine, files.kernel)
    files = replace(files, warnings=(*files.warnings, *doubts))
    if system_call == "file" or _file_load_only(machine, request):
        return files
    try:
        # Where it will be refused, what kexec_load loses is lost.
        return _plan_load(machine, request, tried_first="kexec_file_load", says_losses=bool(doubts))
    except PlacementError as error:
        if doubts:
            raise
        other = f"should the running kernel refuse it, kexec_load cannot do it: {error.what}"
        return replace(files, warnings=(*files.warnings, other))


def _first_try(machine: Machine, request: Request, system_call: str) -> FileLoadPlan | None:
    """Return the plan for kexec_file_load(2); None where kexec_load(2) is called at once.

    Raises PykexecError.
    """
    from pykexec import kexec_file

    if system_call == "load":
        return None
    if system_call == "auto" and (unfit := kexec_file.unfit(request)):
        log.debug("kexec_load it is: kexec_file_load cannot honour %s", ", ".join(unfit))
        return None
    try:
        return kexec_file.plan(machine, request)
    except FileLoadUnavailable as error:
        if system_call == "file" or _file_load_only(machine, request):
            raise
        log.debug("%s; %s", error.what, error.hint)
        return None


def load_request(
    machine: Machine,
    request: Request,
    system_call: str = "auto",
    announce: Callable[[FileLoadPlan | LoadPlan], None] | None = None,
) -> FileLoadPlan | LoadPlan:
    """Plan and load in one go. Return the plan that was used, which `announce` sees before it is loaded.

    `system_call` is "file" (kexec_file_load), "load" (kexec_load) or "auto": the second where the first
    cannot. Raises PykexecError.
    """
    had_one = request.purpose is Purpose.CRASH and status(request.purpose, machine)
    try:
        resolved = _resolved(machine, request)
        return _load_resolved(machine, resolved, system_call, announce or (lambda plan: None))
    except PykexecError as error:
        if had_one and status(request.purpose, machine) is False:
            lost = "the crash kernel that was loaded before is lost, load it again"
            error.hint = f"{error.hint}; {lost}" if error.hint else lost
        raise


def _load_resolved(
    machine: Machine, request: Request, system_call: str, announce: Callable[[FileLoadPlan | LoadPlan], None]
) -> FileLoadPlan | LoadPlan:
    files = _first_try(machine, request, system_call)
    if files is not None:
        announce(files)
        try:
            load(files, machine)
            return files
        except FileLoadUnavailable as error:
            if system_call == "file" or _file_load_only(machine, request):
                raise
            log.debug("%s; %s", error.what, error.hint)
    segments = _plan_load(machine, request)
    announce(segments)
    load(segments, machine)
    return segments


def _resolved(machine: Machine, request: Request) -> Request:
    """Return the request as the loaders take it: plain files, and what is to be said of them."""
    if request.jump_back is not None:  # which takes no files
        return request
    from pykexec import checks

    if not checks.is_plain(machine, request):
        from pykexec import resolve

        request = resolve.resolve(machine, request)
    warnings = checks.warnings(machine, request)
    if not warnings:
        return request
    from pykexec.values import replace

    return replace(request, warnings=(*request.warnings, *warnings))


def _plan_load(
    machine: Machine, request: Request, *, tried_first: str | None = None, says_losses: bool = True
) -> LoadPlan:
    """Return the plan for kexec_load(2); it warns of what that loses, or has it in `losses`."""
    from pykexec.booting import part

    _keep_handover(machine, request.purpose)
    try:
        plan = part.plan(machine, request)
    except PlacementError as error:
        error.hint = error.hint or _room_for(request, error.missing)
        raise
    _check(plan, machine)
    losses = plan.losses
    if request.purpose is Purpose.BOOT and machine.has_handover:
        losses = (*losses, "state kept by KHO, if any,")
    warnings = (*plan.warnings, *request.warnings)
    if says_losses:
        told = (f"{what} will not be handed on: that takes kexec_file_load (-s)" for what in losses)
        warnings, losses = (*warnings, *told), ()
    from pykexec.values import replace

    return replace(
        plan,
        warnings=warnings,
        losses=losses,
        tried_first=tried_first,
        taken=request.taken,
        files=request.files,
    )


def _room_for(request: Request, missing: int) -> str:
    """Return what to do about a segment that found no place."""
    from pykexec.plan import ADDRESS_SPACE

    small = f"{missing:#x} bytes too small" if missing else "too small as it is divided"
    if request.within != ADDRESS_SPACE:
        return f"what --mem-min and --mem-max leave is {small}"
    if request.purpose is Purpose.CRASH:
        return f"the reservation is {small}; raise crashkernel=, or take a smaller initrd"
    return f"the largest piece of free memory is {small}; take a smaller initrd, or try -s"


def unload(purpose: Purpose, machine: Machine, *, system_call: str = "auto") -> None:
    """Forget the kernel loaded for that purpose; nothing happens when there is none.

    `system_call` is "file" (kexec_file_load), "load" (kexec_load) or "auto": the second where the first is
    missing. Raises SystemCallError.
    """
    from pykexec import names, syscalls

    crash = purpose is Purpose.CRASH
    kernel = names.of_uname(machine.uname_machine)
    # Without it a 64-bit kernel refuses 32-bit processes (kernel/kexec.c, compat_sys_kexec_load()).
    arch_flag = 0 if kernel is None else kernel.kexec_flag
    try:
        if system_call != "load":
            try:
                return syscalls.kexec_file_unload(KEXEC_FILE_ON_CRASH if crash else 0)
            except OSError as error:
                if error.errno != errno.ENOSYS or system_call == "file":
                    raise
        syscalls.kexec_unload(arch_flag | (KEXEC_ON_CRASH if crash else 0))
    except OSError as error:
        from pykexec import explain

        raise explain.explain_unload_failure(error.errno or 0, purpose, machine) from error


def status(purpose: Purpose, machine: Machine) -> bool | None:
    """Return whether a kernel is loaded for that purpose; None when the running kernel does not say."""
    state = machine.kexec_state
    return state.crash_loaded if purpose is Purpose.CRASH else state.loaded


def drops_state(machine: Machine, purpose: Purpose) -> bool:
    """Return whether the running kernel keeps state for the next one (KHO): kexec_load(2) would drop it."""
    return purpose is Purpose.BOOT and machine.keeps_state


def _file_load_only(machine: Machine, request: Request) -> bool:
    """Return whether kexec_load(2) would lose something that was asked for."""
    from pykexec import arch

    forced = request.force_dtb and "force_dtb" not in arch.for_machine(machine).honours
    return forced or drops_state(machine, request.purpose)


def _keep_handover(machine: Machine, purpose: Purpose) -> None:
    if drops_state(machine, purpose):
        how = "liveupdate=on" if machine.has_live_update else "kho=on"
        raise PykexecError(
            f"the running kernel hands state over to the next one ({how}), which kexec_load would drop",
            hint=f"use kexec_file_load: leave out -c and what needs it, or boot without {how}",
        )


def _check(plan: LoadPlan, machine: Machine) -> None:
    """Refuse what the running kernel would refuse. Raises PlacementError."""
    from pykexec import arch
    from pykexec.booting import segmentcheck

    for each in segmentcheck.refusals(plan, segmentcheck.limits(machine, arch.for_machine(machine))):
        raise PlacementError(each.what)
