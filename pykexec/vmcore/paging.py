"""Where the crashed kernel's page tables say a virtual address is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pykexec.memory import KIB
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

ReadEntry = Callable[[int], int]
"""The 64-bit table entry at a physical address. Raises DumpError when it is not in the dump."""

_MASK64 = (1 << 64) - 1


class Place(NamedTuple):
    """A physical address, and how many bytes from there are mapped in one piece."""

    physical: int
    size: int


@dataclass(frozen=True, slots=True)
class X86Tables:
    """x86_64 with 4 or 5 levels (Intel SDM volume 3, chapter 4; arch/x86/include/asm/pgtable_64_types.h)."""

    root: int
    """Physical address of swapper_pg_dir."""
    levels: int
    encrypted: int = 0
    """The bit that marks encrypted pages (AMD's SME) and is no part of the address."""

    def translate(self, virtual: int, read_entry: ReadEntry) -> Place | None:
        """None where nothing is mapped."""
        table = self.root
        for level in reversed(range(self.levels)):
            shift = 12 + 9 * level
            entry = read_entry(table + (virtual >> shift & 0x1FF) * 8) & ~self.encrypted
            present, large = entry & 1, level in (1, 2) and entry & 0x80
            if not present:
                return None
            table = entry & 0xF_FFFF_FFFF_F000
            if large or level == 0:
                return _within(table & -(1 << shift), virtual, shift)
        return None


@dataclass(frozen=True, slots=True)
class ArmTables:
    """arm64 with any granule (Arm ARM, D8; arch/arm64/include/asm/pgtable-hwdef.h)."""

    root: int
    """Physical address of swapper_pg_dir."""
    page_size: int
    virtual_bits: int
    """That the processor uses: 64 - TCR_EL1.T1SZ."""
    table_bits: int
    """That the kernel was built for (VA_BITS). Its top table is that large where it can be."""

    @property
    def levels(self) -> int:
        return self._levels_for(self.virtual_bits)

    def translate(self, virtual: int, read_entry: ReadEntry) -> Place | None:
        """None where nothing is mapped."""
        page_shift = self.page_size.bit_length() - 1
        index_bits = page_shift - 3
        table = self.root
        for level in reversed(range(self.levels)):
            shift = page_shift + index_bits * level
            bits = index_bits
            # The top table of a kernel for 52 bits keeps its size on a processor with 48: the entries in use
            # are the last ones then (TTBR1_BADDR_4852_OFFSET).
            if level == self.levels - 1 and self._levels_for(self.table_bits) == self.levels:
                bits = min(index_bits, self.table_bits - shift)
            entry = read_entry(table + (virtual >> shift & ((1 << bits) - 1)) * 8)
            kind = entry & 3
            if not kind & 1 or (kind == 1 and level == 0):
                return None
            table = self._address(entry)
            if kind == 1 or level == 0:
                return _within(table & -(1 << shift), virtual, shift)
        return None

    def _levels_for(self, virtual_bits: int) -> int:
        page_shift = self.page_size.bit_length() - 1
        return -(-(virtual_bits - page_shift) // (page_shift - 3))

    def _address(self, entry: int) -> int:
        """The output address of a descriptor: with 52 bits some of it stands in otherwise unused places."""
        if self.page_size == 64 * KIB:
            return entry & 0xFFFF_FFFF_0000 | (entry >> 12 & 0xF) << 48
        if self.virtual_bits > 48:  # FEAT_LPA2
            return entry & 0x3_FFFF_FFFF_F000 & -self.page_size | (entry >> 8 & 3) << 50
        return entry & 0xFFFF_FFFF_F000 & -self.page_size


Tables = X86Tables | ArmTables


def _within(start: int, virtual: int, shift: int) -> Place:
    offset = virtual & ((1 << shift) - 1)
    return Place(start + offset, (1 << shift) - offset)


_START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
"""__START_KERNEL_map, arch/x86/include/asm/page_64_types.h."""
_KERNEL_IMAGE_SIZE = 512 << 20
"""Where VMCOREINFO does not have it: before Linux 4.13, and without KASLR."""


def kernel_image(arch: str, info: VmcoreInfo, virtual: int) -> Place | None:
    """Where an address of the kernel's own image is, by VMCOREINFO alone."""
    if arch == "x86_64":
        base = info.number("phys_base")
        size = info.number("KERNEL_IMAGE_SIZE") or _KERNEL_IMAGE_SIZE
        offset = virtual - _START_KERNEL_MAP
        if base is not None and 0 <= offset < size and offset + base >= 0:
            return Place(offset + base, size - offset)
    if arch == "arm64":
        distance = info.address("kimage_voffset")
        if distance is not None and virtual >= distance:
            return Place(virtual - distance, _to_page_end(virtual, info))
    return None


def linear_map(arch: str, info: VmcoreInfo, virtual: int) -> Place | None:
    """Where an address of the linear map is, by VMCOREINFO alone."""
    start = _linear_start(arch, info)
    base = info.address("PHYS_OFFSET")
    if base is None:
        base = info.address("phys_ram_base")
    if start is None or base is None or virtual < start:
        return None
    return Place((virtual - start + base) & _MASK64, _to_page_end(virtual, info))


def tables(arch: str, info: VmcoreInfo) -> Tables | None:
    """The kernel's page tables, where VMCOREINFO tells enough."""
    symbol = info.symbol("swapper_pg_dir")
    if symbol is None:
        return None
    root = kernel_image(arch, info, symbol)
    if root is None:
        return None
    if arch == "x86_64":
        levels = 5 if info.number("pgtable_l5_enabled") == 1 else 4
        return X86Tables(root.physical, levels, info.number("sme_mask") or 0)
    bits, page_size = virtual_bits(info), info.page_size
    if arch == "arm64" and bits and page_size in (4 * KIB, 16 * KIB, 64 * KIB):
        built_for = info.number("VA_BITS") or bits
        return ArmTables(root.physical, page_size, bits, max(bits, built_for))
    return None


def virtual_bits(info: VmcoreInfo) -> int | None:
    """The bits of an arm64 kernel's virtual addresses that are in use; None where they make no sense."""
    size = info.number("TCR_EL1_T1SZ")
    bits = info.number("VA_BITS") if size is None else 64 - size
    return bits if bits is not None and 36 <= bits <= 52 else None


def _linear_start(arch: str, info: VmcoreInfo) -> int | None:
    stated = info.lines.get("NUMBER(PAGE_OFFSET)")
    if stated is not None:
        return info.address("PAGE_OFFSET")
    bits = info.number("VA_BITS")
    # Since Linux 5.4 the linear map is the lower half (arch/arm64/include/asm/memory.h, PAGE_OFFSET).
    if arch == "arm64" and bits is not None and 36 <= bits <= 52:
        return (1 << 64) - (1 << bits)
    return None


def _to_page_end(virtual: int, info: VmcoreInfo) -> int:
    page_size = info.page_size or 4 * KIB
    return page_size - virtual % page_size if page_size > 0 else 1
