"""A zImage made by hand, from arch/arm/boot/compressed/head.S and vmlinux.lds.S alone."""

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class FakeZImage:
    """What a zImage says of itself; sizes are in bytes. `words` are how many of the table's it has."""

    size: int = 0x50000
    inflated: int = 0x1200000
    bss: int = 0x54321
    text_offset: int = 0x208000
    heap: int = 0x10000
    words: int = 6
    start: int = 0
    magic: int = 0x016F2818
    order: int = 0x04030201
    appended: bytes = b""

    def build(self) -> bytes:
        table, inflated_at = 0x100, self.size - 4
        extension = (0x45454545, table) if self.words else (0, 0)
        header = struct.pack("<8I", *[0xE1A00000] * 8) + struct.pack("<I", 0xEA000005)
        header += struct.pack("<4I", self.magic, self.start, self.start + self.size, self.order)
        header += struct.pack("<2I", *extension)
        values = (self.words, 0x5A534C4B, inflated_at, self.bss, self.text_offset, self.heap)
        # Another tag first, then this one, then the end.
        tags = (
            struct.pack("<3I", 3, 0x12345678, 0) + struct.pack("<6I", *values)[: 4 * self.words] + bytes(4)
        )
        body = header.ljust(table, b"\0") + (tags if self.words else b"")
        body += bytes(range(256)) * ((self.size - len(body)) // 256)
        return body.ljust(inflated_at, b"z") + struct.pack("<I", self.inflated) + self.appended


def vmlinux(data: bytes, address: int = 0xC0208000) -> bytes:
    """Return an ELF file that loads `data` to that address, and is entered there."""
    header = struct.pack(
        "<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 40, 1, address, 52, 0, 0, 52, 32, 1, 0, 0, 0
    )
    return header + struct.pack("<8I", 1, 84, address, address, len(data), len(data), 7, 4096) + data
