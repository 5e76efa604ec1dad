"""PE files made by hand, from Microsoft's "PE Format" alone."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Section:
    """Fields named as in a section header; None means what a linker would write."""

    name: str
    data: bytes
    virtual_size: int | None = None
    raw_size: int | None = None
    pointer: int | None = None


def portable_executable(
    sections: Sequence[Section | tuple[str, bytes]],
    *,
    machine: int = 0x8664,
    subsystem: int = 10,
    count: int | None = None,
    certificates: bytes = b"",
    alignment: int = 0x200,
) -> bytes:
    """Return an EFI application with these sections, perhaps signed (with arbitrary certificates)."""
    parts = [each if isinstance(each, Section) else Section(*each) for each in sections]
    header_size = 0x40 + 24 + 240 + 40 * len(parts)
    table = b""
    contents = b""
    start = -(-header_size // alignment) * alignment
    for part in parts:
        padded = part.data + bytes(-len(part.data) % alignment)
        table += struct.pack(
            "<8sIIIIIIHHI",
            part.name.encode(),
            len(part.data) if part.virtual_size is None else part.virtual_size,
            0x1000,
            len(padded) if part.raw_size is None else part.raw_size,
            start + len(contents) if part.pointer is None else part.pointer,
            *(0, 0, 0, 0, 0x40000040),
        )
        contents += padded
    end = start + len(contents)
    directories = [(0, 0)] * 16
    if certificates:
        directories[4] = (end, len(certificates))
    optional = struct.pack("<H66xH38x", 0x20B, subsystem) + struct.pack("<I", 16)
    optional += b"".join(struct.pack("<II", *each) for each in directories)
    coff = struct.pack(
        "<4sHHIIIHH",
        *(b"PE\0\0", machine, len(parts) if count is None else count, 0, 0, 0, len(optional), 0x22E),
    )
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40) + coff + optional + table
    return head.ljust(start, b"\0") + contents + certificates
