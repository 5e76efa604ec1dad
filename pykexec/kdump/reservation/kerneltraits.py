"""What of crashkernel= which kernel knows, by its architecture and release.

All of it follows kernel/crash_reserve.c, with what differs by architecture in arch/*/include/asm/
crash_reserve.h and, before 6.7 collected these, in arch/x86/kernel/setup.c and arch/arm64/mm/init.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pykexec.memory import KIB, MIB
from pykexec.versions import of_release


@dataclass(frozen=True, slots=True)
class KernelTraits:
    """What of crashkernel= a kernel knows."""

    knows_high: bool = True
    is_backport: bool = False
    """A distribution's kernel that may have SIZE,high, and falling back, from a later Linux: a guess."""
    knows_cma: bool = True
    """Where it does not, SIZE,cma is for it a SIZE with rubbish behind it."""
    honours_cma: bool = True
    falls_back_high: bool = True
    """A plain size that does not fit below 4 GiB is tried above."""
    alignment: int = 1
    """What the kernel makes an offset a multiple of."""
    default_low: int = 128 * MIB
    """What is reserved below 4 GiB for SIZE,high when no SIZE,low says more."""


# include/linux/crash_reserve.h
_DEFAULT_LOW = 128 * MIB
# arch/x86/include/asm/crash_reserve.h: max(swiotlb + 8 MiB, 256 MiB)
_X86_LOW_LEAST = 256 * MIB
_X86_LOW_BESIDES_SWIOTLB = 8 * MIB
# include/linux/swiotlb.h: IO_TLB_DEFAULT_SIZE, and IO_TLB_SHIFT, the unit of swiotlb=
_SWIOTLB_DEFAULT = 64 * MIB
_SWIOTLB_SLAB = 2 * KIB

# CRASH_ALIGN in asm/crash_reserve.h; x86 took a fixed offset to 1 MiB before it had that file.
_X86_ALIGNMENT = 16 * MIB
_X86_ALIGNMENT_BEFORE = 1 * MIB
_ARM64_ALIGNMENT = 2 * MIB

CMA_SINCE = (6, 17)
_CMA_BESIDES_X86_SINCE = {"aarch64": (7, 3), "riscv64": (7, 3)}
_X86_FALLS_BACK_SINCE = (5, 2)
_X86_GENERIC_SINCE = (6, 7)
_ARM64_HIGH_SINCE = (5, 19)
# Seen with RHEL 9, openEuler and Ampere's kernels of 5.10 and 5.14. Their releases name the architecture, as
# RPM packages' do; Fedora's, which are called the same, have next to nothing from later ones.
_ARM64_BACKPORT = re.compile(r"(?!.*\.fc\d).*\.aarch64\b")
_ARM64_LOW_DEFAULT_SINCE = (6, 2)


def traits(arch: str, release: str = "", command_line: str = "") -> KernelTraits:
    """The traits of a kernel by `uname -m` and `uname -r`; of a new one where `release` is empty."""
    version = of_release(release)
    cma = version is None or version >= CMA_SINCE
    cma_since = _CMA_BESIDES_X86_SINCE.get(arch)
    honours_cma = cma_since is not None and (version is None or version >= cma_since)
    if arch == "x86_64":
        return KernelTraits(
            knows_cma=cma,
            honours_cma=cma,
            falls_back_high=version is None or version >= _X86_FALLS_BACK_SINCE,
            alignment=_X86_ALIGNMENT_BEFORE if version and version < _X86_GENERIC_SINCE else _X86_ALIGNMENT,
            default_low=max(_swiotlb_size(command_line) + _X86_LOW_BESIDES_SWIOTLB, _X86_LOW_LEAST),
        )
    if arch == "aarch64":
        new = version is None or version >= _ARM64_LOW_DEFAULT_SINCE
        high = version is None or version >= _ARM64_HIGH_SINCE
        backport = not high and bool(_ARM64_BACKPORT.match(release))
        return KernelTraits(
            knows_high=high or backport,
            is_backport=backport,
            knows_cma=cma,
            honours_cma=honours_cma,
            falls_back_high=new,
            alignment=_ARM64_ALIGNMENT,
            default_low=_DEFAULT_LOW if new else 0,
        )
    knows_high = arch in ("riscv64", "loongarch64")
    return KernelTraits(knows_high=knows_high, knows_cma=cma, honours_cma=honours_cma)


def _swiotlb_size(command_line: str) -> int:
    """setup_io_tlb_npages() in kernel/dma/swiotlb.c: a number of slabs."""
    sizes = re.findall(r"(?:^|\s)swiotlb=(\d{1,12})", command_line)
    return int(sizes[-1]) * _SWIOTLB_SLAB if sizes and int(sizes[-1]) else _SWIOTLB_DEFAULT
