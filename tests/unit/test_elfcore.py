"""Core headers, read back with pyelftools."""

import io

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from pykexec import elfcore
from pykexec.errors import MachineError
from pykexec.machine.cpus import NoteArea
from pykexec.names import Elf

X86_64 = Elf(62, 64, "little")
ELVES = {
    "EM_X86_64": X86_64,
    "EM_S390": Elf(22, 64, "big"),
    "EM_ARM": Elf(40, 32, "little"),
    "EM_PPC": Elf(20, 32, "big"),
}
"""By pyelftools' names for them."""


def notes(bits: int) -> st.SearchStrategy[NoteArea]:
    return st.builds(NoteArea, address=st.integers(0, (1 << bits) - 1), size=st.integers(1, 1 << 16))


def parts(bits: int) -> st.SearchStrategy[elfcore.MemoryPart]:
    addresses = st.integers(0, (1 << bits) - 1)
    return st.builds(
        elfcore.MemoryPart,
        physical=addresses,
        virtual=addresses,
        size=st.integers(1, (1 << bits) - 1),
        saved_at=st.none() | addresses,
    )


@given(st.data(), st.sampled_from(sorted(ELVES)))
def test_headers_say_what_was_asked(data: st.DataObject, machine: str) -> None:
    elf = ELVES[machine]
    cpus = data.draw(st.lists(notes(elf.bits), max_size=5))
    vmcoreinfo = data.draw(st.none() | notes(elf.bits))
    memory = data.draw(st.lists(parts(elf.bits), max_size=5))
    core = elfcore.build(elf, cpu_notes=cpus, vmcoreinfo=vmcoreinfo, memory=memory)
    found = ELFFile(io.BytesIO(core))
    assert (found["e_type"], found["e_machine"], found.elfclass) == ("ET_CORE", machine, elf.bits)
    assert found.little_endian == (elf.order == "little")
    assert len(core) == found["e_ehsize"] + found["e_phnum"] * found["e_phentsize"]
    segments = [segment.header for segment in found.iter_segments()]
    found_notes = [h for h in segments if h["p_type"] == "PT_NOTE"]
    assert [(n["p_offset"], n["p_paddr"], n["p_filesz"], n["p_memsz"]) for n in found_notes] == [
        (n.address, n.address, n.size, n.size) for n in [*cpus, *([vmcoreinfo] if vmcoreinfo else [])]
    ]
    loads = [h for h in segments if h["p_type"] == "PT_LOAD"]
    assert segments == found_notes + loads
    assert {load["p_flags"] for load in loads} <= {7}
    assert [(s["p_paddr"], s["p_vaddr"], s["p_memsz"], s["p_filesz"], s["p_offset"]) for s in loads] == [
        (m.physical, m.virtual, m.size, m.size, m.physical if m.saved_at is None else m.saved_at)
        for m in memory
    ]


def test_more_parts_than_an_elf_header_can_count() -> None:
    part = elfcore.MemoryPart(0, 0, 4096)
    with pytest.raises(MachineError, match="65535 program headers"):
        elfcore.build(X86_64, cpu_notes=[], vmcoreinfo=None, memory=[part] * 65535)


@pytest.mark.parametrize(
    "part",
    [
        elfcore.MemoryPart(1 << 32, 0, 4096),
        elfcore.MemoryPart(0, 1 << 32, 4096),
        elfcore.MemoryPart(0, 0, 1 << 32),
        elfcore.MemoryPart(0, 0, 4096, saved_at=1 << 32),
    ],
)
def test_what_an_address_of_32_bits_cannot_say_is_refused(part: elfcore.MemoryPart) -> None:
    elfcore.build(X86_64, cpu_notes=[], vmcoreinfo=None, memory=[part])
    with pytest.raises(MachineError, match=f"32 bits cannot describe {part.size:#x} bytes"):
        elfcore.build(ELVES["EM_ARM"], cpu_notes=[], vmcoreinfo=None, memory=[part])
