"""The support of kernels for crashkernel=.

The forms are those of kernel/crash_reserve.c, the same on all architectures. Their effects differ
(arch/*/include/asm/crash_reserve.h; before 6.7 each architecture had its own code).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pykexec.kdump.part import part_of
from pykexec.memory import MIB
from pykexec.versions import of_release

CMA_SINCE = (6, 17)
"""The first release that knows the words of SIZE,cma, on all architectures."""
DEFAULT_LOW = 128 * MIB
"""DEFAULT_CRASH_KERNEL_LOW_SIZE (include/linux/crash_reserve.h), unless an architecture has its own."""


@dataclass(frozen=True, slots=True)
class CrashkernelSupport:
    """A kernel's support for crashkernel=. None: that is not known."""

    knows_high: bool | None = None
    is_backport: bool = False
    """Whether a distribution may have backported SIZE,high and the fallback to above 4 GiB: a guess."""
    knows_cma: bool = True
    """Whether SIZE,cma is known; otherwise it is a SIZE with rubbish after it."""
    honours_cma: bool | None = None
    falls_back_high: bool | None = None
    """Whether a plain size that does not fit below 4 GiB is tried above."""
    alignment: int | None = None
    """An offset has to be a multiple of this number of bytes."""
    default_low: int | None = None
    """The bytes below 4 GiB for SIZE,high without SIZE,low, and for a plain size that falls back."""


def support(arch: str, release: str = "", command_line: str = "") -> CrashkernelSupport:
    """Return what a kernel supports, by our name of its architecture, its release and its command line.

    `release` is its `uname -r`; "" is for a new kernel.
    """
    of_architecture = part_of(arch).crashkernel
    found = CrashkernelSupport() if of_architecture is None else of_architecture(release, command_line)
    return replace(found, knows_cma=is_since(CMA_SINCE, release))


def is_since(version: tuple[int, int], release: str) -> bool:
    """Return whether a kernel is of that version or later; an unknown release counts as a new one."""
    found = of_release(release)
    return found is None or found >= version
