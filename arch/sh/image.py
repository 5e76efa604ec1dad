"""Read kernels for sh: zImages, and the vmlinux that a zImage is made of."""

from __future__ import annotations

import re
import struct
from contextlib import suppress

from pykexec import kernelconfig
from pykexec.arch.sh import ARCH, zimage
from pykexec.arch.sh.privileged import P1
from pykexec.arch.sh.zimage import ZImage
from pykexec.booting.kernel import ImagePart, KernelFacts
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import compression, elf, magic
from pykexec.memory import Range
from pykexec.values import dataclass

ZIMAGE_TYPE, ELF_TYPE, UIMAGE_TYPE = "zImage-sh", "elf-sh", "uImage-sh"
"""By kexec-tools' names (-t)."""
LINE_LIMIT = 511
"""COMMAND_LINE_SIZE in include/uapi/asm-generic/setup.h, less the NUL."""

_UNPACKED = ("gzip", "bzip2", "lzma", "xz")
"""What Python's own library unpacks of what kernels are packed with (arch/sh/Kconfig)."""
_BITS_AT, _BITS = 0x18, 0x53453F00
"""In the zero page: "SE?", and 29 or 32 (head_32.S)."""


@dataclass(frozen=True, slots=True)
class Built:
    """How a kernel was built, as far as that matters to who loads it."""

    memory_start: int | None
    """The physical address at which it takes memory to begin; None where it does not tell."""
    ignores_line: bool
    """Whether it is known to take no command line but its own."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel as the loader needs it; addresses are its own, in P1, sizes in bytes."""

    path: str
    data: memoryview
    address: int
    """Where the data's first byte goes."""
    memory: Range
    """What it takes until it has started, without the zero page of a zImage."""
    entry: int
    bits: int
    """Of the physical addresses that it has: 29 or 32."""
    has_zero_page: bool
    """Whether the data begins with the page of parameters. A zImage has none, and takes any from memory."""
    type: str
    program: memoryview | None
    """The unpacked kernel, where it can be had."""

    @property
    def description(self) -> str:
        return "sh vmlinux" if self.has_zero_page else "sh zImage"

    @property
    def built(self) -> Built:
        """What it tells of how it was built (CONFIG_IKCONFIG)."""
        config = None
        if self.program is not None:
            with suppress(ImageError):  # only damaged in that place
                config = kernelconfig.embedded(self.path, self.program)
        told = config or {}
        start = re.fullmatch("0x[0-9a-fA-F]{1,8}", told.get("CONFIG_MEMORY_START", ""))
        ignores_line = told.get("CONFIG_CMDLINE_OVERWRITE") == "y"
        return Built(int(start[0], 16) if start else None, ignores_line)


def parse(file: FileData) -> Kernel:
    """Read and check a kernel. Raises ImageError."""
    if elf.is_for(file.data, ARCH.name):
        return _vmlinux(file)
    if not zimage.matches(file.data):
        from pykexec.formats import identify

        lack = 'no sh zImage signature ("HdrS" at offset 0x202)'
        raise identify.unknown(file.path, file.data, lack, ARCH.name)
    found = zimage.parse(file.path, file.data)
    return Kernel(
        file.path,
        found.data,
        address=found.work.start,
        memory=Range(found.kernel, found.work.end),
        entry=found.work.start,
        bits=29,
        has_zero_page=False,
        type=ZIMAGE_TYPE,
        program=_unpacked(file.path, found),
    )


def _unpacked(path: str, found: ZImage) -> memoryview | None:
    """Return the kernel in a zImage; None where it is not found, or packed with LZO. Raises ImageError."""
    packed = found.packed
    name = None if packed is None else magic.compression(packed)
    if packed is None or name not in _UNPACKED:
        return None
    # Others than gzip do not have the size at their end; then it follows them (scripts/Makefile.lib).
    packed = packed if name == "gzip" else packed[:-4]
    room = found.work.start - found.kernel
    return memoryview(b"".join(compression.pieces(f"{path} (the kernel in it)", packed, name, room)))


def _vmlinux(file: FileData) -> Kernel:
    program = elf.parse(file.path, file.data)
    whole = elf.flatten(file.path, program.pieces)
    told = struct.unpack_from("<I", whole.data, _BITS_AT)[0] if whole.data.nbytes >= 0x400 else 0
    if told - _BITS not in (29, 32) or not whole.address <= program.entry < whole.range.end:
        raise ImageError(
            f"{file.path}: linked for {whole.address:#x}, entered at {program.entry:#x}, where no kernel is"
            ' that begins with a page of parameters ("SE?" at offset 0x18)'
        )
    if not P1 <= whole.address < whole.range.end <= 2 * P1:
        raise ImageError(f"{file.path}: linked for {whole.address:#x}, where kernels have no memory")
    return Kernel(
        file.path,
        whole.data,
        address=whole.address,
        memory=whole.range,
        entry=program.entry,
        bits=told - _BITS,
        has_zero_page=True,
        type=ELF_TYPE,
        program=file.data,
    )


def inspect(kernel: FileData) -> KernelFacts | None:
    """Return what a kernel tells; None for another file. Raises ImageError for a damaged one."""
    if not elf.is_for(kernel.data, ARCH.name) and not zimage.matches(kernel.data):
        return None
    parsed = parse(kernel)
    return KernelFacts(
        arch=ARCH.name,
        format=parsed.type,
        memory=parsed.memory.size,
        line_limit=LINE_LIMIT,
        program=parsed.program,
    )


PART = ImagePart(inspect)
