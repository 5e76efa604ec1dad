"""zImage: a compressed kernel behind the code that unpacks it (arch/sh/boot/compressed)."""

from __future__ import annotations

import struct

from pykexec.errors import ImageError
from pykexec.formats import magic
from pykexec.memory import KIB, MIB, Range
from pykexec.values import dataclass

_SIGNATURE, _SIGNATURE_AT = b"HdrS", 0x202
"""That of x86, in a header that nothing else of is true (head_32.S, fake_headers_as_bzImage)."""
_CODE = 0x200
"""The bytes before that header, which the code fills up with no-operations."""
_NOPS = 0x00090009
_MAGIC = 0x400000F0
"""kexec_magic in head_32.S."""
_HEAP = 4 * MIB
"""HEAP_SIZE in misc.c of all kernels that know bzip2, as sh's do."""
_KERNEL_MAX = 64 * MIB
"""More than kernels of this architecture take, with all that unpacks them."""
_PAGE_MAX = 64 * KIB
"""The file ends less than a page before bss."""
_PACKED_WITHIN = 64 * KIB
"""All code for unpacking takes less."""
_X86 = b"\x55\xaa"  # boot.rst, boot_flag: at 0x1fe of a bzImage


@dataclass(frozen=True, slots=True)
class ZImage:
    """A zImage; all addresses are the kernel's own, in P1."""

    data: memoryview
    """Without what may lie behind it, as in flash memory."""
    kernel: int
    """Where the kernel is unpacked to, and entered: one page after it begins."""
    work: Range
    """What it takes while it unpacks, from its own first byte on: it moves itself there."""
    packed: memoryview | None
    """The kernel as it is packed; None where it is not found."""


def matches(data: memoryview) -> bool:
    """Return whether this is one, good or bad."""
    return (
        bytes(data[_SIGNATURE_AT : _SIGNATURE_AT + 4]) == _SIGNATURE
        and bytes(data[_CODE - 2 : _CODE]) != _X86
    )


def parse(path: str, data: memoryview) -> ZImage:
    """Read and check one for which `matches` is true. Raises ImageError."""
    words = struct.unpack_from(f"<{_CODE // 4}I", data)
    end = len(words)
    while end and words[end - 1] == _NOPS:
        end -= 1
    # bss, its end, the status register, the magic number, the stack, the unpacking code, the kernel
    if end < 7 or words[end - 4] != _MAGIC:
        raise ImageError(
            f"{path}: a zImage of another kind: no {_MAGIC:#x} where sh's have it, before 0x200"
        )
    bss, bss_end, kernel = words[end - 7], words[end - 6], words[end - 1]
    if not kernel >> 31:
        raise ImageError(
            f"{path}: a zImage of a kernel with physical addresses of 32 bits (CONFIG_PMB), which does not"
            " unpack itself where the running kernel has memory",
            hint="load its vmlinux",
        )
    start = _link_address(words[:end])
    if start is None:
        raise ImageError(f"{path}: damaged zImage: its code does not tell where it is linked to be")
    if not kernel < start < bss < bss_end < kernel + _KERNEL_MAX or kernel % 4096:
        raise ImageError(
            f"{path}: damaged zImage: at {start:#x} to {bss_end:#x}, with a kernel for {kernel:#x}"
        )
    if data.nbytes + _PAGE_MAX < bss - start:
        raise ImageError(
            f"{path}: truncated: {data.nbytes} bytes, its code counts on {bss - start}",
            hint="copy or install the kernel again",
        )
    data = data[: bss - start]
    return ZImage(data, kernel, Range(start, bss_end + _HEAP), _packed(data))


def _link_address(words: tuple[int, ...]) -> int | None:
    """Return the address of the first byte: of the words, one is its own address, and one is that."""
    found = (word - 4 * index for index, word in enumerate(words) if word - 4 * index in words)
    return next((each for each in found if each >> 31 and each % 4 == 0), None)


def _packed(data: memoryview) -> memoryview | None:
    """Return the packed kernel: before it stands its size (vmlinux.scr)."""
    begin = bytes(data[:_PACKED_WITHIN])
    for _, first in magic.COMPRESSIONS:
        at = begin.find(first, _CODE)
        while at >= 0:
            size = int.from_bytes(begin[at - 4 : at], "little")
            if len(first) < size <= data.nbytes - at:
                return data[at : at + size]
            at = begin.find(first, at + 1)
    return None
