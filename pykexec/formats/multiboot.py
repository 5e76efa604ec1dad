"""Find a Multiboot header in a file of any kind.

Both specifications, section 3.1 (gnu.org/software/grub/manual): it is near the beginning and aligned. Its
first words are a magic number, others, and one that makes their sum zero.
"""

import struct

_MAGIC_1, SEARCH_1, _ALIGN_1 = 0x1BADB002, 8192, 4
_MAGIC_2, SEARCH_2, ALIGN_2 = 0xE85250D6, 32768, 8
HEADER_1 = struct.Struct("<III")  # magic, flags, checksum
HEADER_2 = struct.Struct("<IIII")  # magic, architecture, header_length, checksum


def find1(data: memoryview) -> int | None:
    """Return the offset of version 1's header; None where there is none."""
    return _find(bytes(data[:SEARCH_1]), _MAGIC_1, _ALIGN_1, HEADER_1)


def find2(data: memoryview) -> int | None:
    """Return the offset of version 2's header; None where there is none."""
    return _find(bytes(data[:SEARCH_2]), _MAGIC_2, ALIGN_2, HEADER_2)


def _find(head: bytes, magic: int, alignment: int, header: struct.Struct) -> int | None:
    """Return the offset of the first header. The magic may occur by chance, so the sum must be zero, too."""
    wanted = magic.to_bytes(4, "little")
    offset = head.find(wanted)
    while 0 <= offset <= len(head) - header.size:
        if offset % alignment == 0 and sum(header.unpack_from(head, offset)) & 0xFFFFFFFF == 0:
            return offset
        offset = head.find(wanted, offset + 1)
    return None
