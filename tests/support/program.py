"""Executables made by hand: ELF files of both classes (elf(5)), and Multiboot headers for them."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Load:
    """A PT_LOAD header and its bytes; None means what the bytes imply."""

    address: int
    data: bytes = b""
    memsz: int | None = None
    virtual: int | None = None
    filesz: int | None = None
    align: int = 4096


@dataclass(frozen=True)
class Program:
    """An ELF file; `count` and `size` are the header's statements about its program headers."""

    loads: Sequence[Load]
    entry: int
    bits: int = 64
    machine: int = 62
    order: str = "<"
    kind: int = 2
    more: Sequence[int] = field(default=())
    """The types of further, empty program headers."""
    count: int | None = None
    size: int | None = None

    def build(self) -> bytes:
        wide = self.bits == 64
        header_size, row_size = (64, 56) if wide else (52, 32)
        count = len(self.loads) + len(self.more)
        at = header_size + row_size * count
        rows, content = b"", b""
        for load in self.loads:
            filesz = len(load.data) if load.filesz is None else load.filesz
            memsz = len(load.data) if load.memsz is None else load.memsz
            virtual = load.address if load.virtual is None else load.virtual
            place = at + len(content)
            if wide:
                numbers = (1, 7, place, virtual, load.address, filesz, memsz, load.align)
            else:
                numbers = (1, place, virtual, load.address, filesz, memsz, 7, load.align)
            rows += struct.pack(self.order + ("IIQQQQQQ" if wide else "8I"), *numbers)
            content += load.data
        for kind in self.more:
            rows += struct.pack(f"{self.order}I", kind).ljust(row_size, b"\0")
        ident = bytes([*b"\x7fELF", 2 if wide else 1, 1 if self.order == "<" else 2, 1]).ljust(16, b"\0")
        header = struct.pack(
            self.order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"),
            *(self.kind, self.machine, 1, self.entry, header_size, 0, 0, header_size),
            *(row_size if self.size is None else self.size, count if self.count is None else self.count),
            *(0, 0, 0),
        )
        return ident + header + rows + content


def multiboot1(flags: int = 0, *addresses: int, checksum: int | None = None) -> bytes:
    """Return a header of version 1.

    `addresses` are header_addr, load_addr, load_end_addr, bss_end_addr, entry.
    """
    total = -(0x1BADB002 + flags) & 0xFFFFFFFF if checksum is None else checksum
    return struct.pack(f"<{3 + len(addresses)}I", 0x1BADB002, flags, total, *addresses)


def multiboot2(*tags: tuple[int, int, bytes], architecture: int = 0, length: int | None = None) -> bytes:
    """Return a header of version 2 with (type, flags, content) tags and the end tag."""
    content = b"".join(
        (struct.pack("<HHI", kind, flags, 8 + len(data)) + data).ljust((15 + len(data)) // 8 * 8, b"\0")
        for kind, flags, data in (*tags, (0, 0, b""))
    )
    size = 16 + len(content) if length is None else length
    start = (0xE85250D6, architecture, size)
    return struct.pack("<4I", *start, -sum(start) & 0xFFFFFFFF) + content
