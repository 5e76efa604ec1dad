"""kexec jump: purgatory tells the new kernel where the old one waits, and goes back to one that waits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import purgatory
from pykexec.arch.x86.jump import identity_map
from pykexec.arch.x86.preparation import Leave
from pykexec.memory import GIB, Range
from pykexec.purgatory import Region
from tests.emulated.machine import PLAIN, Outcome, run

BLOB = purgatory.load_blob("x86_64")
PURGATORY, KERNEL, LINE, STACK = 0x10000, 0x200000, 0x300000, 0x400000
ZEROS = b"quiet entry=0x" + b"0" * 16 + b"\0"
RETURN = 0x1234_5678_9000


def start(image: bytes, kernel: bytes = b"\xf4" * 64, *, to: int = KERNEL, cr4: int = PLAIN.cr4) -> Outcome:
    """Enter purgatory as a function that returns to RETURN."""
    memory = {
        PURGATORY: image.ljust(BLOB.memsz, b"\xcc"),
        KERNEL: kernel,
        LINE: ZEROS,
        STACK: RETURN.to_bytes(8, "little"),
    }
    return run(
        memory,
        PURGATORY + BLOB.entry_offset,
        to,
        registers={"rsp": STACK},
        peek={LINE: len(ZEROS), PURGATORY: BLOB.memsz},
        cpu=replace(PLAIN, cr4=cr4),
    )


def telling(*, called: bool = False, jump_back_digits: int = 0) -> bytes:
    region = Region("kernel", KERNEL, memoryview(b"\xf4" * 64))
    return purgatory.build(
        BLOB,
        jump_to=KERNEL,
        arguments=(),
        digests=purgatory.digest_regions([region]),
        called=called,
        jump_back_digits=jump_back_digits,
    )


def test_the_new_kernel_is_told_where_the_old_one_waits() -> None:
    outcome = start(telling(called=True, jump_back_digits=LINE + len(ZEROS) - 17))
    assert outcome.jumped
    assert outcome.memory[LINE] == b"quiet entry=0x0000123456789000\0"


def test_nothing_is_written_where_it_is_not_asked_for() -> None:
    assert start(telling()).memory[LINE] == ZEROS


def test_a_damaged_kernel_is_told_nothing() -> None:
    outcome = start(telling(called=True, jump_back_digits=LINE + len(ZEROS) - 17), b"\x90" * 64)
    assert not outcome.jumped
    assert outcome.memory[LINE] == ZEROS


@pytest.mark.parametrize(("cr4", "top"), [(PLAIN.cr4, 0x5000), (PLAIN.cr4 | 1 << 12, 0x6000)])
def test_a_kernel_that_waits_is_gone_back_to(cr4: int, top: int) -> None:
    """It is mapped (LA57 is bit 12 of CR4), and told to call purgatory the next time. Then the other kernel
    goes on, and calls purgatory in turn, which goes to where the first one waits by then."""
    image = purgatory.build(
        BLOB, jump_to=KERNEL, arguments=(0x5000, 0x6000, 0, Leave.BACK), digests=(), called=True
    )
    outcome = start(image, cr4=cr4)
    assert outcome.jumped
    assert outcome.after["cr3"] == top
    call = on_stack(outcome)
    assert PURGATORY <= call < PURGATORY + BLOB.memsz
    again = run(
        {
            PURGATORY: outcome.memory[PURGATORY],
            STACK: (KERNEL + 0x20).to_bytes(8, "little"),
            RETURN: b"\xf4",
        },
        call,
        RETURN,
        registers={"rsp": STACK},
        peek={PURGATORY: BLOB.memsz},
    )
    assert again.jumped
    assert on_stack(again) == PURGATORY + BLOB.entry_offset
    once_more = start(again.memory[PURGATORY], kernel=bytes(0x20) + b"\xf4", to=KERNEL + 0x20, cr4=cr4)
    assert once_more.jumped
    assert once_more.after["cr3"] == top


def on_stack(outcome: Outcome) -> int:
    at = outcome.registers["rsp"] - PURGATORY
    return int.from_bytes(outcome.memory[PURGATORY][at : at + 8], "little")


def walk(image: bytes, base: int, top: int, levels: int, virtual: int) -> int | None:
    """The physical address, as Intel's SDM (volume 3, 4.5) translates."""
    table = top
    for level in range(levels, 0, -1):
        shift = 12 + 9 * (level - 1)
        at = table - base + 8 * (virtual >> shift & 0x1FF)
        entry = int.from_bytes(image[at : at + 8], "little")
        if not entry & 1:
            return None
        assert entry & 2, "writable"
        assert entry & 0x20, "accessed: the CPU would write it"
        assert entry & 0x40 or not entry & 0x80, "dirty"
        table = entry & 0x000F_FFFF_FFFF_F000
        if level == 1 or entry & 0x80:
            assert level <= 3
            return table & ~((1 << shift) - 1) | virtual & (1 << shift) - 1
    raise AssertionError


ADDRESSES = st.integers(0, (1 << 47) - GIB) | st.sampled_from([0, GIB - 1, (1 << 39) - 1, (1 << 46) - 1])


@given(st.lists(st.tuples(ADDRESSES, st.integers(1, 3 * GIB)), min_size=1, max_size=3), ADDRESSES)
def test_all_that_is_asked_for_is_mapped_to_where_it_is(ranges: list[tuple[int, int]], other: int) -> None:
    base = 0x7000
    tables = identity_map(base, [Range.sized(*each) for each in ranges])
    for start, size in ranges:
        for address in (start, start + size // 2, start + size - 1):
            assert walk(tables.image, base, tables.four_levels, 4, address) == address
            assert walk(tables.image, base, tables.five_levels, 5, address) == address
    assert walk(tables.image, base, tables.four_levels, 4, other) in (None, other)
