"""A bzImage made by hand, from the offsets in Documentation/arch/x86/boot.rst alone."""

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class FakeBzImage:
    """Header fields, named as in boot.rst; `payload` is the kernel proper."""

    payload: bytes = b"\xf4" * 8192
    setup_sects: int = 3
    version: int = 0x020F
    loadflags: int = 1
    xloadflags: int = 0x7F
    relocatable_kernel: int = 1
    kernel_alignment: int = 0x200000
    cmdline_size: int = 2047
    initrd_addr_max: int = 0x7FFFFFFF
    pref_address: int = 0x1000000
    init_size: int = 0x400000
    syssize: int | None = None

    def build(self) -> bytes:
        setup = bytearray((self.setup_sects + 1) * 512)
        fields: list[tuple[int, str, bytes | int]] = [
            (0x1F1, "<B", self.setup_sects),
            (0x1F4, "<I", len(self.payload) // 16 if self.syssize is None else self.syssize),
            (0x1FE, "<H", 0xAA55),
            (0x200, "<H", 0x6AEB),
            (0x202, "4s", b"HdrS"),
            (0x206, "<H", self.version),
            (0x211, "<B", self.loadflags),
            (0x22C, "<I", self.initrd_addr_max),
            (0x230, "<I", self.kernel_alignment),
            (0x234, "<B", self.relocatable_kernel),
            (0x236, "<H", self.xloadflags),
            (0x238, "<I", self.cmdline_size),
            (0x258, "<Q", self.pref_address),
            (0x260, "<I", self.init_size),
        ]
        for offset, layout, value in fields:
            struct.pack_into(layout, setup, offset, value)
        return bytes(setup) + self.payload
