"""/proc/kcore's headers and notes: where the running kernel has mapped what. No memory is read."""

from __future__ import annotations

import bisect
import struct
from functools import cached_property

from pykexec.errors import MachineError
from pykexec.formats import elfheader
from pykexec.formats.elfheader import (
    ET_CORE,
    IDENT_SIZE,
    PN_XNUM,
    PT_LOAD,
    PT_NOTE,
    Encoding,
    ProgramHeader,
)
from pykexec.machine.root import Root, unreadable
from pykexec.memory import GIB, MIB, Range, align_down, align_up
from pykexec.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

    from pykexec.formats.elfheader import Header, Row
    from pykexec.names import ByteOrder

PATH = "proc/kcore"

_NO_ADDRESS = ((1 << 64) - 1, (1 << 32) - 1)
"""p_paddr of what has no one physical address, vmalloc space for one (fs/proc/kcore.c)."""
_NOTE = {"little": struct.Struct("<III"), "big": struct.Struct(">III")}
"""The sizes of name and content, and the type (elf(5))."""
_NOTES_MAX = 1 * MIB
"""All together: registers, task_struct, and VMCOREINFO, which is a page (fs/proc/kcore.c)."""


@dataclass(frozen=True, slots=True)
class KcoreSegment:
    """A mapping of the running kernel: virtual address and size in bytes, and where it leads."""

    virtual: int
    physical: int | None
    size: int

    @property
    def range(self) -> Range:
        """The physical addresses it maps; empty when there is no telling."""
        return Range(0, 0) if self.physical is None else Range.sized(self.physical, self.size)


@dataclass(frozen=True)
class Kcore:
    """The virtual layout of the running kernel."""

    machine: int
    """The ELF header's e_machine, EM_X86_64 and the like."""
    bits: int
    """Of an address: 32 or 64."""
    byte_order: ByteOrder
    segments: tuple[KcoreSegment, ...] = field(repr=False)
    vmcoreinfo_lines: tuple[tuple[str, str], ...] = field(repr=False)
    """The lines NAME=VALUE of the VMCOREINFO note, of which kernels write some twice
    (SYMBOL(contig_page_data): kernel/crash_core.c and arch/powerpc/kexec/core.c)."""

    @cached_property
    def vmcoreinfo(self) -> Mapping[str, str]:
        """Those lines by name; empty before Linux 4.19, which has none here."""
        return dict(self.vmcoreinfo_lines)

    def kernel_text(self, physical: int, stext: int | None = None) -> KcoreSegment | None:
        """The mapping the kernel runs from.

        That is the one with `_stext` in it (by default VMCOREINFO's); where that is not known, the smallest
        of those that map `physical`, the start of the kernel's code, which the linear map maps too. Raises
        MachineError when VMCOREINFO makes no sense.
        """
        if stext is None and "SYMBOL(_stext)" in self.vmcoreinfo:
            stext = self._symbol("_stext")
        if stext is not None:
            for each in self.segments:
                if each.virtual <= stext < each.virtual + each.size:
                    return each
        mapping = [each for each in self.segments if physical in each.range]
        return min(mapping, key=lambda each: each.size) if len(mapping) > 1 else None

    def _symbol(self, name: str) -> int:
        text = self.vmcoreinfo[f"SYMBOL({name})"]
        try:
            return int(text, 16)
        except ValueError:
            raise MachineError(f"/proc/kcore: SYMBOL({name}) is no address: {text[:40]!r}") from None

    def virtual_of(self, physical: int) -> int | None:
        """Where the linear map has that physical address, or would have it."""
        index = bisect.bisect_right(self._linear_map, physical, key=_start) - 1
        if index >= 0:
            each = self._linear_map[index]
            if physical <= _ends(each)[1]:
                return each.virtual + physical - _start(each)
        offset = self._linear_offset
        return None if offset is None else physical + offset

    @cached_property
    def _linear_map(self) -> tuple[KcoreSegment, ...]:
        """Segments with a physical address, less the kernel's own mapping, which lies over one of them."""
        return tuple(
            sorted(_largest_apart([each for each in self.segments if _is_mapped(each)]), key=_start)
        )

    @cached_property
    def _linear_offset(self) -> int | None:
        """Virtual less physical address of all linear mappings, where they agree."""
        offsets = {each.virtual - (each.physical or 0) for each in self._linear_map}
        if not offsets and self.segments:
            # Before Linux 4.19 p_paddr is 0 everywhere. The lowest mapping is the linear one; KASLR moves it
            # by multiples of 1 GiB (arch/x86/mm/kaslr.c), and with 32 bits it begins at physical 0.
            lowest = min(each.virtual for each in self.segments)
            return align_down(lowest, GIB) if self.bits == 64 else lowest
        return offsets.pop() if len(offsets) == 1 else None

    @cached_property
    def linear_end(self) -> int:
        """The physical address at which the linear map ends; on 32 bits, highmem begins there."""
        if self.bits == 64:
            return 1 << 64
        ends = [each.range.end for each in self._linear_map]
        return max(ends) if ends else min(self.segments, key=lambda each: each.virtual).size


def _is_mapped(segment: KcoreSegment) -> bool:
    return segment.physical is not None and segment.size > 0


def _start(segment: KcoreSegment) -> int:
    return segment.physical or 0


def _ends(segment: KcoreSegment) -> tuple[int, int]:
    """Its first and last byte; no `Range`, for a large machine has a hundred thousand of these."""
    start = _start(segment)
    return start, start + segment.size - 1


def _largest_apart(segments: Sequence[KcoreSegment]) -> Iterator[KcoreSegment]:
    """Of segments (none empty) that lie over each other in physical memory the largest, or the first such.

    What is not larger than another one can lie over that only with its first or its last byte. So it is
    enough to remember which of these bytes, of all segments, are taken: n log n steps for n segments.
    """
    ends = sorted({end for each in segments for end in _ends(each)})
    places = dict(zip(ends, range(len(ends)), strict=True))
    taken = bytearray(len(places))
    for each in sorted(segments, key=lambda each: -each.size):
        first, last = map(places.__getitem__, _ends(each))
        if not taken[first] and not taken[last]:
            taken[first : last + 1] = bytes([1]) * (last + 1 - first)
            yield each


def read(root: Root) -> Kcore:
    """Read headers and notes. Raises MachineError when there is no kcore, or it is damaged."""
    file = root.open(PATH)
    if file is None:
        raise MachineError("/proc/kcore is missing", hint="the running kernel needs CONFIG_PROC_KCORE=y")
    with file:
        try:
            return _parse(file)
        except OSError as error:
            raise unreadable("/proc/kcore", error) from error
        except (struct.error, ValueError, OverflowError, UnicodeDecodeError) as error:
            raise MachineError(f"/proc/kcore: not the ELF file it should be: {error}") from error


def _parse(file: IO[bytes]) -> Kcore:
    encoding, header, rows = _headers(file)
    loads = [
        (virtual, physical, size) for kind, _, _, virtual, physical, _, size, _ in rows if kind == PT_LOAD
    ]
    if not loads:
        raise ValueError("no mappings")
    # What has no address says so, where others have one; it may be that the only other one begins at 0.
    addressed = any(physical for _, physical, _ in loads)
    segments = tuple(
        KcoreSegment(virtual, physical if addressed and physical not in _NO_ADDRESS else None, size)
        for virtual, physical, size in loads
    )
    info = _vmcoreinfo(_notes(file, encoding.order, rows))
    return Kcore(header.machine, encoding.bits, encoding.order, segments, info)


def _headers(file: IO[bytes]) -> tuple[Encoding, Header, list[Row]]:
    """Return how a core file is written, its file header and its program headers."""
    ident = file.read(IDENT_SIZE)
    encoding = elfheader.encoding(ident)
    if encoding is None:
        raise ValueError("no ELF header")
    header = encoding.header(ident + file.read(encoding.header_size - IDENT_SIZE))
    size, count = header.program_header_size, header.program_header_count
    if size != encoding.program_header_size or count >= PN_XNUM:
        raise ValueError(f"{count} program headers of {size} bytes")
    file.seek(header.program_headers_at)
    table = file.read(size * count)
    if len(table) < size * count:
        raise ValueError(f"{count} program headers in {len(table)} bytes")
    return encoding, header, list(encoding.rows(table))


def _notes(file: IO[bytes], order: ByteOrder, rows: Sequence[Row]) -> Iterator[tuple[bytes, bytes]]:
    """Yield names and contents."""
    left, layout = _NOTES_MAX, _NOTE[order]
    for kind, _, offset, _, _, filesz, _, _ in rows:
        if kind != PT_NOTE:
            continue
        left -= filesz
        if left < 0:
            raise ValueError(f"more than {_NOTES_MAX} bytes of notes")
        file.seek(offset)
        data = file.read(filesz)
        position = 0
        while position + layout.size <= len(data):
            name_size, size, _ = layout.unpack_from(data, position)
            name_at = position + layout.size
            content_at = name_at + align_up(name_size, 4)
            yield data[name_at : name_at + name_size].rstrip(b"\0"), data[content_at : content_at + size]
            position = content_at + align_up(size, 4)


def _vmcoreinfo(notes: Iterator[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    for name, content in notes:
        if name == b"VMCOREINFO":
            lines = content.rstrip(b"\0").decode("latin-1").split("\n")
            parts = (line.partition("=") for line in lines)
            return tuple((name, value) for name, equals, value in parts if equals)
    return ()


def without_memory(root: Root) -> bytes:
    """/proc/kcore as a snapshot holds it: header, program headers, and of the notes VMCOREINFO alone.

    The others (PRSTATUS, TASKSTRUCT) are contents of the running kernel's memory. Raises MachineError.
    """
    kcore = read(root)
    encoding = Encoding(kcore.bits, kcore.byte_order)
    content = "".join(f"{name}={value}\n" for name, value in kcore.vmcoreinfo_lines).encode("latin-1")
    name = b"VMCOREINFO\0"
    note = _NOTE[encoding.order].pack(len(name), len(content), 0) + name.ljust(12, b"\0")
    note += content.ljust(align_up(len(content), 4), b"\0")
    # Written anew rather than cut out: then nothing that was not understood can slip in.
    notes_at = encoding.header_size + (1 + len(kcore.segments)) * encoding.program_header_size
    no_address = (1 << encoding.bits) - 1
    headers = [ProgramHeader(PT_NOTE, 0, notes_at, 0, 0, len(note), 0)]
    for each in kcore.segments:
        physical = no_address if each.physical is None else each.physical
        headers.append(ProgramHeader(PT_LOAD, 0, 0, each.virtual, physical, each.size, each.size))
    return encoding.build(ET_CORE, kcore.machine, headers) + note
