"""Images: memory from address 0 on, with a parameter area (arch/s390/boot/head.S, include/asm/setup.h)."""

from __future__ import annotations

from pykexec.arch.s390x import ARCH
from pykexec.arch.s390x.compiled import PARAMETER_AREA
from pykexec.booting.kernel import ImagePart, KernelFacts
from pykexec.errors import ImageError, UsageError
from pykexec.files import FileData
from pykexec.values import dataclass

(TYPE,) = ARCH.formats

START = 0x10000
"""Where a kernel begins, in its file and in memory; what lies before it is for IPL from other devices."""
KDUMP_ENTRY = 0x10010
_SIGNATURE = slice(0x10008, 0x1000E)
_SIGNED = b"S390EP"
_PARAMETERS_AT = 0x10400
_LINE_AT = 0x10480
_OLD_LINE_SIZE = 896  # arch/s390/include/asm/setup.h, LEGACY_COMMAND_LINE_SIZE
_LINE_SIZE_MAX = 1 << 20  # CONFIG_COMMAND_LINE_SIZE
_VERSION_MAX = 256


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel as the loader needs it."""

    path: str
    data: memoryview
    """The whole file."""
    line_size: int
    """The bytes that it has for its command line, with the NUL."""
    version: str | None

    @property
    def facts(self) -> KernelFacts:
        """What it tells about itself."""
        return KernelFacts(
            arch=ARCH.name,
            format=TYPE,
            line_limit=self.line_size - 1,
            is_for_file_load=True,  # arch/s390/kernel/kexec_image.c
            file_load_adds=1,  # machine_kexec_file.c compares the size with the NUL, and takes less only
            version=self.version,
        )


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a kernel is told in its parameter area; addresses are physical, as it sees them."""

    line: bytes
    initrd: tuple[int, int] = (0, 0)
    """Its address and size."""
    old_memory: tuple[int, int] = (0, 0)
    """The same of the reserved region, where a capture kernel finds the crashed one's memory."""


def parse(file: FileData) -> Kernel:
    """Read and check a kernel. Raises ImageError."""
    path, data = file.path, file.data
    if _is_vmlinux(data):
        raise ImageError(
            f"{path} is a vmlinux, which only kexec_file_load takes",
            hint="load the image that is made of it (bzImage), or leave out -c and what needs it",
        )
    if not _is_image(data):
        from pykexec.formats import identify

        lack = 'no s390x kernel\'s header ("S390EP" at offset 0x10008)'
        raise identify.unknown(path, data, lack, ARCH.name)
    if data.nbytes < _LINE_AT + _OLD_LINE_SIZE:
        raise _truncated(path, data, _LINE_AT + _OLD_LINE_SIZE)
    area = PARAMETER_AREA.parse(data[_PARAMETERS_AT:])
    line_size = area.max_command_line_size or _OLD_LINE_SIZE
    if not _OLD_LINE_SIZE <= line_size <= _LINE_SIZE_MAX:
        raise ImageError(f"{path}: damaged kernel: {line_size:#x} bytes for a command line (offset 0x10430)")
    if data.nbytes < _LINE_AT + line_size:
        raise _truncated(path, data, _LINE_AT + line_size)
    return Kernel(path, data, line_size, _version(data, area.kernel_version))


def _truncated(path: str, data: memoryview, least: int) -> ImageError:
    return ImageError(
        f"{path}: truncated: {data.nbytes} bytes, but its parameter area alone ends at {least}",
        hint="copy or install the kernel again",
    )


def _version(data: memoryview, at: int) -> str | None:
    text = bytes(data[at : at + _VERSION_MAX]) if at else b""
    word = text.partition(b"\0")[0].partition(b" ")[0].decode("ascii", "replace")
    return word if word and word.isascii() and word.isprintable() else None


def with_parameters(kernel: Kernel, told: Parameters) -> bytes:
    """Return the kernel's memory, from `START` on, with what it is told.

    Raises UsageError for a command line that it would take for one in EBCDIC.
    """
    if not told.line.isascii():
        # arch/s390/boot/ipl_parm.c, setup_boot_command_line()
        raise UsageError(
            "the command line is not all ASCII: the new kernel would take it for EBCDIC",
            hint="write it without other characters",
        )
    memory = bytearray(kernel.data[START:])
    area = PARAMETER_AREA.parse(kernel.data[_PARAMETERS_AT:])
    area.initrd_start, area.initrd_size = told.initrd
    area.oldmem_base, area.oldmem_size = told.old_memory
    at, line_at = _PARAMETERS_AT - START, _LINE_AT - START
    memory[at : at + PARAMETER_AREA.sizeof()] = PARAMETER_AREA.build(area)
    memory[line_at : line_at + kernel.line_size] = told.line.ljust(kernel.line_size, b"\0")
    return bytes(memory)


def inspect(kernel: FileData) -> KernelFacts | None:
    """Return what a kernel tells; None for another file. Raises ImageError for a damaged one."""
    if _is_vmlinux(kernel.data):
        # arch/s390/kernel/kexec_elf.c
        return KernelFacts(ARCH.name, "vmlinux", is_for_file_load=True, program=kernel.data)
    return parse(kernel).facts if _is_image(kernel.data) else None


def _is_image(data: memoryview) -> bool:
    """Whether this is one, good or bad."""
    return bytes(data[_SIGNATURE]) == _SIGNED


def _is_vmlinux(data: memoryview) -> bool:
    """Whether this is an ELF file for this architecture."""
    if bytes(data[:4]) != b"\x7fELF":
        return False
    from pykexec.formats import elf

    return elf.is_for(data, ARCH.name)


PART = ImagePart(inspect)
