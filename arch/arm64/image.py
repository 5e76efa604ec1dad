"""Read Images: the arm64 kernel as it runs, after a header of 64 bytes.

Documentation/arch/arm64/booting.rst, "Call the kernel image".
"""

from pykexec.arch.arm64 import ARCH
from pykexec.arch.arm64.compiled import HEADER
from pykexec.booting.kernel import ImagePart, KernelFacts
from pykexec.booting.treeload import TreeKernel
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import pe
from pykexec.memory import KIB, MIB

_MAGIC = b"ARM\x64"
_FLAG_BIG_ENDIAN = 1 << 0
_IMAGE_SIZE_MAX = 1 << 40


_PAGE_SIZES = (None, 4 * KIB, 16 * KIB, 64 * KIB)
"""The kernel's page size in bytes, by bits 1-2 of flags."""
_ALIGNMENT = 2 * MIB
"""booting.rst, "Call the kernel image": the alignment of the address text_offset below the Image."""
COMMAND_LINE_LIMIT = 2047
"""COMMAND_LINE_SIZE in arch/arm64/include/uapi/asm/setup.h, without the NUL."""


def matches(data: memoryview) -> bool:
    """Return whether this is an Image, sound or not."""
    return data.nbytes >= HEADER.sizeof() and bytes(data[0x38:0x3C]) == _MAGIC


def is_vmlinux(data: memoryview) -> bool:
    """Return whether this is a little-endian ELF file for arm64."""
    if bytes(data[:4]) != b"\x7fELF":
        return False
    from pykexec.formats import elf

    row = elf.architecture(data)
    return row is not None and row.name == ARCH.name


def parse(file: FileData) -> TreeKernel:
    """Read and check an Image, or the vmlinux that an Image is made from. Raises ImageError."""
    path, data = file.path, file.data
    kind, type_ = "arm64 Image", "Image"
    if is_vmlinux(data):
        kind, type_ = "arm64 vmlinux", "vmlinux"
        from pykexec.formats import elf

        data = elf.flatten(path, elf.parse(path, data).pieces).data
    if not matches(data):
        from pykexec.formats import identify

        lack = 'no arm64 Image signature ("ARM\\x64" at offset 0x38)'
        raise identify.unknown(path, file.data, lack, "arm64")
    header = HEADER.parse(bytes(data[: HEADER.sizeof()]))
    _require_whole(path, data)
    if header.flags & _FLAG_BIG_ENDIAN:
        raise ImageError(
            f"{path}: a big-endian kernel (flags at offset 0x18); only little-endian is supported"
        )
    text_offset, memory_size = header.text_offset, header.image_size
    if memory_size == 0:
        # booting.rst: before 3.17 there is no size, text_offset is 0x80000 whatever the header says, and as
        # much memory as possible after the image should be free.
        text_offset, memory_size = 0x80000, max(16 * MIB, data.nbytes)
    if memory_size > _IMAGE_SIZE_MAX or text_offset >= 2 * MIB or text_offset % (4 * KIB):
        raise ImageError(
            f"{path}: damaged Image: text_offset {text_offset:#x}, image_size {memory_size:#x} (offset 0x8)"
        )
    if memory_size < data.nbytes:
        raise ImageError(
            f"{path}: damaged Image: image_size {memory_size:#x} at offset 0x10 is less than the file's"
            f" {data.nbytes:#x} bytes"
        )
    return TreeKernel(
        path=path,
        data=data,
        offset=text_offset,
        memory_size=memory_size,
        alignment=_ALIGNMENT,
        type=type_,
        description=kind,
        page_size=_PAGE_SIZES[header.flags >> 1 & 3],
    )


def _require_whole(path: str, data: memoryview) -> None:
    """Raise ImageError for a truncated file.

    image_size counts more than the file's bytes; the EFI stub's PE header tells the file's length.
    """
    stub = pe.parse(path, data)
    if stub is not None and stub.end > data.nbytes:
        raise ImageError(
            f"{path}: truncated: {data.nbytes} bytes, but its PE header says {stub.end}",
            hint="copy or install the kernel again",
        )


def inspect(kernel: FileData) -> KernelFacts | None:
    """Return the facts of a kernel; None for another file. Raises ImageError for a damaged kernel."""
    if is_vmlinux(kernel.data):
        from pykexec.formats import elf

        format_, memory = "vmlinux", elf.parse(kernel.path, kernel.data).range.size
    elif matches(kernel.data):
        format_, memory = "Image", parse(kernel).memory_size
    else:
        return None
    return KernelFacts(
        arch=ARCH.name,
        format=format_,
        memory=memory,
        line_limit=COMMAND_LINE_LIMIT,
        is_for_file_load=format_ == "Image",  # arch/arm64/kernel/kexec_image.c
        program=kernel.data,
    )


PART = ImagePart(inspect)
