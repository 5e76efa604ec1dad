"""What of crashkernel= a kernel supports.

The forms are kernel/crash_reserve.c's, the same on all architectures. What becomes of them differs
(arch/*/include/asm/crash_reserve.h; before 6.7 collected it there, each architecture had code of its own).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pykexec.kdump.part import part_of
from pykexec.memory import MIB
from pykexec.versions import of_release

CMA_SINCE = (6, 17)
"""When the words of SIZE,cma came to be known, on all architectures."""
DEFAULT_LOW = 128 * MIB
"""DEFAULT_CRASH_KERNEL_LOW_SIZE (include/linux/crash_reserve.h), where an architecture has no other."""


@dataclass(frozen=True, slots=True)
class CrashkernelSupport:
    """What of crashkernel= a kernel supports. None: that is not known."""

    knows_high: bool | None = None
    is_backport: bool = False
    """A distribution's kernel that may have SIZE,high, and falling back, from a later Linux: a guess."""
    knows_cma: bool = True
    """Where it does not, SIZE,cma is for it a SIZE with rubbish behind it."""
    honours_cma: bool | None = None
    falls_back_high: bool | None = None
    """A plain size that does not fit below 4 GiB is tried above."""
    alignment: int | None = None
    """What the kernel makes an offset a multiple of, in bytes."""
    default_low: int | None = None
    """Bytes reserved below 4 GiB for SIZE,high when no SIZE,low says more."""


def support(arch: str, release: str = "", command_line: str = "") -> CrashkernelSupport:
    """Return what a kernel supports, by our name of its architecture, its release and its command line.

    `release` is what `uname -r` says; "" is for a new kernel.
    """
    of_architecture = part_of(arch).crashkernel
    found = CrashkernelSupport() if of_architecture is None else of_architecture(release, command_line)
    return replace(found, knows_cma=is_since(CMA_SINCE, release))


def is_since(version: tuple[int, int], release: str) -> bool:
    """Return whether a kernel is of that version or later; a release that is not known is a new one's."""
    found = of_release(release)
    return found is None or found >= version
