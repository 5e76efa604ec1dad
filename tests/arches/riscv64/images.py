"""A riscv64 Image made by hand, from Documentation/arch/riscv/boot-image-header.rst alone."""

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class FakeImage:
    """Header fields by their names there."""

    text_offset: int = 0x200000
    image_size: int | None = None
    flags: int = 0
    size: int = 0x20000

    def build(self) -> bytes:
        image_size = self.size + 0x10000 if self.image_size is None else self.image_size
        header = struct.pack(
            "<IIQQQII8xQ4sI",
            *(0x0000_0013, 0x0000_006F, self.text_offset, image_size, self.flags),
            *(2, 0, int.from_bytes(b"RISCV\0\0\0", "little"), b"RSC\x05", 0),
        )
        return header + bytes(range(256)) * ((self.size - 64) // 256) + bytes((self.size - 64) % 256)
