"""Images: kernels as they run, behind a header of 64 bytes; and the vmlinux that one is made of.

arm64 and riscv64 have the same header (Documentation/arch/arm64/booting.rst, "Call the kernel image";
Documentation/arch/riscv/boot-image-header.rst).
"""

from __future__ import annotations

from pykexec.arch import Arch
from pykexec.booting.kernel import KernelFacts
from pykexec.booting.treeload import TreeKernel
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import pe
from pykexec.formats.compiled import IMAGE
from pykexec.memory import MIB
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MAGIC = slice(0x38, 0x3C)
_FLAG_BIG_ENDIAN = 1 << 0
_ALIGNMENT = 2 * MIB
_SIZE_MAX = 1 << 40


def _does_not_tell(_: Any) -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class ImageKind:
    """What differs between the architectures. `Any` stands for a header, `formats.declared.IMAGE`."""

    arch: Arch
    magic: bytes
    signature: str
    """That, for people."""
    line_limit: int
    """Bytes of the longest command line it takes, without the NUL."""
    place: Callable[[str, Any, int], tuple[int, int]]
    """Return, of a file's path, header and size, how far from a multiple of 2 MiB it must lie, and the bytes
    of memory that it takes. Raises ImageError."""
    image_type: str = "Image"
    vmlinux_type: str = "vmlinux"
    """By kexec-tools' names (-t)."""
    page_size: Callable[[Any], int | None] = _does_not_tell
    """Return the kernel's, in bytes."""
    loads_vmlinux: bool = False
    """Whether the running kernel takes a vmlinux from kexec_file_load(2), too."""

    def parse(self, file: FileData) -> TreeKernel:
        """Read and check an Image, or the vmlinux one is made of. Raises ImageError."""
        path, data = file.path, file.data
        type_, form = self.image_type, "Image"
        if self._is_vmlinux(data):
            type_, form = self.vmlinux_type, "vmlinux"
            from pykexec.formats import elf

            data = elf.flatten(path, elf.parse(path, data).pieces).data
        if not self._is_image(data):
            from pykexec.formats import identify

            lack = f"no {self.arch.name} Image signature ({self.signature})"
            raise identify.unknown(path, file.data, lack, self.arch.name)
        header = IMAGE.parse(bytes(data[: IMAGE.sizeof()]))
        _require_whole(path, data)
        if header.flags & _FLAG_BIG_ENDIAN:
            raise ImageError(
                f"{path}: a big-endian kernel (flags at offset 0x18); only little-endian is supported"
            )
        offset, memory_size = self.place(path, header, data.nbytes)
        if memory_size > _SIZE_MAX or offset >= _ALIGNMENT or offset % 4096:
            raise ImageError(
                f"{path}: damaged Image: text_offset {offset:#x}, image_size {memory_size:#x} (offset 0x8)"
            )
        if memory_size < data.nbytes:
            raise ImageError(
                f"{path}: damaged Image: image_size {memory_size:#x} at offset 0x10 is less than the file's"
                f" {data.nbytes:#x} bytes"
            )
        return TreeKernel(
            path=path,
            data=data,
            offset=offset,
            memory_size=memory_size,
            alignment=_ALIGNMENT,
            type=type_,
            description=f"{self.arch.name} {form}",
            page_size=self.page_size(header),
        )

    def inspect(self, kernel: FileData) -> KernelFacts | None:
        """Return what a kernel tells; None for another file. Raises ImageError for a damaged one."""
        if self._is_vmlinux(kernel.data):
            from pykexec.formats import elf

            format_, memory = self.vmlinux_type, elf.parse(kernel.path, kernel.data).range.size
        elif self._is_image(kernel.data):
            format_, memory = self.image_type, self.parse(kernel).memory_size
        else:
            return None
        return KernelFacts(
            arch=self.arch.name,
            format=format_,
            memory=memory,
            line_limit=self.line_limit,
            is_for_file_load=format_ == self.image_type or self.loads_vmlinux,
            program=kernel.data,
        )

    def _is_image(self, data: memoryview) -> bool:
        """Whether this is one, good or bad."""
        return data.nbytes >= IMAGE.sizeof() and bytes(data[_MAGIC]) == self.magic

    def _is_vmlinux(self, data: memoryview) -> bool:
        """Whether this is an ELF file for this architecture."""
        if bytes(data[:4]) != b"\x7fELF":
            return False
        from pykexec.formats import elf

        return elf.is_for(data, self.arch.name)


def _require_whole(path: str, data: memoryview) -> None:
    """image_size counts more than the file's bytes; the EFI stub's PE header tells the file's length."""
    stub = pe.parse(path, data)
    if stub is not None and stub.end > data.nbytes:
        raise ImageError(
            f"{path}: truncated: {data.nbytes} bytes, but its PE header says {stub.end}",
            hint="copy or install the kernel again",
        )
