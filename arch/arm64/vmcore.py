"""The properties of arm64's dumps."""

from dataclasses import dataclass

from pykexec.arch.arm64 import ARCH
from pykexec.memory import KIB
from pykexec.vmcore.paging import to_page_end, within
from pykexec.vmcore.part import Place, ReadEntry, Registers, VmcorePart
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

_BITS_MIN, _BITS_MAX = 36, 52
"""The limits of the width of virtual addresses (arch/arm64/Kconfig, ARM64_VA_BITS)."""


@dataclass(frozen=True, slots=True)
class PageTables:
    """Page tables of any granule (Arm ARM, D8; arch/arm64/include/asm/pgtable-hwdef.h)."""

    root: int
    """The physical address of swapper_pg_dir."""
    page_size: int
    virtual_bits: int
    """The width that the processor uses: 64 - TCR_EL1.T1SZ."""
    table_bits: int
    """The width that the kernel was built for (VA_BITS); the top table has the size for it where it can."""

    entry_size = 8

    @property
    def levels(self) -> int:
        return self._levels_for(self.virtual_bits)

    def translate(self, virtual: int, read_entry: ReadEntry) -> Place | None:
        """Return where a virtual address is; None where nothing is mapped. Raises DumpError."""
        page_shift = self.page_size.bit_length() - 1
        index_bits = page_shift - 3
        table = self.root
        for level in reversed(range(self.levels)):
            shift = page_shift + index_bits * level
            bits = index_bits
            # The top table of a kernel for 52 bits keeps its size on a processor with 48. Then the last
            # entries are in use (TTBR1_BADDR_4852_OFFSET).
            if level == self.levels - 1 and self._levels_for(self.table_bits) == self.levels:
                bits = min(index_bits, self.table_bits - shift)
            entry = read_entry(table + (virtual >> shift & ((1 << bits) - 1)) * 8)
            kind = entry & 3
            if not kind & 1 or (kind == 1 and level == 0):
                return None
            table = self._address(entry)
            if kind == 1 or level == 0:
                return within(table & -(1 << shift), virtual, shift)
        return None

    def _levels_for(self, virtual_bits: int) -> int:
        page_shift = self.page_size.bit_length() - 1
        return -(-(virtual_bits - page_shift) // (page_shift - 3))

    def _address(self, entry: int) -> int:
        """Return a descriptor's output address.

        With 52 bits, some of its bits are in places that were not used before.
        """
        if self.page_size == 64 * KIB:
            return entry & 0xFFFF_FFFF_0000 | (entry >> 12 & 0xF) << 48
        if self.virtual_bits > 48:  # FEAT_LPA2
            return entry & 0x3_FFFF_FFFF_F000 & -self.page_size | (entry >> 8 & 3) << 50
        return entry & 0xFFFF_FFFF_F000 & -self.page_size


def _image(info: VmcoreInfo, virtual: int) -> Place | None:
    distance = info.address("kimage_voffset")
    if distance is None or virtual < distance:
        return None
    return Place(virtual - distance, to_page_end(info, virtual))


def _linear_start(info: VmcoreInfo) -> int | None:
    bits = _possible(info.number("VA_BITS"))
    # Since Linux 5.4 the linear map is the lower half (arch/arm64/include/asm/memory.h, PAGE_OFFSET).
    return None if bits is None else (1 << 64) - (1 << bits)


def _tables(info: VmcoreInfo, root: int) -> PageTables | None:
    bits, page_size = _virtual_bits(info), info.page_size
    if bits is None or page_size is None or page_size not in ARCH.page_sizes:
        return None
    built_for = info.number("VA_BITS") or bits
    return PageTables(root, page_size, bits, max(bits, built_for))


def _virtual_bits(info: VmcoreInfo) -> int | None:
    """Return the bits of virtual addresses that are in use; None where they make no sense."""
    size = info.number("TCR_EL1_T1SZ")
    return _possible(info.number("VA_BITS") if size is None else 64 - size)


def _possible(bits: int | None) -> int | None:
    return bits if bits is not None and _BITS_MIN <= bits <= _BITS_MAX else None


def _unreadable_by_crash(info: VmcoreInfo) -> str | None:
    if _virtual_bits(info) is not None:
        return None
    return "VMCOREINFO has no size of virtual addresses that makes sense (VA_BITS, TCR_EL1_T1SZ)"


PART = VmcorePart(
    registers=Registers(" ".join((*(f"x{n}" for n in range(31)), "sp", "pc", "pstate")), pc="pc", sp="sp"),
    image=_image,
    is_image_bounded=False,  # the formula covers modules and all else above, too
    linear_start=_linear_start,
    tables=_tables,
    needed_lines=("NUMBER(VA_BITS)", "NUMBER(kimage_voffset)", "NUMBER(PHYS_OFFSET)"),
    unreadable_by_crash=_unreadable_by_crash,
    char_is_signed=False,
    marks_incomplete=True,
)
