"""What pykdump knows about both x86_64 and i386."""

from __future__ import annotations

import re

from pykexec.kdump.reservation.support import is_since
from pykexec.machine import Machine
from pykexec.machine.sysfs import read_text
from pykexec.memory import MIB
from pykexec.versions import of_release

SUSE_REMOVES = (
    "notsc",  # the capture kernel needs a clock
    "console=hvc0",  # Xen's console is gone with the hypervisor
)

# CRASH_ALIGN (arch/x86/include/asm/crash_reserve.h); before that file came, 1 MiB was enough.
_ALIGNMENT, _ALIGNMENT_BEFORE = 16 * MIB, 1 * MIB
_HAS_CRASH_RESERVE_SINCE = (6, 7)
_FINDS_BOOT_CPU_SINCE = (6, 9)  # commit 5c5682b9f87a


def alignment(release: str) -> int:
    """Return the number of bytes that a fixed offset has to be a multiple of."""
    return _ALIGNMENT if is_since(_HAS_CRASH_RESERVE_SINCE, release) else _ALIGNMENT_BEFORE


def finds_boot_cpu(release: str) -> bool:
    """Return whether a capture kernel of that release finds out by itself which CPU is the boot CPU."""
    return (of_release(release) or (0, 0)) >= _FINDS_BOOT_CPU_SINCE


def boot_cpu(machine: Machine, release: str) -> str:
    """Return the parameter that names the boot CPU: to start that one from another CPU resets the machine.

    Return "" where the capture kernel finds it out by itself, or it is not known.
    """
    cpus = "" if finds_boot_cpu(release) else read_text(machine.root, "proc/cpuinfo") or ""
    first = re.search(r"^initial apicid[ \t]*: *(\d{1,10})$", cpus, re.M)
    return f"disable_cpu_apicid={int(first[1])}" if first else ""
