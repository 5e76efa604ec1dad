"""A uImage made by hand, from U-Boot's include/image.h alone."""

import struct
import zlib


def uimage(
    data: bytes, *, os: int = 5, kind: int = 2, arch: int = 22, load: int = 0, entry: int = 0
) -> bytes:
    fields = (0, len(data), load, entry, zlib.crc32(data), os, arch, kind, 0, b"Linux")
    unsigned = struct.pack(">IIIIIIIBBBB32s", 0x27051956, 0, *fields[:5], *fields[5:])
    return unsigned[:4] + struct.pack(">I", zlib.crc32(unsigned)) + unsigned[8:] + data
