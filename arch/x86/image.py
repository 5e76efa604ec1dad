"""The facts in files of x86 kernels: bzImages, and the vmlinux they are made from."""

from __future__ import annotations

from pykexec.arch.x86 import bzimage
from pykexec.arch.x86.kernel import Entry
from pykexec.booting.kernel import KernelFacts
from pykexec.memory import KIB, align_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.files import FileData

_FILE_LOAD_ADDS = 31
"""The NUL, and MAX_ELFCOREHDR_STR_LEN, which the kernel keeps free for a boot, too (kexec-bzimage64.c)."""
_FILE_LOAD_ADDS_FOR_KEYS = 31  # MAX_DMCRYPTKEYS_STR_LEN


_VMLINUX = {"x86_64": "elf-x86_64", "i386": "elf-x86"}


def inspect(kernel: FileData, arch: str) -> KernelFacts | None:
    """Return the facts of a kernel; None for another file. Raises ImageError for a damaged kernel.

    A kernel that is not for x86_64 alone is taken for one of `arch`, which asks.
    """
    if bzimage.matches(kernel.data):
        return _bzimage(kernel, arch)
    # Imported late, because most kernels are bzImages.
    from pykexec.formats import multiboot

    # An ELF file with a Multiboot header is a Multiboot kernel; Linux kernels have none.
    if multiboot.find2(kernel.data) is not None:
        return KernelFacts(arch, "multiboot2-x86")
    if multiboot.find1(kernel.data) is not None:
        return KernelFacts(arch, "multiboot-x86")
    if bytes(kernel.data[:4]) != b"\x7fELF":
        return None
    from pykexec.formats import elf

    row = elf.architecture(kernel.data)
    if row is None or row.name not in _VMLINUX:
        return None
    return _vmlinux(kernel, "x86_64" if row.elf.bits == 64 else arch, _VMLINUX[row.name])


def _bzimage(kernel: FileData, arch: str) -> KernelFacts:
    parsed = bzimage.parse(kernel)
    has_64bit_entry = parsed.entry is Entry.LONG
    return KernelFacts(
        arch="x86_64" if parsed.bits == 64 else arch,
        format="bzImage64" if has_64bit_entry else "bzImage",
        memory=parsed.memory_size,
        line_limit=parsed.command_line_limit,
        is_for_file_load=has_64bit_entry,  # arch/x86/kernel/kexec-bzimage64.c
        file_load_adds=_FILE_LOAD_ADDS if has_64bit_entry else None,
        file_load_adds_for_keys=_FILE_LOAD_ADDS_FOR_KEYS,
        version=bzimage.release(kernel.data),
    )


def _vmlinux(kernel: FileData, arch: str, format_: str) -> KernelFacts:
    from pykexec.arch.x86 import vmlinux
    from pykexec.formats import elf

    return KernelFacts(
        arch=arch,
        format=format_,
        memory=align_up(elf.parse(kernel.path, kernel.data).range.size, 4 * KIB),
        line_limit=vmlinux.COMMAND_LINE_LIMIT,
        program=kernel.data,
    )
