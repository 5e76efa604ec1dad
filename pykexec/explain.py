"""What the errno of a refused system call means on this machine: the cause, looked up, and the remedy.

The first line of each error is the C tool's, which scripts know; the second says why and what to do.
"""

import errno as e
import os
from collections.abc import Iterator, Mapping
from itertools import combinations

from pykexec.errors import MachineError, SystemCallError
from pykexec.machine import Machine
from pykexec.memory import Range
from pykexec.plan import KEXEC_ON_CRASH, KEXEC_SEGMENT_MAX, LoadPlan, Purpose

_CAP_SYS_BOOT = 22  # include/uapi/linux/capability.h
_SECCOMP_MODE_FILTER = "2"  # include/uapi/linux/seccomp.h
_KEXEC_ARCH_MASK = 0xFFFF0000  # include/uapi/linux/kexec.h

_INITIAL_UID_MAP = ["0", "0", str((1 << 32) - 1)]  # user_namespaces(7)


def explain_load_failure(errno: int, plan: LoadPlan, machine: Machine) -> SystemCallError:
    """Why kexec_load(2) refused that plan on that machine."""
    causes = {
        e.EPERM: _not_permitted(plan.purpose, machine),
        e.EACCES: _not_appraised(),
        e.EADDRNOTAVAIL: _unusable_addresses(plan, machine),
        e.EBUSY: _busy(),
        e.EINVAL: _invalid(plan, machine),
        e.ENOMEM: _no_memory(plan),
        e.ENOSYS: _no_system_call(machine),
    }
    return _error("kexec_load failed", errno, causes)


def explain_unload_failure(errno: int, purpose: Purpose, machine: Machine) -> SystemCallError:
    """Why kexec_load(2) with no segments refused to unload what was loaded for that purpose."""
    causes = {
        e.EPERM: _not_permitted(purpose, machine),
        e.EACCES: _not_appraised(),
        e.EBUSY: _busy(),
        e.ENOSYS: _no_system_call(machine),
    }
    return _error("kexec unload failed", errno, causes)


def explain_execute_failure(errno: int, machine: Machine) -> SystemCallError:
    """Why reboot(2) did not jump into the loaded kernel."""
    causes = {
        e.EPERM: _not_privileged(machine),
        e.EBUSY: _busy(),
        e.EINVAL: _cannot_jump(machine),
        e.ENOSYS: _no_system_call(machine),
    }
    return _error("kexec failed", errno, causes)


def may_boot(machine: Machine) -> bool:
    """Whether this process has CAP_SYS_BOOT (and not only in a user namespace), which all of kexec needs."""
    capabilities = _process_status(machine).get("CapEff")
    if capabilities is None:
        return os.geteuid() == 0
    owns_ids = _text(machine, "proc/self/uid_map").split() in ([], _INITIAL_UID_MAP)
    return owns_ids and bool(int(capabilities, 16) >> _CAP_SYS_BOOT & 1)


def _error(call: str, errno: int, causes: Mapping[int, Iterator[str]]) -> SystemCallError:
    try:
        cause = next(causes.get(errno, iter(())), None)
    except MachineError:  # evidence that cannot be read must not hide the error itself
        cause = None
    return SystemCallError(f"{call}: {os.strerror(errno)}", errno=errno, hint=cause)


# Each of these yields what may be the cause, the most certain first. Only as far as the first one is looked.


def _not_permitted(purpose: Purpose, machine: Machine) -> Iterator[str]:
    yield from _not_privileged(machine)
    state = machine.kexec_state
    if state.load_disabled:
        yield (
            "the sysctl kernel.kexec_load_disabled is 1; it stays so until a reboot:"
            " look in /etc/sysctl.d for what sets it"
        )
    if state.lockdown not in (None, "none"):
        yield (
            f"the kernel is locked down ({state.lockdown}, as with Secure Boot) and refuses kexec_load;"
            " turn off Secure Boot, or remove lockdown= from the kernel command line"
        )
    crash = purpose is Purpose.CRASH
    limit = state.load_limit_panic if crash else state.load_limit_reboot
    if limit == 0:
        yield (
            f"the sysctl kernel.kexec_load_limit_{'panic' if crash else 'reboot'} is 0:"
            " no further load is allowed until a reboot"
        )
    yield from _filtered(machine)
    yield "a security module may forbid it; look at the kernel log and the audit log"


def _not_privileged(machine: Machine) -> Iterator[str]:
    if may_boot(machine):
        return
    if os.geteuid() == 0:
        yield "root lacks CAP_SYS_BOOT here, as in a container; run pykexec on the host"
    else:
        yield "CAP_SYS_BOOT is missing; run pykexec as root"


def _not_appraised() -> Iterator[str]:
    # security/integrity/ima/ima_main.c, ima_load_data(): kexec_load has no file to carry a signature.
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
        yield "no memory is reserved for a crash kernel; boot with crashkernel=SIZE"
        return
    for segment in plan.segments:
        if not region.covers(segment.range):
            yield f"segment {segment.name} {segment.range} is outside of the reservation {region}"
    if plan.entry not in region:
        yield f"the entry point {plan.entry:#x} is outside of the reservation {region}"
    yield f"the reservation is {region} now; it may have changed meanwhile, load again"


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
        yield f"the running kernel does not know flags {unknown:#x}"
    wanted = sum(segment.memsz for segment in plan.segments)
    memory = machine.iomem.system_ram.size
    if wanted > memory // 2:
        yield f"the segments take {wanted:#x} bytes; the kernel allows half of its {memory:#x} at most"
    yield f"the running kernel ({machine.uname_machine}) does not take flags {plan.flags:#x}"


def _no_memory(plan: LoadPlan) -> Iterator[str]:
    wanted = sum(segment.memsz for segment in plan.segments)
    if plan.purpose is Purpose.CRASH:
        # kernel/kexec_core.c, kimage_alloc_crash_control_pages(): they lie in the reservation, too.
        yield (
            f"the segments take {wanted:#x} bytes and leave the kernel too little of the reservation"
            " for pages of its own; raise crashkernel="
        )
    yield f"the kernel has no {wanted:#x} bytes free for the segments; stop something, or shrink the initrd"


def _no_system_call(machine: Machine) -> Iterator[str]:
    yield from _filtered(machine)
    yield "the running kernel is built without CONFIG_KEXEC; take one that has it"


def _cannot_jump(machine: Machine) -> Iterator[str]:
    # kernel/pid_namespace.c, reboot_pid_ns(): only the first namespace can do it.
    if machine.kexec_state.loaded:
        yield "this process is in a PID namespace of its own, as in a container; run pykexec on the host"
    yield "no kernel is loaded; load one with pykexec -l first"


def _busy() -> Iterator[str]:
    yield "another load is going on, or the crash reservation is being resized in sysfs; try again"


def _filtered(machine: Machine) -> Iterator[str]:
    if _process_status(machine).get("Seccomp") == _SECCOMP_MODE_FILTER:
        yield (
            "a seccomp filter is on this process, as in a container or a confined service;"
            " run pykexec on the host"
        )


def _process_status(machine: Machine) -> dict[str, str]:
    lines = (line.partition(":") for line in _text(machine, "proc/self/status").splitlines())
    return {name: value.strip() for name, _, value in lines}


def _text(machine: Machine, path: str) -> str:
    """A file's text; empty where it cannot be read."""
    try:
        return (machine.read(path) or b"").decode("utf-8", "replace")
    except MachineError:
        return ""
