"""Translate virtual addresses: by VMCOREINFO, and with the crashed kernel's page tables."""

from pykexec.memory import KIB, Range
from pykexec.vmcore.part import Place, Tables, VmcorePart
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

_MASK64 = (1 << 64) - 1


def kernel_image(part: VmcorePart, info: VmcoreInfo, virtual: int) -> Place | None:
    """Return where an address of the kernel's own image is, by VMCOREINFO alone."""
    return None if part.image is None else part.image(info, virtual)


def linear_map(part: VmcorePart, info: VmcoreInfo, virtual: int, memory: Range | None) -> Place | None:
    """Return where an address of the linear map is, by VMCOREINFO, and the first of the dump's memory."""
    start = _linear_start(part, info)
    base = info.address("PHYS_OFFSET")
    if base is None:
        base = info.address("phys_ram_base")
    if base is None and part.linear_end is not None and virtual < part.linear_end:
        base = None if memory is None else memory.start
    if start is None or base is None or virtual < start:
        return None
    return Place((virtual - start + base) & _MASK64, to_page_end(info, virtual))


def tables(part: VmcorePart, info: VmcoreInfo, memory: Range | None) -> Tables | None:
    """Return the kernel's page tables, where VMCOREINFO tells enough; `memory` is as for `linear_map`."""
    symbol = info.symbol("swapper_pg_dir")
    if symbol is None or part.tables is None:
        return None
    in_image = kernel_image(part, info, symbol)
    root = linear_map(part, info, symbol, memory) if part.image is None else in_image
    return None if root is None else part.tables(info, root.physical)


def within(start: int, virtual: int, shift: int) -> Place:
    """Return the place of an address in what a table's entry maps: 1 << `shift` bytes from `start`."""
    offset = virtual & ((1 << shift) - 1)
    return Place(start + offset, (1 << shift) - offset)


def to_page_end(info: VmcoreInfo, virtual: int) -> int:
    """Return how many bytes of its page follow an address."""
    page_size = info.page_size or 4 * KIB
    return page_size - virtual % page_size if page_size > 0 else 1


def _linear_start(part: VmcorePart, info: VmcoreInfo) -> int | None:
    if "NUMBER(PAGE_OFFSET)" in info.lines:
        return info.address("PAGE_OFFSET")
    return None if part.linear_start is None else part.linear_start(info)
