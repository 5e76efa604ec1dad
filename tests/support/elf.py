"""ELF core files made by hand: /proc/kcore as kernels write it (fs/proc/kcore.c)."""

import struct
from collections.abc import Sequence

NO_ADDRESS = (1 << 64) - 1


def note(name: bytes, kind: int, content: bytes) -> bytes:
    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    return struct.pack("<III", len(name) + 1, len(content), kind) + padded(name + b"\0") + padded(content)


def kcore(
    segments: Sequence[tuple[int, int, int]],
    *,
    vmcoreinfo: str = "",
    phnum: int | None = None,
    notes: bytes = b"",
) -> bytes:
    """An x86_64 kcore with (virtual, physical, size) segments; `phnum` overrides the count in the header."""
    notes += note(b"VMCOREINFO", 0, vmcoreinfo.encode()) if vmcoreinfo else b""
    count = len(segments) + 1
    start = 64 + 56 * count
    ident = b"\x7fELF\x02\x01\x01"
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 4, 62, 1, 0, 64, 0, 0, 64, 56, count if phnum is None else phnum, 0, 0, 0
    )
    phdrs = struct.pack("<IIQQQQQQ", 4, 0, start, 0, 0, len(notes), 0, 0)
    for virtual, physical, size in segments:
        phdrs += struct.pack("<IIQQQQQQ", 1, 7, start + len(notes), virtual, physical, size, size, 4096)
    return header + phdrs + notes
