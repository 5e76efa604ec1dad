"""ELF headers of either class and byte order, against pyelftools."""

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_TYPE
from hypothesis import given
from hypothesis import strategies as st

from pykexec import names
from pykexec.formats import elfheader
from pykexec.formats.elfheader import Encoding, ProgramHeader

ENCODINGS = [Encoding(bits, order) for bits in (32, 64) for order in ("little", "big")]
FIELDS = ("p_type", "p_flags", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_align")


@st.composite
def files(draw: st.DrawFn) -> tuple[Encoding, Sequence[ProgramHeader]]:
    encoding = draw(st.sampled_from(ENCODINGS))
    word = st.integers(0, (1 << encoding.bits) - 1)
    # Types that pyelftools has no name for: it then gives the number.
    row = st.builds(
        ProgramHeader, st.integers(20, 99), st.integers(0, (1 << 32) - 1), *[word] * 5, alignment=word
    )
    return encoding, draw(st.lists(row, max_size=6))


@given(files())
def test_what_is_written_is_what_others_read(file: tuple[Encoding, Sequence[ProgramHeader]]) -> None:
    encoding, rows = file
    data = encoding.build(elfheader.ET_CORE, 8, rows)
    found = ELFFile(io.BytesIO(data))
    assert (found.elfclass, found.little_endian) == (encoding.bits, encoding.order == "little")
    assert (found["e_type"], found["e_machine"], found["e_ehsize"]) == (
        "ET_CORE",
        "EM_MIPS",
        encoding.header_size,
    )
    assert found["e_phentsize"] == encoding.program_header_size
    for index, row in enumerate(rows):
        assert found.get_segment(index).header == dict(
            zip(FIELDS, (getattr(row, name) for name in row.__slots__), strict=True)
        )
    # And back.
    assert elfheader.encoding(data) == encoding
    assert list(encoding.program_headers(data, encoding.header(data))) == rows


def test_the_headers_of_a_program_are_those_that_others_read() -> None:
    """This very interpreter."""
    with Path("/proc/self/exe").open("rb") as file:
        data = file.read()
        found = ELFFile(file)
        encoding = elfheader.encoding(data)
        assert encoding is not None
        header = encoding.header(data)
        assert (header.type, header.entry) == (ENUM_E_TYPE[found["e_type"]], found["e_entry"])
        assert (header.flags, header.section_headers_at) == (found["e_flags"], found["e_shoff"])
        assert (header.version, header.section_header_count) == (1, found["e_shnum"])
        ours = [(row.offset, row.file_size) for row in encoding.program_headers(data, header)]
        assert ours == [(each["p_offset"], each["p_filesz"]) for each in found.iter_segments()]


@given(files())
def test_a_table_is_read_like_its_rows(file: tuple[Encoding, Sequence[ProgramHeader]]) -> None:
    encoding, rows = file
    table = encoding.build(elfheader.ET_CORE, 8, rows)[encoding.header_size :]
    assert [ProgramHeader(*row) for row in encoding.rows(table)] == rows
    if table:
        with pytest.raises(struct.error):
            list(encoding.rows(table[:-1]))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_header_without_sections(encoding: Encoding) -> None:
    word, at = encoding.bits // 8, 24 + encoding.bits // 4  # elf(5): e_shoff
    data = bytearray(encoding.build(elfheader.ET_CORE, 8, []))
    data[at : at + word] = (12345).to_bytes(word, encoding.order)
    data[-4:] = (3).to_bytes(2, encoding.order) + (2).to_bytes(2, encoding.order)
    assert encoding.header(bytes(data)).section_headers_at == 12345
    found = ELFFile(io.BytesIO(encoding.without_sections(bytes(data))))
    assert (found["e_shoff"], found["e_shnum"], found["e_shstrndx"]) == (0, 0, 0)
    data[at : at + word], data[-4:] = bytes(word), bytes(4)
    assert encoding.without_sections(bytes(data)) == data


@pytest.mark.parametrize("at", range(7))
def test_what_is_no_elf_file(at: int) -> None:
    data = bytearray(ENCODINGS[0].build(elfheader.ET_CORE, 8, []))
    assert elfheader.encoding(bytes(data)) is not None
    data[at] = 0
    assert elfheader.encoding(bytes(data)) is None
    assert elfheader.encoding(b"") is None


@given(st.sampled_from(ENCODINGS), st.binary(max_size=200))
def test_damaged_headers_end_in_one_kind_of_error(encoding: Encoding, data: bytes) -> None:
    try:
        rows = list(encoding.program_headers(data, encoding.header(data)))
    except struct.error:
        return
    assert len(rows) <= 0xFFFF


def test_numbers_that_do_not_fit_are_refused() -> None:
    row = ProgramHeader(1, 0, 0, 1 << 32, 0, 0, 0)
    for encoding in ENCODINGS:
        if encoding.bits == 64:
            encoding.build(elfheader.ET_CORE, 8, [row])
        else:
            with pytest.raises(struct.error):
                encoding.build(elfheader.ET_CORE, 8, [row])


def test_an_architecture_of_both_orders_has_no_encoding() -> None:
    assert Encoding.of(names.named("s390x").elf) == Encoding(64, "big")
    with pytest.raises(ValueError, match="both byte orders"):
        Encoding.of(names.named("mips").elf)
