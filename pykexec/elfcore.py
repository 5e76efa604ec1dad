"""The ELF core headers that describe the crashed kernel's memory to the capture kernel.

The capture kernel finds them through ``elfcorehdr=`` (or the device tree), merges the notes, and offers the
whole as /proc/vmcore (fs/proc/vmcore.c). Offsets in these headers are therefore physical addresses.
"""

from __future__ import annotations

from pykexec.errors import MachineError
from pykexec.formats.elfheader import ET_CORE, PF_RWX, PT_LOAD, PT_NOTE, Encoding, ProgramHeader
from pykexec.machine.cpus import NoteArea
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pykexec.names import Elf

_PHNUM_MAX = 0xFFFE
"""e_phnum has 16 bits, and fs/proc/vmcore.c does not know the extension for more (PN_XNUM = 0xffff)."""


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """A piece of the crashed kernel's memory (bytes; all addresses of its first byte)."""

    physical: int
    virtual: int | None
    """Where the crashed kernel had it mapped; None for what it mapped only as it was needed (highmem)."""
    size: int
    saved_at: int | None = None
    """Physical address at which its contents are when the capture kernel runs, if they were moved."""


def build(
    elf: Elf,
    *,
    cpu_notes: Iterable[NoteArea],
    vmcoreinfo: NoteArea | None,
    memory: Sequence[MemoryPart],
) -> bytes:
    """Return an ELF header and program headers: one PT_NOTE for each CPU, one for VMCOREINFO, then PT_LOADs.

    `elf` says how the capture kernel wants it. Raises MachineError when there are more parts than an ELF
    header can count, and for an address that has more bits than one in this file.
    """
    notes = [*cpu_notes, *([vmcoreinfo] if vmcoreinfo else [])]
    headers = [*map(_note, notes), *(_part(each, elf.bits) for each in memory)]
    if len(headers) > _PHNUM_MAX:
        raise MachineError(
            f"the crash dump would need {len(headers)} program headers, an ELF file has at most {_PHNUM_MAX}"
        )
    for each in headers:
        if max(each.offset, each.virtual, each.physical, each.memory_size) >> elf.bits:
            raise MachineError(
                f"core headers of {elf.bits} bits cannot describe {each.memory_size:#x} bytes of memory"
                f" at {each.physical:#x} (virtual {each.virtual:#x})"
            )
    return Encoding.of(elf).build(ET_CORE, elf.machine, headers)


def _note(area: NoteArea) -> ProgramHeader:
    return ProgramHeader(PT_NOTE, 0, area.address, 0, area.address, area.size, area.size)


def _part(part: MemoryPart, bits: int) -> ProgramHeader:
    offset = part.physical if part.saved_at is None else part.saved_at
    # As kexec-tools writes it, and makedumpfile and crash expect it.
    virtual = (1 << bits) - 1 if part.virtual is None else part.virtual
    return ProgramHeader(PT_LOAD, PF_RWX, offset, virtual, part.physical, part.size, part.size)
