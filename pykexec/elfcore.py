"""The ELF core headers that describe the crashed kernel's memory to the capture kernel.

The capture kernel finds them through ``elfcorehdr=`` (or the device tree), merges the notes, and offers the
whole as /proc/vmcore (fs/proc/vmcore.c). Offsets in these headers are therefore physical addresses.
"""

from __future__ import annotations

import struct

from pykexec.errors import MachineError
from pykexec.machine.cpus import NoteArea
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

_EHDR = {"little": struct.Struct("<16sHHIQQQIHHHHHH"), "big": struct.Struct(">16sHHIQQQIHHHHHH")}
_PHDR = {"little": struct.Struct("<IIQQQQQQ"), "big": struct.Struct(">IIQQQQQQ")}
# elf(5)
_ET_CORE = 4
_PT_LOAD = 1
_PT_NOTE = 4
_PF_RWX = 7
_PHNUM_MAX = 0xFFFE
"""e_phnum has 16 bits, and fs/proc/vmcore.c does not know the extension for more (PN_XNUM = 0xffff)."""


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """A piece of the crashed kernel's memory (bytes; all addresses of its first byte)."""

    physical: int
    virtual: int
    """Where the crashed kernel had it mapped."""
    size: int
    saved_at: int | None = None
    """Physical address at which its contents are when the capture kernel runs, if they were moved."""


def build(
    elf_machine: int,
    *,
    cpu_notes: Iterable[NoteArea],
    vmcoreinfo: NoteArea | None,
    memory: Sequence[MemoryPart],
    byte_order: Literal["little", "big"] = "little",
) -> bytes:
    """The ELF64 header and program headers: one PT_NOTE for each CPU, one for VMCOREINFO, then the PT_LOADs.

    `elf_machine` is the EM_* number of the crashed kernel. Raises MachineError when there are more parts
    than an ELF header can count.
    """
    phdr = _PHDR[byte_order]
    notes = [*cpu_notes, *([vmcoreinfo] if vmcoreinfo else [])]
    count = len(notes) + len(memory)
    if count > _PHNUM_MAX:
        raise MachineError(
            f"the crash dump would need {count} program headers, an ELF file has at most {_PHNUM_MAX}"
        )
    headers = [_file_header(elf_machine, count, byte_order)]
    headers += [phdr.pack(_PT_NOTE, 0, n.address, 0, n.address, n.size, n.size, 0) for n in notes]
    for part in memory:
        offset = part.physical if part.saved_at is None else part.saved_at
        headers.append(
            phdr.pack(_PT_LOAD, _PF_RWX, offset, part.virtual, part.physical, part.size, part.size, 0)
        )
    return b"".join(headers)


def _file_header(elf_machine: int, phnum: int, byte_order: Literal["little", "big"]) -> bytes:
    ehdr = _EHDR[byte_order]
    elfclass64, version = 2, 1
    ident = b"\x7fELF" + bytes([elfclass64, 1 if byte_order == "little" else 2, version])
    return ehdr.pack(
        ident,
        _ET_CORE,
        elf_machine,
        version,
        0,  # e_entry
        ehdr.size,  # e_phoff
        0,  # e_shoff
        0,  # e_flags
        ehdr.size,  # e_ehsize
        _PHDR[byte_order].size,  # e_phentsize
        phnum,
        0,  # e_shentsize
        0,  # e_shnum
        0,  # e_shstrndx
    )
