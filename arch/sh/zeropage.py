"""The page before a kernel's first instruction, by which it is told (arch/sh/include/asm/setup.h)."""

from __future__ import annotations

import os
import struct

from pykexec.memory import Range

SIZE = 4096
"""Of the smallest: a page. What kernels read is in the first KiB."""
SIZES = (1 << 16, 1 << 14, 1 << 13, SIZE)
"""Of a page of a kernel (arch/sh/mm/Kconfig), largest first."""
_LINE_AT, _LINE_SIZE = 0x100, 512
_LOADER_AT = 0xC
_LOADER = struct.Struct("<III")
"""LOADER_TYPE, without which no initrd is taken; INITRD_START, from the start of memory on; INITRD_SIZE."""
_OWN = struct.Struct("<IIIIIII")
"""What kernels have there themselves (head_32.S, empty_zero_page)."""


def fill(page: bytearray | memoryview, line: str, initrd: Range | None, memory_start: int) -> None:
    """Tell a kernel whose page this is of its command line, which fits, and its initrd (physical)."""
    told = (1, 0, 0) if initrd is None else (1, initrd.start - memory_start, initrd.size)
    _LOADER.pack_into(page, _LOADER_AT, *told)
    page[_LINE_AT : _LINE_AT + _LINE_SIZE] = os.fsencode(line).ljust(_LINE_SIZE, b"\0")


def new(line: str, initrd: Range | None, memory_start: int, bits: int) -> bytes:
    """Return a page for a kernel that brings none, with all else as kernels have it themselves."""
    page = bytearray(SIZE)
    _OWN.pack_into(page, 0, 1, 0, 0x200, 1, 0, 0, 0x53453F00 + bits)
    fill(page, line, initrd, memory_start)
    return bytes(page)
