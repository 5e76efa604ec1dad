"""/proc/kcore's headers and notes: where the running kernel has mapped what. No memory is read."""

from __future__ import annotations

import bisect
import struct
from functools import cached_property

from pykexec.errors import MachineError
from pykexec.machine.root import Root, unreadable
from pykexec.memory import GIB, MIB, Range, align_down, align_up
from pykexec.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO, Literal

    ProgramHeader = tuple[int, int, int, int, int, int]
    """Type, offset in the file, virtual and physical address, size in the file and in memory."""

PATH = "proc/kcore"

_NO_ADDRESS = ((1 << 64) - 1, (1 << 32) - 1)
"""p_paddr of what has no one physical address, vmalloc space for one (fs/proc/kcore.c)."""
_MAGIC = b"\x7fELF"
_CLASSES: Mapping[int, Literal[32, 64]] = {1: 32, 2: 64}
_ORDERS: Mapping[int, Literal["little", "big"]] = {1: "little", 2: "big"}
_ET_CORE, _PT_LOAD, _PT_NOTE = 4, 1, 4
_PN_XNUM = 0xFFFF
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
    bits: Literal[32, 64]
    """Of an address."""
    byte_order: Literal["little", "big"]
    segments: tuple[KcoreSegment, ...] = field(repr=False)
    vmcoreinfo: Mapping[str, str] = field(repr=False)
    """The lines NAME=VALUE of the VMCOREINFO note; empty before Linux 4.19, which has none here."""

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
        """The physical address at which the linear map ends: with 32 bits highmem begins there."""
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
    layout, machine, headers = _program_headers(file)
    loads = [header[2:] for header in headers if header[0] == _PT_LOAD]
    if not loads:
        raise ValueError("no mappings")
    # What has no address says so, where others have one; it may be that the only other one begins at 0.
    addressed = any(physical for _, physical, _, _ in loads)
    segments = tuple(
        KcoreSegment(virtual, physical if addressed and physical not in _NO_ADDRESS else None, memsz)
        for virtual, physical, _, memsz in loads
    )
    info = _vmcoreinfo(_notes(file, layout, headers))
    return Kcore(machine, layout.bits, layout.byte_order, segments, info)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How ELF headers of a class and a byte order are packed (elf(5))."""

    bits: Literal[32, 64]
    byte_order: Literal["little", "big"]

    @property
    def ident(self) -> bytes:
        """The beginning of a file, e_ident."""
        bits, order = {32: 1, 64: 2}[self.bits], {"little": 1, "big": 2}[self.byte_order]
        return bytes([*_MAGIC, bits, order, 1]).ljust(16, b"\0")

    @property
    def header(self) -> struct.Struct:
        """e_type to e_shstrndx."""
        word = self._word
        return struct.Struct(f"{self._order}HHI{word}{word}{word}IHHHHHH")

    @property
    def program_header(self) -> struct.Struct:
        """p_type, (p_flags,) p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, less flags and alignment."""
        return struct.Struct(f"{self._order}{'I4x5Q8x' if self.bits == 64 else '6I8x'}")

    @property
    def note(self) -> struct.Struct:
        return struct.Struct(f"{self._order}III")

    @property
    def _order(self) -> str:
        return "<" if self.byte_order == "little" else ">"

    @property
    def _word(self) -> str:
        return "Q" if self.bits == 64 else "I"


def _program_headers(file: IO[bytes]) -> tuple[_Layout, int, list[ProgramHeader]]:
    """Layout, machine and all program headers of a core file."""
    ident = file.read(16)
    if ident[:4] != _MAGIC or len(ident) < 16 or ident[4] not in _CLASSES or ident[5] not in _ORDERS:
        raise ValueError("no ELF header")
    layout = _Layout(_CLASSES[ident[4]], _ORDERS[ident[5]])
    header, row = layout.header, layout.program_header
    _, machine, _, _, start, _, _, _, entry_size, count, *_ = header.unpack(file.read(header.size))
    if entry_size != row.size or count >= _PN_XNUM:
        raise ValueError(f"{count} program headers of {entry_size} bytes")
    file.seek(start)
    table = file.read(row.size * count)
    if len(table) < row.size * count:
        raise ValueError(f"{count} program headers in {len(table)} bytes")
    return layout, machine, list(row.iter_unpack(table))


def _notes(
    file: IO[bytes], layout: _Layout, headers: Sequence[ProgramHeader]
) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents."""
    left = _NOTES_MAX
    for kind, offset, _, _, filesz, _ in headers:
        if kind != _PT_NOTE:
            continue
        left -= filesz
        if left < 0:
            raise ValueError(f"more than {_NOTES_MAX} bytes of notes")
        file.seek(offset)
        data = file.read(filesz)
        position = 0
        while position + layout.note.size <= len(data):
            name_size, size, _ = layout.note.unpack_from(data, position)
            name_at = position + layout.note.size
            content_at = name_at + align_up(name_size, 4)
            yield data[name_at : name_at + name_size].rstrip(b"\0"), data[content_at : content_at + size]
            position = content_at + align_up(size, 4)


def _vmcoreinfo(notes: Iterator[tuple[bytes, bytes]]) -> dict[str, str]:
    for name, content in notes:
        if name == b"VMCOREINFO":
            lines = content.rstrip(b"\0").decode("latin-1").split("\n")
            return dict(line.split("=", 1) for line in lines if "=" in line)
    return {}


def without_memory(root: Root) -> bytes:
    """/proc/kcore as a snapshot holds it: header, program headers, and of the notes VMCOREINFO alone.

    The others (PRSTATUS, TASKSTRUCT) are contents of the running kernel's memory. Raises MachineError.
    """
    kcore = read(root)
    layout = _Layout(kcore.bits, kcore.byte_order)
    content = "".join(f"{name}={value}\n" for name, value in kcore.vmcoreinfo.items()).encode("latin-1")
    name = b"VMCOREINFO\0"
    note = layout.note.pack(len(name), len(content), 0) + name.ljust(12, b"\0")
    note += content.ljust(align_up(len(content), 4), b"\0")
    # Written anew rather than cut out: then nothing that was not understood can slip in.
    phdr, count = layout.program_header, len(kcore.segments) + 1
    ehdr_size = len(layout.ident) + layout.header.size
    notes_at = ehdr_size + count * phdr.size
    ehdr = layout.header.pack(
        *(_ET_CORE, kcore.machine, 1, 0, ehdr_size, 0, 0, ehdr_size, phdr.size, count, 0, 0, 0)
    )
    headers = [phdr.pack(_PT_NOTE, notes_at, 0, 0, len(note), 0)]
    no_address = (1 << kcore.bits) - 1
    for each in kcore.segments:
        physical = no_address if each.physical is None else each.physical
        headers.append(phdr.pack(_PT_LOAD, 0, each.virtual, physical, each.size, each.size))
    return layout.ident + ehdr + b"".join(headers) + note
