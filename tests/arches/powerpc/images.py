"""A vmlinux of 64-bit powerpc made by hand, from arch/powerpc/kernel/head_64.S and vmlinux.lds.S alone."""

import struct
from dataclasses import dataclass

LINKED = 0xC000000000000000
HEAD = 0x100


@dataclass(frozen=True)
class FakeVmlinux:
    """One segment, as distributions' kernels have it."""

    order: str = "<"
    """As `struct` has it."""
    run_flag: int = 0x72756E30
    size: int = 0x30000
    memory_size: int | None = None
    entry: int = LINKED
    physical: int = 0
    banner: bytes = b"Linux version 6.1.0-test (builder@host) #1 SMP\n\0"  # init/version.c

    @property
    def contents(self) -> bytes:
        """What is loaded."""
        data = bytearray(bytes(range(256)) * (self.size // 256))
        data[0x5C:0x60] = struct.pack(f"{self.order}I", self.run_flag)
        data[0x1000 : 0x1000 + len(self.banner)] = self.banner
        return bytes(data)

    def build(self) -> bytes:
        ident = b"\x7fELF" + bytes([2, 1 if self.order == "<" else 2, 1])
        header = struct.pack(
            f"{self.order}16sHHIQQQIHHHHHH", ident, 2, 21, 1, self.entry, 64, 0, 2, 64, 56, 1, 0, 0, 0
        )
        memory_size = self.size + 0x8000 if self.memory_size is None else self.memory_size
        segment = struct.pack(
            f"{self.order}IIQQQQQQ",
            *(1, 7, 0x10000, LINKED, self.physical, self.size, memory_size, 0x10000),
        )
        return (header + segment).ljust(0x10000, b"\0") + self.contents
