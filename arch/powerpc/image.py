"""Read vmlinux: a 64-bit powerpc kernel as linked, which is what distributions ship."""

from __future__ import annotations

from pykexec.arch import Arch
from pykexec.booting.kernel import KernelFacts
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import elf
from pykexec.memory import KIB
from pykexec.values import dataclass

LINE_LIMIT = 2047
"""Bytes of the longest command line (COMMAND_LINE_SIZE in arch/powerpc/include/uapi/asm/setup.h, less the
NUL)."""
HEAD_SIZE = 0x100
"""The bytes that a running kernel copies to address 0, where the other CPUs go on
(arch/powerpc/kernel/misc_64.S, kexec_sequence())."""
_RUN_FLAG = slice(0x5C, 0x60)  # arch/powerpc/kernel/head_64.S, __run_at_load
_RELOCATABLE, _STAY = 0x72756E30, 1
"""In that word: "run0", as kernels with CONFIG_RELOCATABLE have it; and what keeps them where they are."""
_ALIGNMENT = 64 * KIB


@dataclass(frozen=True, slots=True)
class Vmlinux:
    """A kernel as the loader needs it; sizes are in bytes."""

    path: str
    data: memoryview
    memory_size: int
    """The memory that must be free from its first byte on, where it is entered."""
    alignment: int
    description: str
    is_relocatable: bool
    """True for one that runs where it was loaded, if it is told to; all others run at address 0."""


@dataclass(frozen=True, slots=True)
class VmlinuxKind:
    """A reader of vmlinux for one of the architectures."""

    arch: Arch

    @property
    def type(self) -> str:
        """By kexec-tools' name (-t)."""
        (found,) = self.arch.formats
        return found

    def parse(self, file: FileData) -> Vmlinux:
        """Read and check a kernel. Raises ImageError."""
        path = file.path
        if not elf.is_for(file.data, self.arch.name):
            from pykexec.formats import identify

            lack = f"no vmlinux for {self.arch.name}"
            raise identify.unknown(path, file.data, lack, self.arch.name)
        program = elf.parse(path, file.data)
        whole = elf.flatten(path, program.pieces)
        if whole.data.nbytes <= HEAD_SIZE:
            raise ImageError(f"{path}: damaged vmlinux: {whole.data.nbytes} bytes to load")
        if program.physical_entry() != whole.address:
            raise ImageError(
                f"{path}: entered at {program.entry:#x}, which is not its first byte: no Linux kernel"
            )
        return Vmlinux(
            path=path,
            data=whole.data,
            memory_size=whole.memsz,
            alignment=max(program.alignment, _ALIGNMENT),
            description=f"{self.arch.name} vmlinux",
            is_relocatable=whole.data[_RUN_FLAG] == self._word(_RELOCATABLE),
        )

    def staying(self, kernel: Vmlinux) -> memoryview:
        """Return the kernel's bytes with which it stays where it was loaded."""
        data = bytearray(kernel.data)
        data[_RUN_FLAG] = self._word(_STAY)
        return memoryview(data)

    def inspect(self, kernel: FileData) -> KernelFacts | None:
        """Return what a kernel tells; None for another file. Raises ImageError for a damaged one."""
        if not elf.is_for(kernel.data, self.arch.name):
            return None
        return KernelFacts(
            arch=self.arch.name,
            format=self.type,
            memory=self.parse(kernel).memory_size,
            line_limit=LINE_LIMIT,
            is_for_file_load=True,  # arch/powerpc/kexec/elf_64.c
            program=kernel.data,
        )

    def _word(self, number: int) -> bytes:
        order = self.arch.names.elf.order
        assert order is not None
        return number.to_bytes(4, order)
