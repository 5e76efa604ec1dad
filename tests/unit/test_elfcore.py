"""Core headers, read back with pyelftools."""

import io
from typing import Literal

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from pykexec import elfcore
from pykexec.errors import MachineError
from pykexec.machine.cpus import NoteArea

U52 = st.integers(0, (1 << 52) - 1)
NOTES = st.builds(NoteArea, address=U52, size=st.integers(1, 1 << 16))
PARTS = st.builds(
    elfcore.MemoryPart,
    physical=U52,
    virtual=st.integers(0, (1 << 64) - 1),
    size=st.integers(1, 1 << 52),
    saved_at=st.none() | U52,
)


@given(
    st.lists(NOTES, max_size=5),
    st.none() | NOTES,
    st.lists(PARTS, max_size=5),
    st.sampled_from(["little", "big"]),
)
def test_headers_say_what_was_asked(
    cpus: list[NoteArea],
    vmcoreinfo: NoteArea | None,
    memory: list[elfcore.MemoryPart],
    byte_order: Literal["little", "big"],
) -> None:
    core = elfcore.build(62, cpu_notes=cpus, vmcoreinfo=vmcoreinfo, memory=memory, byte_order=byte_order)
    elf = ELFFile(io.BytesIO(core))
    assert (elf["e_type"], elf["e_machine"], elf.elfclass) == ("ET_CORE", "EM_X86_64", 64)
    assert elf.little_endian == (byte_order == "little")
    segments = [segment.header for segment in elf.iter_segments()]
    notes = [h for h in segments if h["p_type"] == "PT_NOTE"]
    assert [(n["p_offset"], n["p_paddr"], n["p_filesz"], n["p_memsz"]) for n in notes] == [
        (n.address, n.address, n.size, n.size) for n in [*cpus, *([vmcoreinfo] if vmcoreinfo else [])]
    ]
    loads = [h for h in segments if h["p_type"] == "PT_LOAD"]
    assert segments == notes + loads
    assert [(s["p_paddr"], s["p_vaddr"], s["p_memsz"], s["p_filesz"], s["p_offset"]) for s in loads] == [
        (m.physical, m.virtual, m.size, m.size, m.physical if m.saved_at is None else m.saved_at)
        for m in memory
    ]


def test_more_parts_than_an_elf_header_can_count() -> None:
    part = elfcore.MemoryPart(0, 0, 4096)
    with pytest.raises(MachineError, match="65535 program headers"):
        elfcore.build(62, cpu_notes=[], vmcoreinfo=None, memory=[part] * 65535)
