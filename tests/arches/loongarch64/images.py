"""A loongarch64 EFI image made by hand, from Documentation/arch/loongarch/booting.rst and "PE Format"."""

import struct
from dataclasses import dataclass

from tests.support.pe import portable_executable


@dataclass(frozen=True)
class FakeImage:
    """Header fields by their names there."""

    entry: int = 0x201000
    image_size: int | None = None
    text_offset: int = 0x200000
    size: int = 0x20000
    banner: bytes = b"Linux version 7.2.1-test (builder@host) #1 SMP\n\0"  # init/version.c
    machine: int = 0x6264
    magic: int = 0x818223CD

    def build(self) -> bytes:
        text = (self.banner + bytes(range(256)) * (self.size // 256))[: self.size]
        data = bytearray(portable_executable([(".text", text)], machine=self.machine))
        image_size = len(data) + 0x10000 if self.image_size is None else self.image_size
        struct.pack_into("<QQQ", data, 8, self.entry, image_size, self.text_offset)
        struct.pack_into("<I", data, 0x38, self.magic)
        return bytes(data)
