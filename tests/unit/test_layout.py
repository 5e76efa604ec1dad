"""Placing segments: whole pages, no overlap, and a clear word when there is no room."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.x86_64 import ARCH
from pykexec.booting.context import Context
from pykexec.errors import PlacementError
from pykexec.memory import Placement, Range, RangeSet
from pykexec.plan import Layout, Request
from pykexec.values import replace
from tests.support.machines import snapshot

PAGE_SIZES = st.sampled_from([0x1000, 0x4000, 0x10000])
REQUESTS = st.tuples(
    st.integers(0, 0x30000), st.sampled_from([1, 0x1000, 0x200000]), st.sampled_from(list(Placement))
)


ENDS = st.sampled_from([0x800000, 0x8FF800, 1 << 32, 1 << 64])


@given(PAGE_SIZES, st.lists(REQUESTS, max_size=8), ENDS)
def test_places_are_aligned_whole_pages_in_free_memory_and_disjoint(
    page_size: int, requests: list[tuple[int, int, Placement]], end: int
) -> None:
    free = RangeSet(
        [Range(0x100800, 0x900000), Range(0xA00000, 0xA00800), Range(1 << 32, (1 << 32) + 0x400000)]
    )
    layout = Layout(free, page_size=page_size, end=end)
    for index, (size, alignment, placement) in enumerate(requests):
        try:
            address = layout.place(str(index), size, alignment=alignment, placement=placement, why="test")
        except PlacementError:
            continue
        layout.fill(str(index), b"x" * size)
        assert address % max(alignment, page_size) == 0
    segments = layout.segments()
    assert all(free.covers(segment.range) and segment.range.end <= end for segment in segments)
    assert all(
        segment.memsz % page_size == 0 and segment.data.nbytes <= segment.memsz for segment in segments
    )
    assert all(a.range.end <= b.address for a, b in itertools.pairwise(segments))


def test_no_room_says_how_much_is_wanted_and_how_much_there_is() -> None:
    layout = Layout(RangeSet([Range(0x100000, 0x103000)]), page_size=0x1000)
    wanted = "free area of memory of 0x4000 bytes for the initrd.*; 0x3000 bytes are free"
    with pytest.raises(PlacementError, match=wanted):
        layout.place("initrd", 0x3001, why="test")


def test_contents_larger_than_the_place_are_refused() -> None:
    layout = Layout(RangeSet([Range(0x100000, 0x103000)]), page_size=0x1000)
    layout.place("initrd", 1, why="test")
    with pytest.raises(PlacementError, match="4097 bytes for a place of 4096"):
        layout.fill("initrd", bytes(4097))


def test_a_loader_stays_within_the_addresses_of_its_architecture() -> None:
    machine = snapshot("qemu-6.1-1g")
    free = RangeSet([Range(0x10_0000, 0x20_0000), Range(1 << 32, (1 << 32) + 0x100_0000)])
    for end, is_high in (1 << 64, True), (1 << 32, False):
        context = Context.begin(replace(ARCH, address_end=end), machine, Request(), free)
        assert (context.layout.place("kernel", 0x10_0000, why="test") >= 1 << 32) is is_high
