"""The properties of x86_64's dumps."""

from dataclasses import dataclass

from pykexec.vmcore.paging import within
from pykexec.vmcore.part import Place, ReadEntry, Registers, VmcorePart
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

_START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
"""__START_KERNEL_map, arch/x86/include/asm/page_64_types.h."""
_KERNEL_IMAGE_SIZE = 512 << 20
"""The value where VMCOREINFO does not have it: before Linux 4.13, and without KASLR."""


@dataclass(frozen=True, slots=True)
class PageTables:
    """Page tables of 4 or 5 levels.

    Intel SDM volume 3, chapter 4; arch/x86/include/asm/pgtable_64_types.h.
    """

    root: int
    """The physical address of swapper_pg_dir."""
    levels: int
    encrypted: int = 0
    """The bit that marks encrypted pages (AMD's SME); it is no part of the address."""

    entry_size = 8

    def translate(self, virtual: int, read_entry: ReadEntry) -> Place | None:
        """Return where a virtual address is; None where nothing is mapped. Raises DumpError."""
        table = self.root
        for level in reversed(range(self.levels)):
            shift = 12 + 9 * level
            entry = read_entry(table + (virtual >> shift & 0x1FF) * 8) & ~self.encrypted
            present, large = entry & 1, level in (1, 2) and entry & 0x80
            if not present:
                return None
            table = entry & 0xF_FFFF_FFFF_F000
            if large or level == 0:
                return within(table & -(1 << shift), virtual, shift)
        return None


def _image(info: VmcoreInfo, virtual: int) -> Place | None:
    base = info.number("phys_base")
    size = info.number("KERNEL_IMAGE_SIZE") or _KERNEL_IMAGE_SIZE
    offset = virtual - _START_KERNEL_MAP
    if base is None or not 0 <= offset < size or offset + base < 0:
        return None
    return Place(offset + base, size - offset)


def _tables(info: VmcoreInfo, root: int) -> PageTables:
    levels = 5 if info.number("pgtable_l5_enabled") == 1 else 4
    return PageTables(root, levels, info.number("sme_mask") or 0)


PART = VmcorePart(
    registers=Registers(
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss"
        " fs_base gs_base ds es fs gs",
        pc="rip",
        sp="rsp",
    ),
    image=_image,
    tables=_tables,
    needed_lines=("NUMBER(phys_base)",),
    char_is_signed=True,
    marks_incomplete=True,
)
