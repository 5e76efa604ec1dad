"""kexec jump: start a kernel in memory that the running one lends it, and jump back.

The running kernel swaps the pages of all segments for the new kernel's when it starts that, and again after
the jump back (KEXEC_PRESERVE_CONTEXT, swap_pages in arch/x86/kernel/relocate_kernel_64.S). So all memory
that the new kernel may write to must be in segments.
"""

import struct
from collections.abc import Iterable, Iterator

from pykexec import elfcore, purgatory
from pykexec.arch import Arch
from pykexec.arch.x86 import crash
from pykexec.arch.x86.preparation import ABOVE_LOW_MEMORY, Leave, console, free_memory
from pykexec.booting import crash as generic_crash
from pykexec.booting.context import PURGATORY, Context, flags
from pykexec.booting.crash import CrashMemory
from pykexec.errors import PlacementError, UsageError
from pykexec.machine import Machine
from pykexec.memory import GIB, KIB, MIB, Range, RangeSet, align_down
from pykexec.plan import ADDRESS_SPACE, LoadPlan, Request, Segment
from pykexec.values import dataclass

_PAGE = 4 * KIB
_TABLES = "page_tables"


def divide_memory(machine: Machine, within: Range) -> CrashMemory:
    """Return which memory the new kernel gets (`reserved`), and which the running one keeps (`dumped`).

    Raises UsageError where `within` has no end, PlacementError where it holds too much or too little.
    """
    if within.end == ADDRESS_SPACE.end:
        raise UsageError(
            "Please specify memory range used by kexeced kernel to preserve the context of original kernel",
            hint="with --mem-max, and --mem-min if need be: --mem-max=0xfffffff for the first 256 MiB",
        )
    ram = machine.iomem.system_ram.minus(machine.crash_regions)
    lent = free_memory(machine).intersect(ram).intersect([within]).aligned_inwards(_PAGE)
    if not lent or lent.size * 2 > ram.size:  # sanity_check_segment_list() in kernel/kexec_core.c
        raise PlacementError(
            f"between --mem-min and --mem-max are {lent.size // MIB} MiB of {ram.size // MIB} MiB of RAM;"
            " what is there now has to be kept in the rest",
            hint=f"choose bounds with some memory between them, less than {ram.size // 2 // MIB} MiB",
        )
    return CrashMemory(lent.ranges, ram.minus(lent).minus(machine.iomem.find("GART")))


def core_headers(arch: Arch, machine: Machine, memory: CrashMemory) -> bytes:
    """Return ELF core headers for the memory that stays where it is. Raises MachineError.

    They are empty where none of the notes stays: a kernel reads no headers without notes (fs/proc/vmcore.c).
    """

    def stays(address: int, size: int) -> bool:
        return memory.dumped.covers(Range.sized(address, size))

    info, text = machine.vmcoreinfo, crash.kernel_text(arch, machine)
    notes = [note for note in machine.cpu_notes if stays(note.address, note.size)]
    info = info if info and stays(info.address, info.size) else None
    if not (notes or info):
        return b""
    parts = [each for each in text if stays(each.physical, each.size)]
    parts += generic_crash.linear_map(machine, memory)
    elf = crash.encoding(arch, memory, None)
    return elfcore.build(elf, cpu_notes=notes, vmcoreinfo=info, memory=parts)


def rest(lent: RangeSet, segments: Iterable[Segment]) -> Iterator[Segment]:
    """Yield segments without contents for the lent memory that is in no segment yet."""
    for each in lent.minus([segment.range for segment in segments]):
        yield Segment("lent", each.start, each.size, memoryview(b""), "free memory of the new kernel")


def plan_back(arch: Arch, machine: Machine, request: Request) -> LoadPlan:
    """Return a plan to jump back to the kernel that waits at `request.jump_back`. Raises PykexecError.

    On x86_64 the page tables with which the running kernel leaves do not map that kernel, unless its own
    memory is near (init_pgtable() in arch/x86/kernel/machine_kexec_64.c). So purgatory brings its own.
    """
    address = request.jump_back or 0
    end = min(_ADDRESSES_END, arch.address_end)
    if not 0 < address < end:
        bits = end.bit_length() - 1
        raise UsageError(f"no kernel can wait at {address:#x}: physical addresses have {bits} bits at most")
    free = free_memory(machine).intersect([ABOVE_LOW_MEMORY])
    layout = Context.begin(arch, machine, request, free).layout
    blob = purgatory.load_blob(arch.name)
    within = Range(0, _FOUR_LEVELS_END)
    entry = layout.place(
        PURGATORY, blob.memsz, alignment=blob.alignment, within=within, why="jumps back to the other kernel"
    )
    top, regions = (0, 0), []
    if arch.names.elf.bits == 64:
        mapped = [layout.range(PURGATORY), Range.sized(address, 1)]
        size = len(identity_map(0, mapped).image)
        tables = identity_map(layout.place(_TABLES, size, within=within, why="map that kernel"), mapped)
        layout.fill(_TABLES, tables.image)
        top = tables.four_levels, tables.five_levels
        regions = [purgatory.Region(_TABLES, layout.range(_TABLES).start, layout.data(_TABLES))]
    image = purgatory.build(
        blob,
        jump_to=address,
        arguments=(*top, 0, Leave.BACK),
        digests=purgatory.digest_regions([] if request.skip_checks else regions),
        console=console(machine, request, machine.command_line),
        called=True,
    )
    layout.fill(PURGATORY, image)
    return LoadPlan(
        arch=arch.name,
        purpose=request.purpose,
        image=f"what waits at {address:#x}",
        image_format="kexec jump",
        initrd=None,
        command_line="",
        entry=entry + blob.entry_offset,
        flags=flags(arch, request),
        segments=layout.segments(),
    )


# Intel SDM volume 3, 4.5: bits of entries, and their number in a table.
_PRESENT_WRITABLE = 0x63
"""Also accessed and dirty, so that the CPU does not change what was digested."""
_LARGE_PAGE = 0x80
_ENTRIES = 512
_FOUR_LEVELS_END = 1 << 48
_ADDRESSES_END = 1 << 52


@dataclass(frozen=True, slots=True)
class PageTables:
    """Page tables that map memory to its own addresses."""

    image: bytes
    four_levels: int
    """The physical address of the top table for four levels."""
    five_levels: int


def identity_map(address: int, ranges: Iterable[Range]) -> PageTables:
    """Return page tables, to lie at `address`, for every GiB that one of the ranges touches (physical)."""
    gibs = {at for each in ranges for at in range(align_down(each.start, GIB), each.end, GIB)}
    # A table of level n has entries of 2^(12 + 9 (n - 1)) bytes each. Its name is its level and number.
    names = sorted({(level, at >> (12 + 9 * level)) for level in (2, 3, 4, 5) for at in gibs}, reverse=True)
    places = {name: address + _PAGE * index for index, name in enumerate(names)}
    image = b"".join(struct.pack(f"<{_ENTRIES}Q", *_entries(name, places)) for name in names)
    return PageTables(image, four_levels=places[4, 0], five_levels=places[5, 0])


def _entries(name: tuple[int, int], places: dict[tuple[int, int], int]) -> Iterator[int]:
    level, number = name
    for below in range(number * _ENTRIES, (number + 1) * _ENTRIES):
        if level == 2:
            yield below << 21 | _PRESENT_WRITABLE | _LARGE_PAGE
        else:
            table = places.get((level - 1, below))
            yield 0 if table is None else table | _PRESENT_WRITABLE
