"""Kernels made by hand, from arch/sh/boot/compressed (head_32.S, vmlinux.scr) and kernel/head_32.S alone."""

import gzip
import struct
from dataclasses import dataclass

NOP = 0x00090009
BANNER = b"Linux version 6.1.192-test (builder@host) #1\n\0"  # init/version.c


def configuration(text: str) -> bytes:
    """Return it as kernel/configs.c has it in a kernel."""
    return b"IKCFG_ST" + gzip.compress(text.encode(), mtime=0) + b"IKCFG_ED"


def kernel(size: int = 0x30000, more: bytes = b"") -> bytes:
    """Return the bytes of a kernel behind its zero page."""
    return (BANNER + more).ljust(size, b"k")


@dataclass(frozen=True)
class FakeZImage:
    """What a zImage says of itself; addresses are those of P1."""

    start: int = 0x8C011000
    link: int = 0x8C800000
    packed: bytes = gzip.compress(kernel(), mtime=0)
    bss_size: int = 0x4100
    magic: int = 0x400000F0
    signature: bytes = b"HdrS"
    code: int = 0x8000
    """The bytes of code before the packed kernel."""

    def build(self) -> bytes:
        code = self.code + 8
        size = code + 4 + len(self.packed) + -len(self.packed) % 4
        bss = self.link + size + 0x20
        literals = struct.pack("<3I", self.link + 0x50, self.link + 0x60, self.link)
        values = (bss, bss + self.bss_size, 0x500000F0, self.magic, bss + 64, self.link + 0x1234, self.start)
        # The first instructions of head_32.S, then two pools of literals with code between them.
        begin = struct.pack("<4H", 0xD107, 0x410E, 0xC712, 0xD212).ljust(0x50, b"\x12")
        begin += literals.ljust(0x30, b"\x56") + struct.pack("<7I", *values)
        header = struct.pack("<H4sHHHH", 0, self.signature, 0x0202, 0, 0, 0x1000)
        begin += struct.pack("<I", NOP) * ((0x200 - len(begin)) // 4) + header
        assert len(begin) < self.code
        body = begin.ljust(code, b"\x09") + len(self.packed).to_bytes(4, "little") + self.packed
        return body.ljust(size, b"\0")


def zero_page(bits: int = 29) -> bytes:
    return struct.pack("<7I", 1, 0, 0x200, 1, 0, 0, 0x53453F00 + bits).ljust(4096, b"\0")


def vmlinux(
    address: int = 0x8C010000, data: bytes = b"", *, bits: int = 29, bss: int = 0x2E000, entry: int = 0x1000
) -> bytes:
    """Return an ELF file with a kernel for that address, its zero page first."""
    content = zero_page(bits) + (data or kernel())
    header = struct.pack(
        "<16sHHIIIIIHHHHHH",
        *(b"\x7fELF\x01\x01\x01", 2, 42, 1, address + entry, 52, 0, 0, 52, 32, 1, 0, 0, 0),
    )
    size = len(content)
    return (
        header.ljust(52)
        + struct.pack("<8I", 1, 4096, address, address, size, size + bss, 7, 4096).ljust(4096 - 52, b"\0")
        + content
    )
