"""Load through kexec_file_load(2): we give the kernel files and flags; it places, builds and verifies."""

from __future__ import annotations

import errno
import fcntl
import os

from pykexec import command_line, formats, log, syscalls
from pykexec.errors import FileLoadUnavailable, UsageError
from pykexec.files import Descriptor, FileData
from pykexec.machine import Machine
from pykexec.options import OPTIONS
from pykexec.plan import FileLoadPlan, Request
from pykexec.purpose import Purpose
from pykexec.uapi import (
    KEXEC_FILE_DEBUG,
    KEXEC_FILE_FORCE_DTB,
    KEXEC_FILE_NO_CMA,
    KEXEC_FILE_NO_INITRAMFS,
    KEXEC_FILE_ON_CRASH,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.arch import Arch
    from pykexec.booting.kernel import KernelFacts


def unfit(request: Request) -> list[str]:
    """Return the fields of a request that kexec_file_load(2) has no argument for."""
    is_crash = request.purpose is Purpose.CRASH
    found = (
        option.request.partition(".")[0]
        for option in OPTIONS
        if option.needs_kexec_load and (is_crash or not option.only_for_crashes) and request.asks(option)
    )
    return list(dict.fromkeys(found))  # some options share a field


def plan(machine: Machine, request: Request) -> FileLoadPlan:
    """Return what to pass to kexec_file_load(2).

    Raises UsageError for a request that it has no argument for, MachineError where core headers have to be
    updated but the running kernel does not do that, and ImageError for a damaged kernel (the running kernel
    looks only at its header). Raises FileLoadUnavailable where no kernel of the architecture has this call,
    and for a kernel that it would refuse, if that would cost a loaded crash kernel, or a load where the
    number of loads is limited.
    """
    if names := unfit(request):
        raise UsageError(f"kexec_file_load cannot honour: {', '.join(names)}", hint="use kexec_load")
    if request.hotplug and request.purpose is Purpose.CRASH:
        from pykexec.booting import crash

        crash.updated_headers_size(machine)  # raises where the kernel does not do it; the call has no flag
    _require_call(machine)
    kernel, _ = formats.unwrap(request.kernel)
    line = command_line.for_request(request, machine.command_line)
    arch, facts = _facts(machine, kernel)
    state = machine.kexec_state
    would_be_lost = request.purpose is Purpose.CRASH and state.crash_loaded
    counts = state.is_limited(request.purpose)
    if would_be_lost or counts:
        hands_keys = hands_keys_over(machine, request.purpose)
        takes_format = _takes_format(arch, facts)
        _require_loadable(kernel, facts, line, takes_format=takes_format, hands_keys=hands_keys)
    initrd = request.initrd if request.initrd and request.initrd.size else None
    flags = {
        KEXEC_FILE_ON_CRASH: request.purpose is Purpose.CRASH,
        KEXEC_FILE_NO_INITRAMFS: initrd is None,
        # A kernel that does not know that flag is asked again, and both calls would count.
        KEXEC_FILE_DEBUG: request.debug and not counts,
        KEXEC_FILE_NO_CMA: request.no_cma,
        KEXEC_FILE_FORCE_DTB: request.force_dtb,
    }
    return FileLoadPlan(
        arch=machine.uname_machine,
        purpose=request.purpose,
        kernel=kernel,
        initrd=initrd,
        command_line=line,
        flags=sum(flag for flag, wanted in flags.items() if wanted),
        warnings=request.warnings,
        taken=request.taken,
    )


def _require_call(machine: Machine) -> None:
    from pykexec import names

    row = names.of_uname(machine.uname_machine)
    if row is not None and row.kexec_file_load is None:
        why = f"no kernel for {row.name} has it; leave out -s, or use -c"
        raise _unavailable(errno.ENOSYS, why)


def _unavailable(number: int, why: str) -> FileLoadUnavailable:
    what = f"syscall kexec_file_load not available. ({os.strerror(number)})"
    return FileLoadUnavailable(what, errno=number, hint=why)


def doubts(machine: Machine, kernel: FileData) -> list[str]:
    """Return why the running kernel will most likely not load that kernel by itself; empty if it may."""
    if _takes_format(*_facts(machine, kernel)):
        return []
    from pykexec.formats import identify

    what = identify.describe(kernel.data) or "of no known type"
    return [f"the running kernel will most likely refuse {kernel.path}, which is {what}"]


def _facts(machine: Machine, kernel: FileData) -> tuple[Arch | None, KernelFacts | None]:
    """Return the machine's architecture, and a kernel's facts. Raises ImageError for a damaged kernel."""
    from pykexec import arch
    from pykexec.booting import kernel as kernels

    found = arch.find(machine.uname_machine)
    return found, None if found is None else kernels.inspect(kernel, found)


def _takes_format(arch: Arch | None, facts: KernelFacts | None) -> bool:
    """Return whether the running kernel loads that format; true where this is not known."""
    return arch is None or (facts is not None and facts.is_for_file_load)


def _require_loadable(
    kernel: FileData, facts: KernelFacts | None, line: str, *, takes_format: bool, hands_keys: bool
) -> None:
    """Raise FileLoadUnavailable for a kernel that the running one is going to refuse.

    The running kernel counts a load, and forgets a loaded crash kernel, before it looks at the new one
    (kernel/kexec_file.c). So such a kernel must not reach it.
    """
    number, why = errno.EINVAL, too_long(kernel, facts, line, hands_keys=hands_keys)
    if not takes_format:
        number = errno.ENOEXEC
        why = f"the running kernel cannot load {kernel.path} by itself; leave out -s, or use -c"
    if why is not None:
        raise _unavailable(number, why)


VOLUME_KEYS = "sys/kernel/config/crash_dm_crypt_keys"
"""The folder that names keys of encrypted volumes (CONFIG_CRASH_DM_CRYPT)."""


def hands_keys_over(machine: Machine, purpose: Purpose) -> bool:
    """Return whether the running kernel is to hand over keys of encrypted volumes with a load.

    Raises MachineError.
    """
    if purpose is not Purpose.CRASH:
        return False
    from pykexec.machine.sysfs import read_number

    return bool(read_number(machine.root, f"{VOLUME_KEYS}/count", 10))


def too_long(
    kernel: FileData, facts: KernelFacts | None, line: str, *, hands_keys: bool = False
) -> str | None:
    """Return why that command line is too long for kexec_file_load(2); None where it may fit."""
    if facts is None or facts.file_load_adds is None or facts.line_limit is None:
        return None
    size = len(os.fsencode(line)) + facts.file_load_adds
    size += facts.file_load_adds_for_keys if hands_keys else 0
    if size <= facts.line_limit:
        return None
    return (
        f"the command line takes {size} bytes with what the kernel adds, {kernel.path} takes"
        f" {facts.line_limit} at most; shorten --append"
    )


def load(plan: FileLoadPlan) -> None:
    """Make the system call. Raises OSError."""
    kernel = _descriptor(plan.kernel, "kernel")
    initrd = _descriptor(plan.initrd, "initrd") if plan.initrd else None
    line = os.fsencode(plan.command_line) + b"\0"
    try:
        _call(kernel, initrd, line, plan.flags)
    except OSError as error:
        # Kernels before 6.8 do not know the debug flag; it must not change the way a kernel is loaded.
        if error.errno != errno.EINVAL or not plan.flags & KEXEC_FILE_DEBUG:
            raise
        _call(kernel, initrd, line, plan.flags & ~KEXEC_FILE_DEBUG)


def _call(kernel: Descriptor, initrd: Descriptor | None, line: bytes, flags: int) -> None:
    log.debug("kexec_file_load: flags = %#x", flags)
    syscalls.kexec_file_load(kernel.number, -1 if initrd is None else initrd.number, line, flags)


def _descriptor(file: FileData, name: str) -> Descriptor:
    """Return the file as it was opened; where it was not opened, its contents as a file in memory.

    Raises OSError.
    """
    if file.descriptor is not None:
        return file.descriptor
    descriptor = _memory_file(name)
    rest = file.data
    while rest:
        rest = rest[os.write(descriptor.number, rest) :]
    fcntl.fcntl(descriptor.number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)
    return descriptor


_MFD_NOEXEC_SEAL = 0x8  # include/uapi/linux/memfd.h, Linux 6.3


def _memory_file(name: str) -> Descriptor:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        # With vm.memfd_noexec=2 the kernel makes only such files.
        return Descriptor(os.memfd_create(name, flags | _MFD_NOEXEC_SEAL))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return Descriptor(os.memfd_create(name, flags))
