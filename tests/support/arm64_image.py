"""An arm64 Image made by hand, from Documentation/arch/arm64/booting.rst alone."""

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class FakeImage:
    """Header fields, named as in booting.rst."""

    text_offset: int = 0
    image_size: int | None = None
    flags: int = 0b1010
    size: int = 0x20000

    def build(self) -> bytes:
        image_size = self.size + 0x10000 if self.image_size is None else self.image_size
        header = struct.pack(
            "<IIQQQ24x4sI", 0x14000010, 0, self.text_offset, image_size, self.flags, b"ARM\x64", 0
        )
        return header + bytes(range(256)) * ((self.size - 64) // 256) + bytes((self.size - 64) % 256)
