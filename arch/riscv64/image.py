"""Image: the riscv64 kernel as it runs (Documentation/arch/riscv/boot-image-header.rst)."""

from __future__ import annotations

from pykexec.arch.riscv64 import ARCH
from pykexec.booting.image import ImageKind
from pykexec.booting.kernel import ImagePart
from pykexec.errors import ImageError
from pykexec.memory import MIB, align_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TEXT_OFFSET_32 = 0x400000
"""What a kernel of 32 bits has as text_offset (arch/riscv/kernel/head.S); all else is the same."""


def _place(path: str, header: Any, _: int) -> tuple[int, int]:
    """From any multiple of 2 MiB on (arch/riscv/mm/init.c, setup_vm()): text_offset is for boot loaders that
    load at the start of memory, where the firmware is."""
    if header.text_offset == _TEXT_OFFSET_32:
        raise ImageError(f"{path}: a kernel for riscv32 (text_offset {_TEXT_OFFSET_32:#x} at offset 0x8)")
    # setup_bootmem() there: with CONFIG_STRICT_KERNEL_RWX it keeps all of the last 2 MiB for itself.
    return 0, align_up(header.image_size, 2 * MIB)


KIND = ImageKind(
    arch=ARCH,
    magic=b"RSC\x05",
    signature='"RSC\\x05" at offset 0x38',
    line_limit=1023,  # COMMAND_LINE_SIZE in arch/riscv/include/uapi/asm/setup.h, less the NUL
    place=_place,
    image_type="image-riscv",
    vmlinux_type="elf-riscv",
    loads_vmlinux=True,  # arch/riscv/kernel/kexec_elf.c
)
PART = ImagePart(KIND.inspect)
