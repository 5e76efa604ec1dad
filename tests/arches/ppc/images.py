"""A vmlinux of 32-bit powerpc made by hand, from arch/powerpc/kernel/vmlinux.lds.S alone."""

import struct
from dataclasses import dataclass

LINKED = 0xC0000000


@dataclass(frozen=True)
class FakeVmlinux:
    """One segment, as kernels have it."""

    is_relocatable: bool = True
    """Whether it is of type ET_DYN."""
    size: int = 0x30000
    memory_size: int = 0x40000
    physical: int = 0
    entry: int = 0
    """From its first byte on."""

    @property
    def contents(self) -> bytes:
        """What is loaded."""
        return bytes(range(256)) * (self.size // 256)

    def build(self) -> bytes:
        virtual = LINKED + self.physical
        header = struct.pack(
            ">16sHHIIIIIHHHHHH",
            b"\x7fELF\1\2\1",
            *(3 if self.is_relocatable else 2, 20, 1, virtual + self.entry, 52, 0, 0, 52, 32, 1, 0, 0, 0),
        )
        segment = struct.pack(
            ">8I", 1, 0x10000, virtual, self.physical, self.size, self.memory_size, 7, 0x10000
        )
        return (header + segment).ljust(0x10000, b"\0") + self.contents
