"""Crash dumps made by hand, each format written from its own definition and not from the reader.

ELF: the gABI. kdump-compressed and flattened: makedumpfile's IMPLEMENTATION, diskdump_mod.h, makedumpfile.h.
Page tables: the processors' manuals.
"""

import itertools
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.support.elf import note as little_endian_note

Order = Literal["little", "big"]
PAGE = 4096
EM = {
    "i386": 3, "mips": 8, "ppc64": 21, "ppc64le": 21, "s390x": 22, "arm": 40, "sh": 42, "x86_64": 62,
    "vax": 75, "arm64": 183, "riscv64": 243, "loongarch64": 258,
}  # fmt: skip
ZLIB, LZO, SNAPPY, ZSTD = 1, 2, 4, 0x20


@dataclass(frozen=True)
class Part:
    """Memory in one piece: the content at a physical address, which is also at a virtual one."""

    physical: int
    content: bytes
    virtual: int = 0
    memory_size: int | None = None
    """The size in the headers; more than the content's where the rest was left out."""


def vmcoreinfo(lines: Mapping[str, object]) -> bytes:
    return "".join(f"{name}={value}\n" for name, value in lines.items()).encode()


def note(name: bytes, kind: int, content: bytes, order: Order = "little") -> bytes:
    if order == "little":
        return little_endian_note(name, kind, content)

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    return struct.pack(">III", len(name) + 1, len(content), kind) + padded(name + b"\0") + padded(content)


def vmcoreinfo_note(lines: Mapping[str, object], order: Order = "little") -> bytes:
    return note(b"VMCOREINFO", 0, vmcoreinfo(lines), order)


def elf(
    parts: Sequence[Part],
    *,
    notes: bytes = b"",
    machine: str = "x86_64",
    elf_class: int = 64,
    order: Order = "little",
    flags: int = 0,
    extended_count: bool = False,
    more_headers: int = 0,
) -> bytes:
    """Return an ELF core file. `more_headers` are empty ones, before the parts'."""
    prefix = "<" if order == "little" else ">"
    address = "Q" if elf_class == 64 else "I"
    header = struct.Struct(f"{prefix}16sHHI{address}{address}{address}IHHHHHH")
    program = struct.Struct(prefix + ("IIQQQQQQ" if elf_class == 64 else "IIIIIIII"))
    section = struct.Struct(prefix + ("IIQQQQIIQQ" if elf_class == 64 else "IIIIIIIIII"))
    count = 1 + more_headers + len(parts)
    section_at = header.size + count * program.size
    position = section_at + section.size

    def program_header(
        kind: int, offset: int, virtual: int, physical: int, in_file: int, in_memory: int
    ) -> bytes:
        if elf_class == 64:
            return program.pack(kind, 7, offset, virtual, physical, in_file, in_memory, 0)
        return program.pack(kind, offset, virtual, physical, in_file, in_memory, 7, 0)

    table = program_header(4, position, 0, 0, len(notes), len(notes))
    table += program_header(0, 0, 0, 0, 0, 0) * more_headers
    contents = [notes]
    position += len(notes)
    for part in parts:
        size = len(part.content)
        in_memory = size if part.memory_size is None else part.memory_size
        table += program_header(1, position, part.virtual, part.physical, size, in_memory)
        contents.append(part.content)
        position += size
    file_header = header.pack(
        b"\x7fELF" + bytes([2 if elf_class == 64 else 1, 1 if order == "little" else 2, 1]),
        4,
        EM[machine],
        1,
        0,
        header.size,
        section_at if extended_count else 0,
        flags,
        header.size,
        program.size,
        0xFFFF if extended_count else count,
        section.size,
        int(extended_count),
        0,
    )
    empty_section = section.pack(0, 0, 0, 0, 0, 0, 0, count, 0, 0)  # sh_info is the number of headers
    return file_header + table + empty_section + b"".join(contents)


def deflate(page: bytes) -> bytes:
    return zlib.compress(page, 1)


@dataclass(frozen=True)
class Kdump:
    """A dump in the kdump-compressed format."""

    pages: Mapping[int, bytes]
    """The saved pages by page frame number; all of one size."""
    holes: frozenset[int] = frozenset()
    """Page frames without memory. All others that are not in `pages` were left out."""
    page_count: int = 0
    version: int = 6
    machine: str = "x86_64"
    release: str = "6.1.0-test"
    order: Order = "little"
    block: int = PAGE
    lines: Mapping[str, object] = field(default_factory=dict)
    notes: bytes = b""
    flag: int = ZLIB
    compress: Callable[[bytes], bytes] = deflate
    status: int = 0
    dump_level: int = 31
    long: int = 8
    """The size of a long in bytes."""
    aligned: int = 8
    """The alignment of 64-bit numbers in bytes."""
    time_size: int = 16
    """The size of a struct timeval in bytes."""
    split: tuple[int, int] | None = None
    """The page frames of this part."""
    lost: frozenset[int] = frozenset()
    """Page frames whose descriptor was not written."""
    phys_base: int = 0
    """Where memory begins, by the sub header."""
    shared_zeros: bool = False
    """Whether pages full of zeros are stored once, uncompressed, before all others."""

    @property
    def count(self) -> int:
        return self.page_count or max(self.pages, default=0) + 1

    def build(self) -> bytes:
        prefix = "<" if self.order == "little" else ">"
        bitmap_blocks = -(-self.count // (8 * self.block))
        saved_at = self.block * (2 + bitmap_blocks)
        descriptors_at = saved_at + self.block * bitmap_blocks
        exists = set(range(self.count)) - self.holes
        saved = sorted(self.pages)
        first, end = self.split or (0, self.count)
        here = [each for each in saved if first <= each < end]
        data_at = descriptors_at + 24 * len(here)
        descriptors, data = b"", bytes(self.block if self.shared_zeros else 0)
        for number in here:
            if self.shared_zeros and not any(self.pages[number]):
                descriptors += struct.pack(prefix + "qIIQ", data_at, self.block, 0, 0)
                continue
            packed = self.compress(self.pages[number]) if self.flag else self.pages[number]
            flags = self.flag
            if len(packed) >= self.block:
                packed, flags = self.pages[number], 0
            if number in self.lost:
                descriptors += bytes(24)
                continue
            descriptors += struct.pack(prefix + "qIIQ", data_at + len(data), len(packed), flags, 0)
            data += packed
        info = vmcoreinfo(self.lines) if self.lines else b""
        info_at = data_at + len(data)
        sub = self._sub_header(prefix, info_at, len(info), first, end)
        return b"".join(
            [
                self._header(prefix, 2 * bitmap_blocks).ljust(self.block, b"\0"),
                sub.ljust(self.block, b"\0"),
                _bitmap(exists, bitmap_blocks * self.block),
                _bitmap(saved, bitmap_blocks * self.block),
                descriptors,
                data,
                info,
                self.notes,
            ]
        )

    def _header(self, prefix: str, bitmap_blocks: int) -> bytes:
        names = ("Linux", "host", self.release, "#1", self.machine, "")
        header = b"KDUMP   " + struct.pack(prefix + "i", self.version)
        header += b"".join(name.encode().ljust(65, b"\0") for name in names)
        alignment = self.aligned if self.time_size == 16 else 4
        header = header.ljust(-(-len(header) // alignment) * alignment, b"\0")
        header += struct.pack(prefix + ("QQ" if self.time_size == 16 else "II"), 1_700_000_000, 0)
        count = min(self.count, 0xFFFFFFFF)
        status = self.status | self.flag
        return header + struct.pack(
            prefix + "IiiIIIIIIi", status, self.block, 1, bitmap_blocks, count, 0, 0, 0, 0, 2
        )

    def _sub_header(self, prefix: str, info_at: int, info_size: int, first: int, end: int) -> bytes:
        long = "Q" if self.long == 8 else "I"
        split = self.split is not None
        fields = (
            (long, self.phys_base, 1),
            ("i", self.dump_level, 1),
            ("i", int(split), 2),
            (long, first if split else 0, 2),
            (long, end if split else 0, 2),
            ("q", info_at, 3),
            (long, info_size, 3),
            ("q", info_at + info_size, 4),
            (long, len(self.notes), 4),
            ("q", 0, 5),
            (long, 0, 5),
            ("Q", first if split else 0, 6),
            ("Q", end if split else 0, 6),
            ("Q", self.count, 6),
        )
        data = b""
        for code, value, version in fields:
            if version > self.version:
                break
            alignment = self.aligned if code in "qQ" else 4
            data += bytes(-len(data) % alignment) + struct.pack(prefix + code, value)
        return data


def _bitmap(numbers: Iterable[int], size: int) -> bytes:
    bits = bytearray(size)
    for number in numbers:
        bits[number // 8] |= 1 << number % 8
    return bytes(bits)


def flattened(content: bytes, cuts: Iterable[int] = (), *, end: bool = True) -> bytes:
    """Return `makedumpfile -F` of that file, with blocks that begin at the cuts, the last block first."""
    places = sorted({0, len(content), *(cut for cut in cuts if 0 < cut < len(content))})
    blocks = [(start, content[start:stop]) for start, stop in itertools.pairwise(places) if stop > start]
    return flattened_blocks(blocks[::-1], end=end)


def flattened_blocks(blocks: Iterable[tuple[int, bytes]], *, end: bool = True) -> bytes:
    """Return the stream of these (offset, content) blocks."""
    stream = struct.pack(">16sqq", b"makedumpfile", 1, 1).ljust(4096, b"\0")
    for offset, data in blocks:
        stream += struct.pack(">qq", offset, len(data)) + data
    return stream + (struct.pack(">qq", -1, -1) if end else b"")


def pages_of(parts: Iterable[Part], block: int = PAGE) -> dict[int, bytes]:
    """Return the pages by page frame number; gaps in a page are zeros."""
    pages: dict[int, bytearray] = {}
    for part in parts:
        position = 0
        while position < len(part.content):
            number, start = divmod(part.physical + position, block)
            taken = part.content[position : position + block - start]
            pages.setdefault(number, bytearray(block))[start : start + len(taken)] = taken
            position += len(taken)
    return {number: bytes(page) for number, page in pages.items()}


@dataclass
class TableBuilder:
    """Builds page tables in memory from an address on. `levels` count from the root down."""

    page_size: int
    levels: int
    next_free: int
    top_bits: int
    """The bits of the virtual address that index the root table."""
    table: Callable[[int], int]
    """Returns the entry that points to a table."""
    page: Callable[[int], int]
    block: Callable[[int], int]
    memory: dict[int, bytearray] = field(default_factory=dict)
    root: int = 0

    def __post_init__(self) -> None:
        self.root = self._new()

    def _new(self) -> int:
        address = self.next_free
        self.next_free += self.page_size
        self.memory[address] = bytearray(self.page_size)
        return address

    def map(self, virtual: int, physical: int, *, depth: int = 0) -> None:
        """Map one page or, with `depth`, the block of an entry so many levels above the last one."""
        shift, bits = self.page_size.bit_length() - 1, self.page_size.bit_length() - 4
        where = self.root
        for level in range(self.levels - 1, depth, -1):
            at = where, self._index(virtual, shift + bits * level, level, bits)
            entry = self._get(*at)
            if entry == 0:
                made = self._new()
                self._set(*at, self.table(made))
                self._tables[self.table(made)] = made
                where = made
            else:
                where = self._tables[entry]
        leaf = self.block(physical) if depth else self.page(physical)
        self._set(where, self._index(virtual, shift + bits * depth, depth, bits), leaf)

    def _index(self, virtual: int, shift: int, level: int, bits: int) -> int:
        width = self.top_bits if level == self.levels - 1 else bits
        return virtual >> shift & ((1 << width) - 1)

    def _get(self, table: int, index: int) -> int:
        return int.from_bytes(self.memory[table][8 * index : 8 * index + 8], "little")

    def _set(self, table: int, index: int, entry: int) -> None:
        self.memory[table][8 * index : 8 * index + 8] = entry.to_bytes(8, "little")

    _tables: dict[int, int] = field(default_factory=dict)

    def parts(self) -> list[Part]:
        return [Part(address, bytes(data)) for address, data in self.memory.items()]
