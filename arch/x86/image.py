"""What files of kernels for x86 tell: bzImages, and the vmlinux they are made of."""

from pykexec.arch.x86 import bzimage
from pykexec.arch.x86.kernel import Entry
from pykexec.booting.kernel import KernelFacts
from pykexec.files import FileData
from pykexec.formats import magic


def inspect(kernel: FileData, arch: str) -> KernelFacts | None:
    """Return what a bzImage tells; None for another file. Raises ImageError for a damaged one."""
    if not bzimage.matches(kernel.data):
        return None
    parsed = bzimage.parse(kernel)
    has_64bit_entry = parsed.entry is Entry.LONG
    return KernelFacts(
        arch=arch,
        format="bzImage64" if has_64bit_entry else "bzImage",
        memory=parsed.memory_size,
        line_limit=parsed.command_line_limit,
        release=magic.bzimage_release(kernel.data),
        is_for_file_load=has_64bit_entry,  # arch/x86/kernel/kexec-bzimage64.c
    )
