"""What a kernel sets aside for devices before anything else gets memory: CMA and swiotlb."""

from __future__ import annotations

import re

from pykexec import kernelconfig
from pykexec.arch import Arch, find
from pykexec.booting.kernel import release_of
from pykexec.files import FileData
from pykexec.formats import unwrap
from pykexec.machine import Machine
from pykexec.memory import KIB, MIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CMA = re.compile(r"(?:^|\s)cma=([0-9]{1,6})([KMG]?)")
SWIOTLB = re.compile(r"(?:^|\s)swiotlb=(\S*)")
"""The words of a command line that say how much."""

# include/linux/swiotlb.h: IO_TLB_DEFAULT_SIZE, and IO_TLB_SHIFT, the unit of swiotlb=
SWIOTLB_DEFAULT = 64 * MIB
_SWIOTLB_SLAB = 2 * KIB


def set_aside(machine: Machine, kernel: FileData, capture_line: str) -> int:
    """Return the bytes that a capture kernel sets aside for devices, as far as that is known."""
    plain, _ = unwrap(kernel)
    cma, swiotlb = usually_set_aside(machine, plain, find(machine.uname_machine))
    return given_cma(capture_line, cma or 0) + given_swiotlb(capture_line, swiotlb or 0)


def usually_set_aside(
    machine: Machine, kernel: FileData, arch: Arch | None
) -> tuple[int | None, int | None]:
    """Return the bytes of CMA and swiotlb without words of the command line; None where they are not known.

    CMA is that of the kernel's own configuration, if that is there, else what other kernels have.
    """
    release = release_of(kernel)
    config = kernelconfig.installed(machine, release) if release else None
    found = None if config is None else _configured_cma(config)
    usual = (None, None) if arch is None else (arch.cma, arch.swiotlb)
    return usual if found is None else (found, usual[1])


def _configured_cma(config: Mapping[str, str]) -> int | None:
    """Return the bytes of CMA by a kernel's configuration (kernel/dma/contiguous.c).

    None where they depend on the memory that there is.
    """
    if config.get("CONFIG_DMA_CMA", "n") == "n":
        return 0
    size = config.get("CONFIG_CMA_SIZE_MBYTES", "")
    if config.get("CONFIG_CMA_SIZE_SEL_MBYTES") != "y" or not re.fullmatch("[0-9]{1,6}", size):
        return None
    return int(size) * MIB


def given_cma(capture_line: str, default: int) -> int:
    """Return the bytes of CMA that a capture kernel has; `default` is what it has by itself."""
    sizes = CMA.findall(capture_line)
    if not sizes:
        return default
    number, unit = sizes[-1]
    return int(number) << {"": 0, "K": 10, "M": 20, "G": 30}[unit]


def given_swiotlb(capture_line: str, usual: int) -> int:
    """Return the bytes that a capture kernel reserves for DMA; `usual` is what it does by itself."""
    words = [word for value in SWIOTLB.findall(capture_line) for word in value.split(",")]
    if "noforce" in words:
        return 0
    return swiotlb_size(capture_line) if usual or "force" in words else 0


def swiotlb_size(command_line: str) -> int:
    """Return the bytes that swiotlb has where there is one: swiotlb= counts slabs.

    kernel/dma/swiotlb.c, setup_io_tlb_npages().
    """
    sizes = re.findall(r"(?:^|\s)swiotlb=(\d{1,12})", command_line)
    return int(sizes[-1]) * _SWIOTLB_SLAB if sizes and int(sizes[-1]) else SWIOTLB_DEFAULT
