"""What the errno of a refused system call means on this machine: the cause, looked up, and the remedy.

The first line of each error is the C tool's, which scripts know; the second says why and what to do.
"""

import errno as e
import os
from collections.abc import Callable, Iterator
from itertools import combinations

from pykexec.errors import MachineError, SystemCallError
from pykexec.machine import Machine
from pykexec.memory import Range
from pykexec.plan import KEXEC_ON_CRASH, KEXEC_SEGMENT_MAX, LoadPlan, Purpose

_CAP_SYS_BOOT = 22  # include/uapi/linux/capability.h
_SECCOMP_MODE_FILTER = "2"  # include/uapi/linux/seccomp.h
_KEXEC_ARCH_MASK = 0xFFFF0000  # include/uapi/linux/kexec.h

_SECCOMP = (
    "a seccomp filter is on this process, as in a container or a confined service; run pykexec on the host"
)
_BUSY = (
    "another load is going on, or the crash reservation is being resized"
    " (kexec_crash_size in sysfs); try again"
)


def explain_load_failure(errno: int, plan: LoadPlan, machine: Machine) -> SystemCallError:
    """Why kexec_load(2) refused that plan on that machine."""
    causes: dict[int, Callable[[], Iterator[str]]] = {
        e.EPERM: lambda: _not_permitted(plan.purpose, machine),
        e.EACCES: _not_appraised,
        e.EADDRNOTAVAIL: lambda: _unusable_addresses(plan, machine),
        e.EBUSY: lambda: iter([_BUSY]),
        e.EINVAL: lambda: _invalid(plan, machine),
        e.ENOMEM: lambda: _no_memory(plan),
        e.ENOSYS: lambda: _no_system_call("kexec_load", machine),
    }
    return _error("kexec_load failed", errno, causes)


def explain_unload_failure(errno: int, purpose: Purpose, machine: Machine) -> SystemCallError:
    """Why kexec_load(2) with no segments refused to unload what was loaded for that purpose."""
    causes: dict[int, Callable[[], Iterator[str]]] = {
        e.EPERM: lambda: _not_permitted(purpose, machine),
        e.EACCES: _not_appraised,
        e.EBUSY: lambda: iter([_BUSY]),
        e.ENOSYS: lambda: _no_system_call("kexec_load", machine),
    }
    return _error("kexec unload failed", errno, causes)


def explain_exec_failure(errno: int, machine: Machine) -> SystemCallError:
    """Why reboot(2) did not jump into the loaded kernel."""
    causes: dict[int, Callable[[], Iterator[str]]] = {
        e.EPERM: lambda: _unprivileged(machine),
        e.EBUSY: lambda: iter([_BUSY]),
        e.EINVAL: lambda: _cannot_jump(machine),
        e.ENOSYS: lambda: _no_system_call("reboot", machine),
    }
    return _error("kexec failed", errno, causes)


def may_boot(machine: Machine) -> bool:
    """Whether this process has CAP_SYS_BOOT, without which the kernel refuses all of kexec."""
    capabilities = _process_status(machine).get("CapEff")
    if capabilities is None:
        return os.geteuid() == 0
    return bool(int(capabilities, 16) >> _CAP_SYS_BOOT & 1)


def _error(call: str, errno: int, causes: dict[int, Callable[[], Iterator[str]]]) -> SystemCallError:
    cause = None
    if errno in causes:
        try:
            cause = next(causes[errno](), None)
        except MachineError:  # evidence that cannot be read must not hide the error itself
            cause = None
    return SystemCallError(f"{call}: {os.strerror(errno)}", errno=errno, hint=cause)


def _not_permitted(purpose: Purpose, machine: Machine) -> Iterator[str]:
    yield from _unprivileged(machine)
    state = machine.kexec_state
    if state.load_disabled:
        yield (
            "the sysctl kernel.kexec_load_disabled is 1; it stays so until a reboot:"
            " look in /etc/sysctl.d for what sets it"
        )
    if state.lockdown not in (None, "none"):
        yield (
            f"the kernel is locked down ({state.lockdown}, as with Secure Boot) and takes signed kernels only,"
            " through kexec_file_load; turn off Secure Boot, or remove lockdown= from the kernel command line"
        )
    crash = purpose is Purpose.CRASH
    limit = state.load_limit_panic if crash else state.load_limit_reboot
    if limit == 0:
        yield (
            f"the sysctl kernel.kexec_load_limit_{'panic' if crash else 'reboot'} is 0:"
            " no further load is allowed until a reboot"
        )
    if _is_filtered(machine):
        yield _SECCOMP
    yield "a security module may forbid it; look at the kernel log and the audit log"


def _unprivileged(machine: Machine) -> Iterator[str]:
    if may_boot(machine):
        return
    if os.geteuid() == 0:
        yield "root here lacks CAP_SYS_BOOT, as in a container; run pykexec on the host"
    else:
        yield "CAP_SYS_BOOT is missing; run pykexec as root"


def _not_appraised() -> Iterator[str]:
    # security/integrity/ima/ima_main.c, ima_load_data(): kexec_load has no file that could carry a signature.
    yield (
        "the IMA policy or Secure Boot demands a signed kernel, which kexec_load cannot pass on;"
        " the kernel log says more"
    )


def _unusable_addresses(plan: LoadPlan, machine: Machine) -> Iterator[str]:
    for segment in plan.segments:
        if segment.address % machine.page_size or segment.memsz % machine.page_size:
            yield f"segment {segment.name} {segment.range} is not made of whole pages of {machine.page_size}"
    if plan.purpose is Purpose.BOOT:
        return
    region = _load_region(machine)
    if region is None:
        yield "no memory is reserved for a crash kernel; boot with crashkernel=SIZE on the kernel command line"
        return
    for segment in plan.segments:
        if not region.covers(segment.range):
            yield f"segment {segment.name} {segment.range} is outside of the reservation {region}"
    if plan.entry not in region:
        yield f"the entry point {plan.entry:#x} is outside of the reservation {region}"
    yield f"the reservation is no longer {region}; load again"


def _load_region(machine: Machine) -> Range | None:
    """The one reservation that takes segments (crashk_res): the highest, of which sysfs tells the size.

    It may have been shrunk since /proc/iomem was read; it keeps its start.
    """
    regions = machine.iomem.crash_regions
    size = machine.kexec_state.crash_size
    if not regions or size == 0:
        return None
    return regions[-1] if size is None else Range.sized(regions[-1].start, size)


def _invalid(plan: LoadPlan, machine: Machine) -> Iterator[str]:
    """The reasons in kernel/kexec.c and sanity_check_segment_list() in kernel/kexec_core.c."""
    if len(plan.segments) > KEXEC_SEGMENT_MAX:
        yield f"{len(plan.segments)} segments; the kernel takes {KEXEC_SEGMENT_MAX} at most"
    for one, other in combinations(plan.segments, 2):
        if one.range.overlaps(other.range):
            yield f"segments overlap: {one.name} {one.range}, {other.name} {other.range}"
    for segment in plan.segments:
        if segment.data.nbytes > segment.memsz:
            yield f"segment {segment.name} has {segment.data.nbytes} bytes for a place of {segment.memsz}"
    if unknown := plan.flags & ~_KEXEC_ARCH_MASK & ~KEXEC_ON_CRASH:
        yield f"the running kernel may not know the flags {unknown:#x}"
    wanted = sum(segment.memsz for segment in plan.segments)
    memory = machine.iomem.system_ram.size
    if wanted > memory // 2:
        yield f"the segments take {wanted:#x} bytes; the kernel allows half of its {memory:#x} at most"
    yield (
        f"the running kernel ({machine.uname_machine}) does not take flags {plan.flags:#x},"
        f" or less than {wanted:#x} bytes"
    )


def _no_memory(plan: LoadPlan) -> Iterator[str]:
    wanted = sum(segment.memsz for segment in plan.segments)
    if plan.purpose is Purpose.CRASH:
        # kernel/kexec_core.c, kimage_alloc_crash_control_pages(): they lie in the reservation, too.
        yield (
            f"the segments take {wanted:#x} bytes and leave the kernel too little of the reservation"
            " for pages of its own; raise crashkernel="
        )
    yield f"the kernel has no {wanted:#x} bytes free for the segments; free some memory, or take a smaller initrd"


def _no_system_call(name: str, machine: Machine) -> Iterator[str]:
    if _is_filtered(machine):
        yield _SECCOMP
    option = "CONFIG_KEXEC" if name == "kexec_load" else "CONFIG_KEXEC_CORE"
    yield f"the running kernel is built without {option}; take one that has it"


def _cannot_jump(machine: Machine) -> Iterator[str]:
    # kernel/reboot.c, kernel/pid_namespace.c: a PID namespace other than the first knows no kexec.
    if machine.kexec_state.loaded:
        yield "pykexec runs in a PID namespace of its own (a container?), or the kernel has no kexec"
    yield "no kernel is loaded; load one with pykexec -l first"


def _is_filtered(machine: Machine) -> bool:
    return _process_status(machine).get("Seccomp") == _SECCOMP_MODE_FILTER


def _process_status(machine: Machine) -> dict[str, str]:
    """/proc/self/status (proc_pid_status(5)); empty where it cannot be read."""
    try:
        text = (machine.read("proc/self/status") or b"").decode("utf-8", "replace")
    except MachineError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
