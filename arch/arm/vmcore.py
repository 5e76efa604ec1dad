"""What dumps of arm are like."""

from dataclasses import dataclass

from pykexec.arch.arm.addresses import LINEAR_END, TEXT_WITHIN
from pykexec.memory import MIB, align_down
from pykexec.vmcore.paging import within
from pykexec.vmcore.part import Place, ReadEntry, Registers, Tables, VmcorePart
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

_ADDRESSES = 1 << 32
_TABLE, _SECTION, _SUPERSECTION = 1 << 0, 1 << 1, 1 << 18
"""Bits of a short descriptor of the first level. A section may have the lowest one, too."""
_LARGE, _SMALL = 1 << 0, 1 << 1
"""Of the second level: pages of 64 and of 4 KiB. The smaller may have both."""
_BLOCK, _TABLE_OR_PAGE = 1, 3
"""The lowest two bits of a long descriptor."""


@dataclass(frozen=True, slots=True)
class ShortTables:
    """Short descriptors (Arm ARM, DDI 0406, B3.5): two levels, of sections and of pages."""

    root: int
    """Physical address of swapper_pg_dir."""

    levels = 2
    entry_size = 4

    def translate(self, virtual: int, read_entry: ReadEntry) -> Place | None:
        """Return where a virtual address is; None where nothing is mapped. Raises DumpError."""
        if virtual >= _ADDRESSES:
            return None
        entry = read_entry(self.root + (virtual >> 20) * 4)
        if entry & _SECTION and entry & _SUPERSECTION:
            high = (entry >> 20 & 0xF) << 32 | (entry >> 5 & 0xF) << 36
            return within(high | entry & 0xFF000000, virtual, 24)
        if entry & _SECTION:
            return within(entry & 0xFFF00000, virtual, 20)
        if not entry & _TABLE:
            return None
        page = read_entry((entry & 0xFFFFFC00) + (virtual >> 12 & 0xFF) * 4)
        if page & _SMALL:
            return within(page & 0xFFFFF000, virtual, 12)
        return within(page & 0xFFFF0000, virtual, 16) if page & _LARGE else None


@dataclass(frozen=True, slots=True)
class LongTables:
    """Long descriptors (the same, B3.6), of kernels with LPAE: three levels."""

    root: int
    """Physical address of swapper_pg_dir."""

    levels = 3
    entry_size = 8

    def translate(self, virtual: int, read_entry: ReadEntry) -> Place | None:
        """Return where a virtual address is; None where nothing is mapped. Raises DumpError."""
        if virtual >= _ADDRESSES:
            return None
        table = self.root
        for shift in (30, 21, 12):
            entry = read_entry(table + (virtual >> shift & 0x1FF) * 8)
            kind = entry & 3
            if kind != _TABLE_OR_PAGE and (kind != _BLOCK or shift == 12):
                return None
            table = entry & 0xFF_FFFF_F000
            if kind == _BLOCK or shift == 12:
                return within(table & -(1 << shift), virtual, shift)
        return None


def _linear_start(info: VmcoreInfo) -> int | None:
    text = info.symbol("_stext")
    return None if text is None else align_down(text, TEXT_WITHIN)


def _tables(info: VmcoreInfo, root: int) -> Tables | None:
    return LongTables(root) if info.lines.get("CONFIG_ARM_LPAE") == "y" else ShortTables(root)


def _unreadable_by_makedumpfile(info: VmcoreInfo) -> str | None:
    text, start = info.symbol("_stext"), _linear_start(info)
    taken = None if text is None else align_down(text, _MAKEDUMPFILE_TEXT_WITHIN)
    if start == taken:
        return None
    return f"_stext is {text:#x}: it takes the linear map to begin at {taken:#x}, not at {start:#x}"


_MAKEDUMPFILE_TEXT_WITHIN = 4 * MIB
"""makedumpfile, arch/arm.c, get_machdep_info_arm()."""

PART = VmcorePart(
    registers=Registers("r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 fp ip sp lr pc cpsr orig_r0", pc="pc", sp="sp"),
    linear_start=_linear_start,
    linear_end=LINEAR_END,
    counts_from_memory=True,
    tables=_tables,
    needed_lines=(),
    unreadable_by_makedumpfile=_unreadable_by_makedumpfile,
    char_is_signed=False,
)
