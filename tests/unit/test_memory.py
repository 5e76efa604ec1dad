"""Range algebra against sets of integers, hole finding against looking everywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.memory import (
    MemoryKind,
    MemoryMap,
    Placement,
    Range,
    RangeSet,
    TypedRange,
    align_down,
    align_up,
    find_hole,
    size_text,
)

BASES = st.sampled_from([0, 0xFFFF_F000, (1 << 52) - 64])


def ranges(base: int = 0) -> st.SearchStrategy[Range]:
    ends = st.tuples(st.integers(0, 64), st.integers(0, 64))
    return ends.map(lambda pair: Range(base + min(pair), base + max(pair)))


def range_sets() -> st.SearchStrategy[list[Range]]:
    return BASES.flatmap(lambda base: st.lists(ranges(base), max_size=6))


def addresses(ranges: object) -> set[int]:
    assert isinstance(ranges, list | RangeSet)
    return {address for each in ranges for address in range(each.start, each.end)}


@given(range_sets())
def test_a_set_is_sorted_disjoint_and_not_adjacent(given: list[Range]) -> None:
    result = RangeSet(given)
    assert addresses(result) == addresses(given)
    assert all(a.end < b.start for a, b in zip(result.ranges, result.ranges[1:], strict=False))
    assert all(result)
    assert result.size == len(addresses(given))


@given(st.data(), BASES)
def test_set_operations_are_those_of_sets(data: st.DataObject, base: int) -> None:
    a, b = (data.draw(st.lists(ranges(base), max_size=6)) for _ in range(2))
    assert addresses(RangeSet(a).union(b)) == addresses(a) | addresses(b)
    assert addresses(RangeSet(a).intersect(b)) == addresses(a) & addresses(b)
    assert addresses(RangeSet(a).minus(b)) == addresses(a) - addresses(b)


@given(st.lists(ranges(), max_size=6), ranges())
def test_covers_is_the_subset_relation(given: list[Range], part: Range) -> None:
    assert RangeSet(given).covers(part) == (addresses([part]) <= addresses(given))


@given(ranges(), ranges())
def test_range_relations(a: Range, b: Range) -> None:
    assert a.overlaps(b) == bool(addresses([a]) & addresses([b]))
    assert a.covers(b) == (addresses([b]) <= addresses([a]))
    assert addresses([a.intersect(b)]) == addresses([a]) & addresses([b])


@given(range_sets(), st.integers(1, 12))
def test_aligning_inwards_keeps_whole_units_only(given: list[Range], alignment: int) -> None:
    whole = addresses(RangeSet(given))
    units = {a // alignment for a in whole}
    full = {u for u in units if all(u * alignment + i in whole for i in range(alignment))}
    # A unit may be full and yet lie across two touching ranges only before they are merged: RangeSet merges.
    expected = {u * alignment + i for u in full for i in range(alignment)}
    assert addresses(RangeSet(given).aligned_inwards(alignment)) == expected


@given(
    st.lists(ranges(), max_size=5),
    st.integers(1, 20),
    st.sampled_from([1, 2, 3, 4, 8, 16]),
    ranges(),
    st.sampled_from(list(Placement)),
)
def test_find_hole_finds_what_a_search_of_every_address_finds(
    given: list[Range], size: int, alignment: int, within: Range, placement: Placement
) -> None:
    usable = addresses(given) & addresses([within])
    fits = [s for s in range(0, 64, alignment) if all(s + i in usable for i in range(size))]
    expected = None
    if fits:
        expected = fits[0] if placement is Placement.LOWEST else fits[-1]
    assert find_hole(RangeSet(given), size, alignment, within=within, placement=placement) == expected


@pytest.mark.parametrize("placement", list(Placement))
def test_an_exact_fit_is_found_at_the_end_of_the_address_space(placement: Placement) -> None:
    top = 1 << 52
    free = RangeSet([Range(top - 0x400000, top - 0x200000), Range(top - 0x200000, top)])
    hole = find_hole(free, 0x400000, 0x200000, within=Range(0, top), placement=placement)
    assert hole == top - 0x400000


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (4176, "4.0 KiB"),
        ((1 << 20) - 1, "1023.9 KiB"),
        (256 << 20, "256 MiB"),
        (0x3FEE0000, "1022.8 MiB"),
        (1 << 40, "1 TiB"),
        (1 << 64, "16384 PiB"),
    ],
)
def test_sizes_for_people_are_never_too_large(size: int, text: str) -> None:
    assert size_text(size) == text


@given(st.integers(0, 1 << 64), st.integers(1, 1 << 30))
def test_alignment(value: int, alignment: int) -> None:
    assert align_down(value, alignment) == value - value % alignment
    assert align_up(value, alignment) == min(
        x for x in (value - value % alignment, value - value % alignment + alignment) if x >= value
    )


def test_ranges_may_not_be_reversed_or_negative() -> None:
    for start, end in [(2, 1), (-1, 1)]:
        with pytest.raises(ValueError, match="not a range"):
            Range(start, end)


typed_ranges = st.builds(TypedRange, ranges(), st.sampled_from(list(MemoryKind)))


@given(st.lists(typed_ranges, max_size=8))
def test_a_map_has_no_overlaps_and_ram_gives_way(entries: list[TypedRange]) -> None:
    result = MemoryMap(entries)
    assert all(
        a.range.end <= b.range.start for a, b in zip(result.entries, result.entries[1:], strict=False)
    )
    told = {kind: addresses([e.range for e in entries if e.kind is kind]) for kind in MemoryKind}
    everything = set().union(*told.values())
    others = set().union(*(told[kind] for kind in MemoryKind if kind is not MemoryKind.RAM))
    assert set().union(*(addresses(result.of(kind)) for kind in MemoryKind)) == everything
    assert addresses(result.ram) == told[MemoryKind.RAM] - others
    assert all(addresses(result.of(kind)) <= told[kind] for kind in MemoryKind)
