"""What the errno of a refused system call means on this machine: the cause, looked up, and the remedy.

The first line of each error is the C tool's, which scripts know; the second says why and what to do.
"""

from __future__ import annotations

import errno as e
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from pykexec.arch import for_machine, part_of
from pykexec.booting import segmentcheck
from pykexec.errors import FileLoadUnavailable, MachineError, SystemCallError
from pykexec.machine import Machine
from pykexec.memory import KIB, Range
from pykexec.names import name_of_uname, of_uname
from pykexec.plan import FileLoadPlan, LoadPlan
from pykexec.privilege import may_boot, process_status
from pykexec.purpose import Purpose
from pykexec.syscalls import process_arch
from pykexec.uapi import (
    KEXEC_ARCH_MASK,
    KEXEC_CRASH_HOTPLUG_SUPPORT,
    KEXEC_FILE_FORCE_DTB,
    KEXEC_FILE_NO_CMA,
    KEXEC_ON_CRASH,
    KEXEC_PRESERVE_CONTEXT,
    KEXEC_UPDATE_ELFCOREHDR,
)
from pykexec.values import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.booting.kernel import KernelFacts

_SECCOMP_MODE_FILTER = "2"  # include/uapi/linux/seccomp.h

_FALL_BACK = (e.ENOSYS, e.EINVAL, e.ENOEXEC, e.ENOTSUP)
"""What kexec_file_load answers where kexec_load may still do it. Not among them: what says that a signature
is missing or wrong, which must not be got around."""


@dataclass(frozen=True, slots=True)
class ExplainPart:
    """What an architecture's kernels refuse for reasons of their own (arch/<name>/explain.py)."""

    causes: Callable[[int, Purpose, Machine], Iterator[str]]
    """Yields what may be the cause of an errno, the most certain first."""


def _no_causes(_: int, __: Purpose, ___: Machine) -> Iterator[str]:
    return iter(())


UNKNOWN = ExplainPart(_no_causes)


def explain_load_failure(errno: int, plan: LoadPlan, machine: Machine) -> SystemCallError:
    """Why kexec_load(2) refused that plan on that machine."""
    causes = {
        e.EPERM: _not_permitted(plan.purpose, machine, _LOCKED_SEGMENTS),
        e.EACCES: chain(_of_architecture(e.EACCES, plan.purpose, machine), _not_appraised()),
        e.EADDRNOTAVAIL: _unusable_addresses(plan, machine),
        e.EBUSY: _busy_to_load(plan.purpose, machine),
        e.EFAULT: _file_gone(f"{plan.image}{f' or {plan.initrd}' if plan.initrd else ''}"),
        e.EINVAL: _invalid(plan, machine),
        e.ENOMEM: _no_memory(plan, machine),
        e.ENOSYS: _no_system_call(plan.purpose, machine),
        e.ENOTSUP: _not_on_this_machine(plan.purpose, machine),
        e.ETXTBSY: _of_architecture(e.ETXTBSY, plan.purpose, machine),
    }
    return _error("kexec_load failed", errno, causes)


def explain_file_load_failure(errno: int, plan: FileLoadPlan, machine: Machine) -> SystemCallError:
    """Why kexec_file_load(2) refused; FileLoadUnavailable where kexec_load(2) is worth trying."""
    causes = {
        e.EPERM: _not_permitted(plan.purpose, machine, _LOCKED_FILES),
        e.EACCES: _unsigned(),
        e.EKEYREJECTED: _unsigned(),
        e.ENOKEY: chain(_no_volume_key(plan.purpose, machine), _unsigned()),
        e.EKEYEXPIRED: _no_volume_key(plan.purpose, machine),
        e.EKEYREVOKED: _no_volume_key(plan.purpose, machine),
        e.EBADMSG: _unsigned(),
        e.ENODATA: _unsigned(),
        e.ELIBBAD: _unsigned(),
        e.ENOPKG: _unsigned(),
        e.EMSGSIZE: _unsigned(),
        e.EADDRNOTAVAIL: _no_hole(plan, machine),
        e.EBUSY: _busy_to_load(plan.purpose, machine),
        e.EFAULT: _unreadable(plan),
        e.EFBIG: _file_too_large(plan),
        e.EINTR: _unreadable(plan),
        e.EIO: _unreadable(plan),
        e.EINVAL: _invalid_files(plan, machine),
        e.ENOEXEC: _unknown_format(plan),
        e.ENOTSUP: _not_on_this_machine(plan.purpose, machine),
        e.ENOMEM: _no_memory_for_files(plan),
        e.ENOSYS: _no_file_call(machine),
        e.ETXTBSY: _being_written(plan),
    }
    if errno not in _FALL_BACK:
        return _error("kexec_file_load failed", errno, causes)
    failure = _error("", errno, causes)
    return FileLoadUnavailable(
        f"syscall kexec_file_load not available. ({os.strerror(errno)})", errno=errno, hint=failure.hint
    )


def explain_unload_failure(errno: int, purpose: Purpose, machine: Machine) -> SystemCallError:
    """Why kexec_load(2) with no segments refused to unload what was loaded for that purpose."""
    causes = {
        e.EPERM: _not_permitted(purpose, machine, _LOCKED_SEGMENTS),
        e.EACCES: _not_appraised(),
        e.EBUSY: _busy(),
        e.ENOSYS: _no_system_call(purpose, machine),
    }
    return _error("kexec unload failed", errno, causes)


def explain_execute_failure(errno: int, machine: Machine) -> SystemCallError:
    """Why reboot(2) did not jump into the loaded kernel."""
    causes = {
        # What is handed over is made ready first, which can fail with any errno.
        errno: _not_handed_over(machine),
        e.EPERM: _not_privileged(machine),
        e.EBUSY: chain(_session_refused(machine), _busy_to_load(Purpose.BOOT, machine)),
        e.EINVAL: _cannot_jump(machine),
        e.ENOSYS: _no_system_call(Purpose.BOOT, machine),
    }
    return _error("kexec failed", errno, causes)


def _error(call: str, errno: int, causes: Mapping[int, Iterator[str]]) -> SystemCallError:
    try:
        cause = next(causes.get(errno, iter(())), None)
    except MachineError:  # evidence that cannot be read must not hide the error itself
        cause = None
    return SystemCallError(f"{call}: {os.strerror(errno)}", errno=errno, hint=cause)


# Each of these yields what may be the cause, the most certain first. Only as far as the first one is looked.


_LOCKED_SEGMENTS = (
    "refuses kexec_load; leave out -c and what needs it, so that kexec_file_load can take a signed kernel,"
    " or turn off Secure Boot (or lockdown= on the kernel command line)"
)
_LOCKED_FILES = (
    "takes signed kernels only; take your distribution's, or turn off Secure Boot (or lockdown= on the"
    " kernel command line)"
)


def _not_permitted(purpose: Purpose, machine: Machine, locked: str) -> Iterator[str]:
    yield from _not_privileged(machine)
    state = machine.kexec_state
    if state.load_disabled:
        yield (
            "the sysctl kernel.kexec_load_disabled is 1; it stays so until a reboot:"
            " look in /etc/sysctl.d for what sets it"
        )
    if state.lockdown not in (None, "none"):
        yield f"the kernel is locked down ({state.lockdown}, as with Secure Boot) and {locked}"
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


def _unsigned() -> Iterator[str]:
    # security/integrity, crypto/asymmetric_keys/verify_pefile.c, certs: what a signature check can answer.
    yield (
        "the kernel demands a signature that the file lacks, or that no key it trusts made (Secure Boot,"
        " lockdown or an IMA policy); take your distribution's signed kernel, or see the kernel log"
    )


def _no_volume_key(purpose: Purpose, machine: Machine) -> Iterator[str]:
    # kernel/crash_dump_dm_crypt.c, read_key_from_user_keyring(). A signature's key may be missing, too.
    from pykexec import kexec_file

    if kexec_file.hands_keys_over(machine, purpose):
        yield (
            "the kernel is to hand over keys of encrypted volumes, and this process's keyrings lack one (the"
            f" kernel log says which): put it into one, or take its folder out of /{kexec_file.VOLUME_KEYS}"
        )


def _no_hole(plan: FileLoadPlan, machine: Machine) -> Iterator[str]:
    """kernel/kexec_file.c, kexec_locate_mem_hole()."""
    wanted = plan.kernel.size + (plan.initrd.size if plan.initrd else 0)
    if plan.purpose is Purpose.BOOT:
        yield f"no free memory takes the kernel and the initrd ({wanted:#x} bytes and what they unpack to)"
        return
    region = _load_region(machine)
    if region is None:
        yield "no memory is reserved for a crash kernel; boot with crashkernel=SIZE"
    elif wanted > region.size:
        yield (
            f"kernel and initrd have {wanted:#x} bytes, {wanted - region.size:#x} more than the reservation"
            f" {region}; raise crashkernel="
        )
    else:
        from pykexec.booting import kernel

        needed = kernel.memory_of(plan.kernel, _told(plan, machine))
        unpacked = wanted - plan.kernel.size + needed
        lacks = f"{unpacked - region.size:#x} bytes more than" if unpacked > region.size else "not in"
        yield (
            f"the kernel unpacks itself: with the initrd that takes {unpacked:#x} bytes, and what comes with"
            f" them, {lacks} the reservation {region}; raise crashkernel="
        )


def _told(plan: FileLoadPlan, machine: Machine) -> KernelFacts | None:
    from pykexec import arch
    from pykexec.booting import kernel

    return kernel.told(plan.kernel, arch.find(machine.uname_machine))


def _file_too_large(plan: FileLoadPlan) -> Iterator[str]:
    initrd = f", {plan.initrd.path} has {plan.initrd.size:#x}" if plan.initrd else ""
    yield f"{plan.kernel.path} has {plan.kernel.size:#x} bytes{initrd}: more than the kernel reads"


def _unreadable(plan: FileLoadPlan) -> Iterator[str]:
    initrd = f" or {plan.initrd.path}" if plan.initrd else ""
    yield f"the kernel could not read {plan.kernel.path}{initrd} to its end; is the disk or server well?"


def _invalid_files(plan: FileLoadPlan, machine: Machine) -> Iterator[str]:
    from pykexec import kexec_file

    hands_keys = kexec_file.hands_keys_over(machine, plan.purpose)
    told = _told(plan, machine)
    if too_long := kexec_file.too_long(plan.kernel, told, plan.command_line, hands_keys=hands_keys):
        yield too_long
    if plan.flags & (KEXEC_FILE_NO_CMA | KEXEC_FILE_FORCE_DTB):
        yield "the running kernel may be too old for --no-cma or --force-dtb; leave them out"
    yield from _unknown_format(plan)


def _unknown_format(plan: FileLoadPlan) -> Iterator[str]:
    from pykexec.formats import identify

    what = identify.describe(plan.kernel.data)
    which = f", which is {what}," if what else ""
    yield f"the running kernel cannot load {plan.kernel.path}{which} by itself; leave out -s, or use -c"


def _no_memory_for_files(plan: FileLoadPlan) -> Iterator[str]:
    wanted = plan.kernel.size + (plan.initrd.size if plan.initrd else 0)
    yield f"the kernel has no {wanted:#x} bytes of memory for the files; stop something, or shrink them"


def _no_file_call(machine: Machine) -> Iterator[str]:
    process, kernel = process_arch(), of_uname(machine.uname_machine)
    if process is not None and kernel is not None and process.elf.bits < kernel.elf.bits:
        yield (
            f"a {process.elf.bits}-bit process cannot call it; use -c or -a, or run pykexec with a"
            f" {kernel.elf.bits}-bit Python"
        )
    yield from _filtered(machine)
    yield "the running kernel is built without CONFIG_KEXEC_FILE; use -c or -a"


def _being_written(plan: FileLoadPlan) -> Iterator[str]:
    initrd = f" or {plan.initrd.path}" if plan.initrd else ""
    yield f"{plan.kernel.path}{initrd} is open for writing in another process; try again when that is done"


def _unusable_addresses(plan: LoadPlan, machine: Machine) -> Iterator[str]:
    yield from _refused(e.EADDRNOTAVAIL, plan, machine)
    if plan.purpose is Purpose.BOOT:
        # kernel/kexec_core.c sanity_check_segment_list(): KEXEC_DESTINATION_MEMORY_LIMIT
        last = plan.segments[-1]
        yield (
            f"the running kernel reaches no memory that high, the highest segment is {last.name}"
            f" {last.range}; load below it: --mem-max={last.address - 1:#x}"
        )
    else:
        yield f"the reservation is {_load_region(machine)} now; it may have changed meanwhile, load again"


def _refused(errno: int, plan: LoadPlan, machine: Machine) -> Iterator[str]:
    """By the kernel's rules, and what it counts now."""
    known = segmentcheck.limits(machine, for_machine(machine))
    now = replace(known, memory=_counted_memory(machine) or known.memory, region=_load_region(machine))
    return (each.what for each in segmentcheck.refusals(plan, now) if each.errno == errno)


def _counted_memory(machine: Machine) -> int | None:
    """Return totalram_pages() in bytes, as /proc/meminfo shows it (fs/proc/meminfo.c)."""
    name, _, rest = (machine.read("proc/meminfo") or b"").partition(b":")
    number = rest.partition(b"kB")[0].strip()
    return int(number) * KIB if name == b"MemTotal" and number.isdigit() and len(number) < 20 else None


def _load_region(machine: Machine) -> Range | None:
    """The one reservation that takes segments (crashk_res): the highest, of which sysfs tells the size.

    It may have been shrunk since /proc/iomem was read; it keeps its start.
    """
    regions = machine.crash_regions
    size = machine.kexec_state.crash_size
    if not regions or size == 0:
        return None
    return regions[-1] if size is None else Range.sized(regions[-1].start, size)


def _invalid(plan: LoadPlan, machine: Machine) -> Iterator[str]:
    """The reasons in kernel/kexec.c and sanity_check_segment_list() in kernel/kexec_core.c."""
    yield from _refused(e.EINVAL, plan, machine)
    yield from _of_architecture(e.EINVAL, plan.purpose, machine)
    if plan.flags & (KEXEC_UPDATE_ELFCOREHDR | KEXEC_CRASH_HOTPLUG_SUPPORT):
        yield "the running kernel may not know the flag of --hotplug; try without"
    if plan.flags & KEXEC_PRESERVE_CONTEXT:
        yield "the running kernel may be built without CONFIG_KEXEC_JUMP, which going back takes"
    if unknown := plan.flags & ~KEXEC_ARCH_MASK & ~KEXEC_ON_CRASH:
        yield f"the running kernel does not know flags {unknown:#x}"
    yield f"the running kernel ({machine.uname_machine}) does not take flags {plan.flags:#x}"


def _no_memory(plan: LoadPlan, machine: Machine) -> Iterator[str]:
    wanted = sum(segment.memsz for segment in plan.segments)
    if plan.purpose is Purpose.CRASH:
        # kernel/kexec_core.c, kimage_alloc_crash_control_pages(): they lie in the reservation, too.
        region = _load_region(machine)
        left = f"{region.size - wanted:#x} bytes" if region else "too little"
        yield (
            f"the segments take {wanted:#x} bytes and leave the kernel {left} of the reservation for pages"
            " of its own, which it needs in one piece; raise crashkernel="
        )
    yield f"the kernel has no {wanted:#x} bytes free for the segments; stop something, or shrink the initrd"


def _no_system_call(purpose: Purpose, machine: Machine) -> Iterator[str]:
    yield from _filtered(machine)
    yield from _of_architecture(e.ENOSYS, purpose, machine)
    yield "the running kernel is built without CONFIG_KEXEC; take one that has it"


def _cannot_jump(machine: Machine) -> Iterator[str]:
    # kernel/pid_namespace.c, reboot_pid_ns(): only the first namespace can do it.
    if machine.kexec_state.loaded:
        yield "this process is in a PID namespace of its own, as in a container; run pykexec on the host"
    yield "no kernel is loaded; load one with pykexec -l first"


def _session_refused(machine: Machine) -> Iterator[str]:
    # kernel/liveupdate/luo_core.c liveupdate_reboot()
    if machine.has_live_update:
        yield (
            "a live update session refused, or its state could not be handed over (dmesg says more);"
            " end the session, and try again"
        )


def _not_handed_over(machine: Machine) -> Iterator[str]:
    yield from _session_refused(machine)
    # kernel/liveupdate/kexec_handover.c kho_finalize(), which is there up to 7.0
    if machine.keeps_state:
        yield "the kernel's state could not be handed over (KHO, dmesg says more); try again"


def _not_on_this_machine(purpose: Purpose, machine: Machine) -> Iterator[str]:
    yield from _of_architecture(e.ENOTSUP, purpose, machine)
    yield "the running kernel does not do this on this machine; the kernel's log says why"


def _file_gone(files: str) -> Iterator[str]:
    yield f"{files} got shorter while it was loaded; is it being installed just now? Try again after that"


def _busy_to_load(purpose: Purpose, machine: Machine) -> Iterator[str]:
    yield from _of_architecture(e.EBUSY, purpose, machine)
    yield from _busy()


def _of_architecture(errno: int, purpose: Purpose, machine: Machine) -> Iterator[str]:
    own = part_of(name_of_uname(machine.uname_machine), "explain", UNKNOWN)
    return own.causes(errno, purpose, machine)


def _busy() -> Iterator[str]:
    yield (
        "another load is going on, or the crash reservation is being resized in sysfs: try again; if it"
        " stays so, a load has died in the kernel (dmesg), and only a reboot helps"
    )


def _filtered(machine: Machine) -> Iterator[str]:
    if process_status(machine).get("Seccomp") == _SECCOMP_MODE_FILTER:
        yield (
            "a seccomp filter is on this process, as in a container or a confined service;"
            " run pykexec on the host"
        )
