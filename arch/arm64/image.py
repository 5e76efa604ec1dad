"""Image: the arm64 kernel as it runs, behind a header of 64 bytes (booting.rst, "Call the kernel image")."""

import enum

from pykexec.arch.arm64.compiled import HEADER
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import pe
from pykexec.memory import KIB, MIB
from pykexec.values import dataclass

_MAGIC = b"ARM\x64"
_EM_AARCH64 = b"\xb7\0"  # elf(5): e_machine, little-endian
_FLAG_BIG_ENDIAN = 1 << 0
_IMAGE_SIZE_MAX = 1 << 40


class PageSize(enum.Enum):
    """Flags, bits 1-2: the kernel's page size in bytes."""

    UNSPECIFIED = 0
    KIB_4 = 4 * KIB
    KIB_16 = 16 * KIB
    KIB_64 = 64 * KIB


@dataclass(frozen=True, slots=True)
class Image:
    """A kernel checked to be an arm64 Image; sizes in bytes."""

    path: str
    data: memoryview
    text_offset: int
    """From a 2 MiB boundary to where the kernel must be loaded."""
    memory_size: int
    """From there, what must be free memory."""
    page_size: PageSize
    type: str
    """What kexec-tools' --type calls the file: Image or vmlinux."""

    @property
    def format(self) -> str:
        """What the file is, for people."""
        return f"arm64 {self.type}"


def matches(data: memoryview) -> bool:
    """Whether this is one, good or bad."""
    return data.nbytes >= HEADER.sizeof() and bytes(data[0x38:0x3C]) == _MAGIC


def parse(file: FileData) -> Image:
    """Read and check an Image, or the vmlinux one is made of. Raises ImageError."""
    path, data = file.path, file.data
    kind = "Image"
    if bytes(data[:4]) == b"\x7fELF" and data[18:20] == _EM_AARCH64:
        kind = "vmlinux"
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
    return Image(path, data, text_offset, memory_size, list(PageSize)[header.flags >> 1 & 3], kind)


def _require_whole(path: str, data: memoryview) -> None:
    """image_size counts more than the file's bytes; the EFI stub's PE header tells the file's length."""
    stub = pe.parse(path, data)
    if stub is not None and stub.end > data.nbytes:
        raise ImageError(
            f"{path}: truncated: {data.nbytes} bytes, but its PE header says {stub.end}",
            hint="copy or install the kernel again",
        )
