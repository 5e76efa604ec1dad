"""zImage: a compressed kernel with the code that unpacks it (arch/arm/boot/compressed)."""

from __future__ import annotations

from pykexec.arch.arm.compiled import KERNEL_SIZE, ZIMAGE
from pykexec.errors import ImageError
from pykexec.formats import magic
from pykexec.memory import KIB, MIB
from pykexec.values import dataclass

_MAGIC = (0x016F2818).to_bytes(4, "little")
_MAGIC_AT = 0x24
_LITTLE_ENDIAN = 0x04030201
_EXTENDED = 0x45454545
_TAG_KERNEL_SIZE = 0x5A534C4B
_WORD = 4
_TAGS_MAX = 64
_INFLATED_MAX = 256 * MIB
"""Beyond this no kernel could be reached by its own branches, let alone be unpacked from within 128 MiB."""

_TEXT_OFFSET = 0x208000
"""The largest there is (arch/arm/Makefile); Debian's kernels have this one."""
_HEAP = 64 * KIB
_STACK = 4 * KIB
_RATIO = 5
"""What kexec-tools takes a kernel to grow by that does not tell its size."""


@dataclass(frozen=True, slots=True)
class ZImage:
    """A zImage; sizes are in bytes."""

    data: memoryview
    """Without what is appended to it."""
    appended: memoryview
    """A device tree behind it (CONFIG_ARM_APPENDED_DTB); empty where there is none."""
    text_offset: int
    """From the start of memory to where it is unpacked."""
    inflated: int
    """The unpacked kernel, without bss."""
    bss: int
    heap: int
    is_measured: bool
    """Whether it tells these four itself; otherwise they are guesses, large ones."""

    @property
    def work_size(self) -> int:
        """The memory it takes while it unpacks, from its first byte on.

        The four bytes behind it must not look like a device tree.
        """
        return self.data.nbytes + _WORD + _STACK + self.heap


def matches(data: memoryview) -> bool:
    """Return whether this is one, good or bad."""
    return bytes(data[_MAGIC_AT : _MAGIC_AT + 4]) in (_MAGIC, _MAGIC[::-1])


def parse(path: str, data: memoryview) -> ZImage:
    """Read and check one for which `matches` is true. Raises ImageError."""
    if data.nbytes < ZIMAGE.sizeof():
        raise ImageError(f"{path}: truncated within its zImage header")
    header = ZIMAGE.parse(data)
    if bytes(data[_MAGIC_AT : _MAGIC_AT + 4]) != _MAGIC or header.byte_order != _LITTLE_ENDIAN:
        raise ImageError(f"{path}: a big-endian kernel (offset 0x30); only little-endian is supported")
    size = header.end - header.start  # very old ones have addresses there
    if not ZIMAGE.sizeof() <= size <= data.nbytes:
        raise ImageError(
            f"{path}: truncated: {data.nbytes} bytes, its header says {size} (offset 0x28)",
            hint="copy or install the kernel again",
        )
    rest, data = data[size:], data[:size]
    appended = rest if bytes(rest[:4]) == magic.DEVICE_TREE else rest[:0]
    told = _kernel_size(path, data, header.table) if header.extended == _EXTENDED else None
    text_offset, inflated, bss, heap = told or (_TEXT_OFFSET, _RATIO * size, 0, _HEAP)
    if inflated + bss > _INFLATED_MAX or heap > _INFLATED_MAX or text_offset > 16 * MIB:
        raise ImageError(
            f"{path}: damaged zImage: it says of its kernel: {inflated:#x} bytes, bss {bss:#x},"
            f" heap {heap:#x}, {text_offset:#x} above the start of memory (table at {header.table:#x})"
        )
    return ZImage(data, appended, text_offset, inflated, bss, heap, told is not None)


def _kernel_size(path: str, data: memoryview, at: int) -> tuple[int, int, int, int] | None:
    """Return text_offset, inflated, bss and heap by the table at `at`; None where it does not have them."""
    for _ in range(_TAGS_MAX):
        words = memoryview(data[at : at + KERNEL_SIZE.sizeof()])
        size, tag = (int.from_bytes(words[i : i + _WORD], "little") for i in (0, _WORD))
        if size == 0 and words.nbytes >= _WORD:
            return None
        if size * _WORD > words.nbytes and (size < 2 or at + size * _WORD > data.nbytes):
            break
        if tag == _TAG_KERNEL_SIZE and size >= 4:
            return _values(path, data, words, size)
        at += size * _WORD
    raise ImageError(f"{path}: damaged zImage: its table (offset 0x38) does not end")


def _values(path: str, data: memoryview, words: memoryview, size: int) -> tuple[int, int, int, int]:
    found = KERNEL_SIZE.parse(bytes(words).ljust(KERNEL_SIZE.sizeof(), b"\0"))
    if found.inflated_at + _WORD > data.nbytes:
        where = f"the kernel's size is said to be at {found.inflated_at:#x}"
        raise ImageError(f"{path}: damaged zImage: {where}")
    inflated = int.from_bytes(data[found.inflated_at : found.inflated_at + _WORD], "little")
    text_offset, heap = (found.text_offset, found.heap) if size >= 6 else (_TEXT_OFFSET, _HEAP)
    return text_offset, inflated, found.bss, heap
