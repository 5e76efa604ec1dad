"""Read kernels for arm: zImages, and the vmlinux that a zImage is made of."""

from __future__ import annotations

from pykexec.arch.arm import ARCH, zimage
from pykexec.booting.kernel import ImagePart, KernelFacts
from pykexec.booting.treeload import TreeKernel
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import elf
from pykexec.memory import KIB, MIB, align_down, align_up

LINE_LIMIT = 1023
"""COMMAND_LINE_SIZE in arch/arm/include/uapi/asm/setup.h, less the NUL."""
BLOCK = 128 * MIB
"""The decompressor takes memory to begin at a multiple of this (arch/arm/boot/compressed/head.S)."""
_UNIT = 2 * MIB
"""The start of memory is a multiple of this (arch/arm/kernel/phys2virt.S)."""
_SPLIT = 256 * MIB
"""Kernels are linked for memory at a multiple of this (arch/arm/Kconfig, PAGE_OFFSET)."""
_SECTION = 64 * KIB


def parse(file: FileData, image_size: int | None = None) -> TreeKernel:
    """Read and check a kernel; `image_size` is what it takes once unpacked, if the user knows.

    Raises ImageError.
    """
    if elf.is_for(file.data, ARCH.name):
        return _vmlinux(file)
    if not zimage.matches(file.data):
        from pykexec.formats import identify

        lack = "no zImage magic (0x016f2818 at offset 0x24)"
        raise identify.unknown(file.path, file.data, lack, ARCH.name)
    found = zimage.parse(file.path, file.data)
    unpacked = max(found.inflated, image_size or 0) if found.is_measured else image_size or found.inflated
    return TreeKernel(
        path=file.path,
        data=found.data,
        # Behind the unpacked kernel: nearer it would move itself, over whatever is there.
        offset=align_up(found.text_offset + unpacked + found.bss, _SECTION),
        memory_size=found.work_size,
        alignment=_UNIT,
        type="zImage",
        description="arm zImage",
        before="memory to unpack itself to",
        takes="its file, stack and heap",
    )


def _vmlinux(file: FileData) -> TreeKernel:
    program = elf.parse(file.path, file.data)
    piece = elf.flatten(file.path, program.pieces)
    offset = piece.address - align_down(piece.address, _SPLIT)
    entry = program.physical_entry() - piece.address
    if offset >= BLOCK or not 0 <= entry < piece.memsz:
        raise ImageError(
            f"{file.path}: linked for {piece.address:#x}, entered at {program.entry:#x}, where no kernel is"
        )
    return TreeKernel(
        path=file.path,
        data=piece.data,
        offset=offset,
        memory_size=piece.memsz,
        alignment=_UNIT,
        type="vmlinux",
        description="arm vmlinux",
        entry=entry,
        takes="its segments' bytes",
    )


def inspect(kernel: FileData) -> KernelFacts | None:
    """Return what a kernel tells; None for another file. Raises ImageError for a damaged one."""
    is_vmlinux = elf.is_for(kernel.data, ARCH.name)
    if not is_vmlinux and not zimage.matches(kernel.data):
        return None
    parsed = parse(kernel)
    return KernelFacts(
        arch=ARCH.name,
        format=parsed.type,
        memory=parsed.offset + parsed.memory_size,
        line_limit=LINE_LIMIT,
        program=kernel.data if is_vmlinux else None,
    )


PART = ImagePart(inspect)
