"""What dumps of riscv64 are like."""

from dataclasses import dataclass

from pykexec.memory import KIB
from pykexec.vmcore.paging import to_page_end, within
from pykexec.vmcore.part import Place, ReadEntry, Registers, VmcorePart
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

_LEVELS = {39: 3, 48: 4, 57: 5}
"""Of page tables, by the bits of virtual addresses: Sv39, Sv48, Sv57."""
_VALID, _LEAF = 1 << 0, 0b111 << 1
"""A leaf is readable, writable or executable."""
_CONTIGUOUS = 1 << 63
"""One of 16 pages that are mapped as one (Svnapot), which the low bits of the page number say."""


@dataclass(frozen=True, slots=True)
class PageTables:
    """Tables of 3 to 5 levels (Privileged Architecture, 12.3 to 12.6 and "Svnapot")."""

    root: int
    """Physical address of swapper_pg_dir."""
    levels: int

    entry_size = 8

    def translate(self, virtual: int, read_entry: ReadEntry) -> Place | None:
        """Return where a virtual address is; None where nothing is mapped. Raises DumpError."""
        table = self.root
        for level in reversed(range(self.levels)):
            shift = 12 + 9 * level
            entry = read_entry(table + (virtual >> shift & 0x1FF) * 8)
            if not entry & _VALID:
                return None
            table = (entry >> 10 & (1 << 44) - 1) << 12
            if entry & _LEAF:
                shift += 4 if entry & _CONTIGUOUS and level == 0 else 0
                return within(table & -(1 << shift), virtual, shift)
        return None


def _image(info: VmcoreInfo, virtual: int) -> Place | None:
    """Nothing else is mapped above (Documentation/arch/riscv/vm-layout.rst)."""
    start, distance = info.address("KERNEL_LINK_ADDR"), info.address("va_kernel_pa_offset")
    if start is None or distance is None or virtual < max(start, distance):
        return None
    return Place(virtual - distance, to_page_end(info, virtual))


def _tables(info: VmcoreInfo, root: int) -> PageTables | None:
    levels = _LEVELS.get(info.number("VA_BITS") or 0)
    return None if levels is None or info.page_size != 4 * KIB else PageTables(root, levels)


_MAKEDUMPFILE = (
    *("VA_BITS", "PAGE_OFFSET", "VMALLOC_START", "VMALLOC_END", "VMEMMAP_START", "VMEMMAP_END"),
    *("MODULES_VADDR", "MODULES_END", "KERNEL_LINK_ADDR", "va_kernel_pa_offset"),
)
"""Without one of these makedumpfile (arch/riscv64.c) gives up."""

PART = VmcorePart(
    registers=Registers(
        "pc ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6",
        pc="pc",
        sp="sp",
    ),
    image=_image,
    tables=_tables,
    needed_lines=tuple(f"NUMBER({name})" for name in _MAKEDUMPFILE),
    char_is_signed=False,
)
