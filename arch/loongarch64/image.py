"""EFI images, kernels as they run (Documentation/arch/loongarch/booting.rst), and the vmlinux of each."""

from __future__ import annotations

import re
import struct

from pykexec.arch.loongarch64 import ARCH
from pykexec.arch.loongarch64.windows import covers, physical
from pykexec.booting.kernel import ImagePart, KernelFacts
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import pe
from pykexec.memory import KIB, MIB, Range
from pykexec.values import dataclass, replace

PE_TYPE, ELF_TYPE, ZBOOT_TYPE = "pei-loongarch", "elf-loongarch", "pez-loongarch"
"""By kexec-tools' names (-t)."""

_HEADER = struct.Struct("<8xQQQ")
"""arch/loongarch/kernel/head.S: the entry point, the size in memory, where it is linked to be."""
_RESERVED, _MAGIC = slice(0x20, 0x3C), slice(0x38, 0x3C)
_LINUX_PE = b"\xcd\x23\x82\x81"  # include/linux/pe.h, LINUX_PE_MAGIC: since Linux 6.2
_LINK_ADDRESS = 2 * MIB
"""Where kernels are linked to be whose header has 0 there: before Linux 6.3 (commit 3f89765d6227)."""
_SIZE_MAX = 1 << 40
_NAMES_MAX = 64 * KIB

LINE_SIZE, _LINE_SIZE_BEFORE, _SINCE = 4096, 512, (6, 17)
"""COMMAND_LINE_SIZE in arch/loongarch/include/uapi/asm/setup.h (commit f7794a4d92ad, in 6.17-rc3), and in
include/uapi/asm-generic/setup.h."""


def line_size(release: str | None) -> int:
    """Return the bytes that a kernel of that release has for its command line, with the NUL.

    The smaller number where the release is not known, and for stable kernels that got the larger one later.
    """
    found = re.match(r"(\d+)\.(\d+)", release or "")
    is_new = found is not None and (int(found[1]), int(found[2])) >= _SINCE
    return LINE_SIZE if is_new else _LINE_SIZE_BEFORE


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel as the loader needs it; addresses are physical, sizes in bytes."""

    path: str
    data: memoryview
    link_address: int
    """Where it runs without relocating itself."""
    memory_size: int
    entry: int
    """The entry point's distance from the first byte."""
    type: str
    description: str
    is_relocatable: bool | None
    """Whether it runs elsewhere, too; None where it does not tell."""

    @property
    def facts(self) -> KernelFacts:
        """What it tells about itself. Looks for its release, which takes some milliseconds."""
        found = KernelFacts(
            arch=ARCH.name,
            format=self.type,
            memory=self.memory_size,
            is_for_file_load=True,  # arch/loongarch/kernel/kexec_efi.c, kexec_elf.c
            program=self.data,
        )
        release = found.release
        return replace(found, version=release, line_limit=line_size(release) - 1)


def parse(file: FileData) -> Kernel:
    """Read and check a kernel. Raises ImageError."""
    if _is_vmlinux(file.data):
        return _vmlinux(file)
    if not _is_image(file):
        from pykexec.formats import identify

        lack = "no loongarch64 kernel's header (a PE file with 0x818223cd at offset 0x38)"
        raise identify.unknown(file.path, file.data, lack, ARCH.name)
    return _image(file)


def _image(file: FileData) -> Kernel:
    path, size = file.path, file.data.nbytes
    entry, memory_size, told = _HEADER.unpack_from(file.data)
    stub = pe.parse(path, file.data)
    if stub is not None and stub.end > size:
        raise ImageError(
            f"{path}: truncated: {size} bytes, but its PE header says {stub.end}",
            hint="copy or install the kernel again",
        )
    if not size <= memory_size <= _SIZE_MAX:
        raise ImageError(
            f"{path}: damaged kernel: {memory_size:#x} bytes of memory (offset 0x10), {size:#x} of the file"
        )
    link_address = physical(told) or _old_link_address(path, Range.sized(_LINK_ADDRESS, memory_size), entry)
    found = Kernel(
        path,
        file.data,
        link_address,
        memory_size,
        entry=physical(entry) - link_address,
        type=PE_TYPE,
        description="loongarch64 Image",
        is_relocatable=None if told else False,  # 6.3 is the first that can
    )
    return _checked(found)


def _old_link_address(path: str, usual: Range, entry: int) -> int:
    """Return where a kernel is linked to be whose header does not say.

    Raises ImageError where that is not the usual place.
    """
    if not usual.start <= physical(entry) < usual.end:
        raise ImageError(
            f"{path}: a kernel of before Linux 6.3 that is linked to be elsewhere than at {usual.start:#x}"
            " (CONFIG_PHYSICAL_START): its header does not say where",
            hint="load its vmlinux",
        )
    return usual.start


def _vmlinux(file: FileData) -> Kernel:
    from pykexec.formats import elf

    program = elf.parse(file.path, file.data)
    whole = elf.flatten(file.path, program.pieces)
    link_address = physical(whole.address)
    # Sections' names are at the end, with CONFIG_RELOCATABLE those of what is changed then (vmlinux.lds.S).
    names = bytes(file.data[-_NAMES_MAX:])
    found = Kernel(
        file.path,
        whole.data,
        link_address,
        whole.memsz,
        entry=physical(program.entry) - link_address,
        type=ELF_TYPE,
        description="loongarch64 vmlinux",
        is_relocatable=any(b"\0%b\0" % each in names for each in (b".la_abs", b".rela.dyn", b".relr.dyn")),
    )
    return _checked(found)


def _checked(kernel: Kernel) -> Kernel:
    if not 0 <= kernel.entry < kernel.data.nbytes or kernel.entry % 4:
        raise ImageError(
            f"{kernel.path}: damaged kernel: its entry point (offset 0x8) is {kernel.entry:#x} bytes from"
            f" its start, which is linked to be at {kernel.link_address:#x}"
        )
    if kernel.link_address % (64 * KIB):
        raise ImageError(f"{kernel.path}: damaged kernel: linked to be at {kernel.link_address:#x}")
    return kernel


def inspect(kernel: FileData) -> KernelFacts | None:
    """Return what a kernel tells; None for another file. Raises ImageError for a damaged one."""
    if not _is_vmlinux(kernel.data) and not _is_image(kernel):
        return None
    return parse(kernel).facts


def _is_image(file: FileData) -> bool:
    """Whether this is one, good or bad."""
    data = file.data
    if data.nbytes < 0x40 or bytes(data[:2]) != b"MZ":
        return False
    if bytes(data[_MAGIC]) != _LINUX_PE and not _is_of_6_1(data):
        return False
    at = int.from_bytes(data[0x3C:0x40], "little")
    machine = int.from_bytes(data[at + 4 : at + 6], "little")
    return bytes(data[at : at + 4]) == b"PE\0\0" and machine in ARCH.names.pe


def _is_of_6_1(data: memoryview) -> bool:
    """Whether the header is one of Linux 6.1, which has no magic number yet."""
    entry, _, told = _HEADER.unpack_from(data)
    return covers(entry) and not told and not any(data[_RESERVED])


def _is_vmlinux(data: memoryview) -> bool:
    """Whether this is an ELF file for this architecture."""
    if bytes(data[:4]) != b"\x7fELF":
        return False
    from pykexec.formats import elf

    return elf.is_for(data, ARCH.name)


PART = ImagePart(inspect)
