"""Executables of either class and byte order, against pyelftools."""

import contextlib
import io
import struct

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from pykexec.errors import ImageError
from pykexec.formats import elf
from tests.support.program import Load, Program

MACHINES = {
    "x86_64": (64, "<", 62),
    "ppc64": (64, ">", 21),
    "ppc64le": (64, "<", 21),
    "s390x": (64, ">", 22),
    "arm": (32, "<", 40),
    "ppc": (32, ">", 20),
    "sh": (32, "<", 42),
}
"""By our names: class, byte order, and e_machine."""


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """No two segments overlap."""
    bits, order, machine = draw(st.sampled_from(sorted(MACHINES.values())))
    at, loads = draw(st.integers(0, 1 << bits - 1)), []
    for _ in range(draw(st.integers(1, 5))):
        at += draw(st.integers(0, 1 << 20))
        data, zeros = draw(st.binary(min_size=1, max_size=50)), draw(st.integers(0, 1 << 20))
        virtual = draw(st.integers(0, (1 << bits) - 1))
        loads.append(Load(at, data, memsz=len(data) + zeros, virtual=virtual))
        at += len(data) + zeros
    entry = draw(st.integers(0, (1 << bits) - 1))
    kind = draw(st.sampled_from([2, 3]))
    return Program(loads, entry, bits=bits, machine=machine, order=order, kind=kind)


@given(programs())
def test_programs_are_read_as_others_read_them(program: Program) -> None:
    data = program.build()
    found, expected = elf.parse("vmlinux", memoryview(data)), ELFFile(io.BytesIO(data))
    assert found.entry == expected["e_entry"]
    ours = [(each.address, each.virtual, bytes(each.data), each.memsz) for each in found.pieces]
    theirs = [
        (each["p_paddr"], each["p_vaddr"], each.data(), each["p_memsz"]) for each in expected.iter_segments()
    ]
    assert ours == theirs


@pytest.mark.parametrize("name", MACHINES)
def test_what_it_is_for(name: str) -> None:
    bits, order, machine = MACHINES[name]
    data = Program([], 0, bits=bits, order=order, machine=machine).build()
    row = elf.architecture(memoryview(data))
    assert row is not None
    assert row.name == name
    assert elf.architecture(memoryview(data)[:-1]) is None


@pytest.mark.parametrize(("bits", "order"), [(32, "<"), (32, ">"), (64, "<"), (64, ">")])
def test_no_segment_goes_beyond_the_last_address(bits: int, order: str) -> None:
    def program(memsz: int) -> memoryview:
        last = Load((1 << bits) - 4096, b"x", memsz=memsz)
        return memoryview(Program([last], 0, bits=bits, order=order).build())

    assert elf.parse("vmlinux", program(4096)).range.end == 1 << bits
    with pytest.raises(ImageError, match="segment 0 ends beyond the last address"):
        elf.parse("vmlinux", program(4097))


@given(st.data())
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    whole = data.draw(programs()).build()
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, min(len(damaged), 200) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        found = elf.parse("vmlinux", memoryview(damaged))
        assert sum(each.data.nbytes for each in found.pieces) <= 2 * len(damaged)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tables_that_do_not_fit_the_file(order: str) -> None:
    data = bytearray(Program([Load(0, b"x")], 0, order=order).build())
    struct.pack_into(f"{order}Q", data, 32, (1 << 64) - 8)  # e_phoff
    with pytest.raises(ImageError, match="no room for its 1 program headers at 0xfffffffffffffff8"):
        elf.parse("vmlinux", memoryview(data))
