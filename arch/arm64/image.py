"""Image: the arm64 kernel as it runs (Documentation/arch/arm64/booting.rst, "Call the kernel image")."""

from __future__ import annotations

from pykexec.arch.arm64 import ARCH
from pykexec.booting.image import ImageKind
from pykexec.booting.kernel import ImagePart
from pykexec.memory import KIB, MIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PAGE_SIZES = (None, 4 * KIB, 16 * KIB, 64 * KIB)
"""Of the kernel, in bytes, by flags, bits 1-2."""


def _place(_: str, header: Any, size: int) -> tuple[int, int]:
    if header.image_size == 0:
        # booting.rst: before 3.17 there is no size, text_offset is 0x80000 whatever the header says, and as
        # much memory as possible after the image should be free.
        return 0x80000, max(16 * MIB, size)
    return header.text_offset, header.image_size


def _page_size(header: Any) -> int | None:
    return _PAGE_SIZES[header.flags >> 1 & 3]


KIND = ImageKind(
    arch=ARCH,
    magic=b"ARM\x64",
    signature='"ARM\\x64" at offset 0x38',
    line_limit=2047,  # COMMAND_LINE_SIZE in arch/arm64/include/uapi/asm/setup.h, less the NUL
    place=_place,
    page_size=_page_size,
)
PART = ImagePart(KIND.inspect)
