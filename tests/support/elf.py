"""ELF core files made by hand: /proc/kcore as kernels write it (fs/proc/kcore.c)."""

import struct
from collections.abc import Sequence

NO_ADDRESS = (1 << 64) - 1


def note(name: bytes, kind: int, content: bytes, order: str = "<") -> bytes:
    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    header = struct.pack(f"{order}III", len(name) + 1, len(content), kind)
    return header + padded(name + b"\0") + padded(content)


def kcore(
    segments: Sequence[tuple[int, int, int]],
    *,
    vmcoreinfo: str = "",
    phnum: int | None = None,
    notes: bytes = b"",
    bits: int = 64,
    big_endian: bool = False,
    machine: int = 62,
) -> bytes:
    """Return a kcore (by default x86_64's) with segments (virtual, physical, size).

    `phnum` overrides the count in the header.
    """
    order = ">" if big_endian else "<"
    notes += note(b"VMCOREINFO", 0, vmcoreinfo.encode("latin-1"), order) if vmcoreinfo else b""
    count = len(segments) + 1
    word, ehdr_size, phdr_size = ("Q", 64, 56) if bits == 64 else ("I", 52, 32)
    start = ehdr_size + phdr_size * count
    ident = bytes([*b"\x7fELF", bits // 32, 2 if big_endian else 1, 1])
    header = struct.pack(
        f"{order}16sHHI3{word}IHHHHHH",
        *(ident, 4, machine, 1, 0, ehdr_size, 0, 0, ehdr_size, phdr_size),
        *(count if phnum is None else phnum, 0, 0, 0),
    )

    def phdr(kind: int, flags: int, offset: int, virtual: int, physical: int, size: int) -> bytes:
        if bits == 64:
            values = (kind, flags, offset, virtual, physical, size, size, 4096)
            return struct.pack(f"{order}IIQQQQQQ", *values)
        return struct.pack(f"{order}8I", kind, offset, virtual, physical, size, size, flags, 4096)

    phdrs = [phdr(4, 0, start, 0, 0, len(notes))]
    phdrs += [phdr(1, 7, start + len(notes), *each) for each in segments]
    return header + b"".join(phdrs) + notes


def executable(
    data: bytes, address: int = 0xFFFF800008000000, machine: int = 183, order: str = "<"
) -> bytes:
    """Return an ELF file (by default arm64's) that loads `data` to that virtual address."""
    ident = b"\x7fELF" + bytes([2, 1 + "<>".index(order), 1])
    header = struct.pack(
        f"{order}16sHHIQQQIHHHHHH", ident, 2, machine, 1, address, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    size = len(data)
    return header + struct.pack(f"{order}IIQQQQQQ", 1, 7, 120, address, address, size, size, 4096) + data
