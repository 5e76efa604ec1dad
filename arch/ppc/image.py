"""Read kernels for ppc: vmlinux, and the raw kernel in a uImage, whose header says where it goes."""

from __future__ import annotations

from pykexec import formats
from pykexec.arch.powerpc.image import LINE_LIMIT
from pykexec.arch.ppc import ARCH
from pykexec.booting.kernel import ImagePart, KernelFacts
from pykexec.errors import ImageError
from pykexec.files import FileData, Placed
from pykexec.formats import elf, elfheader
from pykexec.memory import KIB, MIB
from pykexec.values import dataclass

ELF_TYPE, UIMAGE_TYPE = "elf-ppc", "uImage-ppc"
"""By kexec-tools' names (-t)."""

_PAGE = 4 * KIB
_RAW_BSS = 1 * MIB
"""What a raw kernel, which does not tell, is taken to have of zeroed data behind it, as by the C tool."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel as the loader needs it; sizes are in bytes."""

    path: str
    data: memoryview
    address: int
    """Where it was linked to run; physical."""
    memory_size: int
    entry: int
    """From its first byte on."""
    alignment: int
    runs_anywhere: bool | None
    """Whether it runs where it was loaded; None: it does not tell."""
    type: str

    @property
    def description(self) -> str:
        return "ppc vmlinux" if self.type == ELF_TYPE else "ppc kernel"


def parse(kernel: FileData) -> tuple[Kernel, str]:
    """Read and check a kernel; also return the names of its containers. Raises ImageError."""
    file, wrapping = formats.unwrap(kernel)
    placed = file.placed
    if elf.is_for(file.data, ARCH.name):
        return _vmlinux(file, UIMAGE_TYPE if placed else ELF_TYPE), wrapping
    if placed is None:
        from pykexec.formats import identify

        lack = f"no vmlinux for {ARCH.name}, and no uImage, which would say where it goes"
        raise identify.unknown(file.path, file.data, lack, ARCH.name)
    if ARCH.name not in placed.architectures:
        whose = " or ".join(placed.architectures) or "a machine without a name"
        raise ImageError(f"{kernel.path}: a uImage with a kernel for {whose}, not for {ARCH.name}")
    return _raw(file, placed), wrapping


def _vmlinux(file: FileData, type_: str) -> Kernel:
    program = elf.parse(file.path, file.data)
    whole = elf.flatten(file.path, program.pieces)
    entry = program.physical_entry() - whole.address
    _require_entry(file.path, entry, whole.data.nbytes)
    encoding = elfheader.encoding(file.data)
    assert encoding is not None  # elf.is_for()
    return Kernel(
        path=file.path,
        data=whole.data,
        address=whole.address,
        memory_size=whole.memsz,
        entry=entry,
        alignment=max(program.alignment, _PAGE),
        # CONFIG_RELOCATABLE (arch/powerpc/Makefile: -pie); CONFIG_DYNAMIC_MEMSTART does not show.
        runs_anywhere=encoding.header(file.data).type == elfheader.ET_DYN or None,
        type=type_,
    )


def _raw(file: FileData, placed: Placed) -> Kernel:
    entry = placed.entry - placed.load
    _require_entry(file.path, entry, file.size)
    if placed.load % _PAGE:
        raise ImageError(f"{file.path}: goes to {placed.load:#x}, where no page begins")
    return Kernel(
        path=file.path,
        data=file.data,
        address=placed.load,
        memory_size=file.size + _RAW_BSS,
        entry=entry,
        alignment=_PAGE,
        runs_anywhere=None,
        type=UIMAGE_TYPE,
    )


def _require_entry(path: str, entry: int, size: int) -> None:
    if not 0 <= entry <= size - 4 or entry % 4:
        raise ImageError(f"{path}: entered {entry:#x} bytes from its first one, where no kernel is")


def inspect(kernel: FileData) -> KernelFacts | None:
    """Return what a kernel tells; None for another file. Raises ImageError for a damaged one.

    A raw one is told by nothing but the header that is off by then.
    """
    if not elf.is_for(kernel.data, ARCH.name):
        return None
    return KernelFacts(
        arch=ARCH.name,
        format=ELF_TYPE,
        memory=_vmlinux(kernel, ELF_TYPE).memory_size,
        line_limit=LINE_LIMIT,
        program=kernel.data,
    )


PART = ImagePart(inspect)
