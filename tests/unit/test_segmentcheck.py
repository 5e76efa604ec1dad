"""The kernel's rules for segments, held against a second reading of kernel/kexec_core.c: rule by rule."""

import errno
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.booting.segmentcheck import Limits, refusals
from pykexec.memory import Range
from pykexec.plan import LoadPlan, Purpose, Segment

PAGE = 4096
END = 64 * PAGE
PLAN = LoadPlan(
    arch="x86_64",
    purpose=Purpose.CRASH,
    image="vmlinuz",
    image_format="bzImage",
    initrd=None,
    command_line="",
    entry=0,
    flags=0x3E0001,
    segments=(),
)

ADDRESSES = st.integers(0, 66).map(lambda page: page * PAGE)
ODD = st.sampled_from([0, 0, 0, 0, 0, 1, PAGE - 1])


def segment(address: int, memsz: int, size: int) -> Segment:
    return Segment("", address, memsz, memoryview(bytes(size)), "")


SEGMENTS = st.lists(
    st.builds(
        segment,
        st.builds(int.__add__, ADDRESSES, ODD),
        st.builds(int.__add__, st.integers(0, 5).map(lambda pages: pages * PAGE), ODD),
        st.integers(0, 2) | st.integers(0, 3 * PAGE),
    ),
    max_size=18,
)
REGIONS = st.none() | st.builds(
    lambda start, pages: Range(start, start + pages * PAGE), ADDRESSES, st.integers(1, 40)
)


def naive(plan: LoadPlan, limits: Limits) -> list[int]:
    """The errno of each rule that is broken, in the order of the sources."""
    crash = plan.purpose is Purpose.CRASH
    region = limits.region or Range(0, 0)
    spans = [(each.address, each.address + each.memsz) for each in plan.segments]
    found = []
    if len(spans) > 16:
        found.append(errno.EINVAL)
    if crash and not region.start <= plan.entry <= region.end - 1:
        found.append(errno.EADDRNOTAVAIL)
    if any(start % PAGE or end % PAGE or end >= limits.address_end for start, end in spans):
        found.append(errno.EADDRNOTAVAIL)
    if any(
        spans[one][1] > spans[other][0] and spans[one][0] < spans[other][1]
        for one in range(len(spans))
        for other in range(one)
    ):
        found.append(errno.EINVAL)
    if any(len(each.data) > each.memsz for each in plan.segments):
        found.append(errno.EINVAL)
    if any(end - start > limits.memory // 2 for start, end in spans):
        found.append(errno.EINVAL)
    if sum(end - start for start, end in spans) > limits.memory // 2:
        found.append(errno.EINVAL)
    if (
        crash
        and limits.region
        and any(start < region.start or end - 1 > region.end - 1 for start, end in spans)
    ):
        found.append(errno.EADDRNOTAVAIL)
    return found


@given(
    SEGMENTS,
    REGIONS,
    ADDRESSES,
    st.sampled_from(Purpose),
    st.integers(0, 200).map(lambda pages: pages * PAGE),
)
@pytest.mark.slow
def test_both_readings_agree(
    segments: list[Segment], region: Range | None, entry: int, purpose: Purpose, memory: int
) -> None:
    named = tuple(replace(each, name=f"s{index}") for index, each in enumerate(segments))
    plan = replace(PLAN, segments=named, entry=entry, purpose=purpose)
    limits = Limits(page_size=PAGE, memory=memory, address_end=END, region=region)
    found = list(refusals(plan, limits))
    expected = naive(plan, limits)
    assert bool(found) == bool(expected)
    assert [each.errno for each in found[:1]] == expected[:1], "the kernel answers with the first"
    assert {each.errno for each in found} == set(expected)


def test_segments_that_only_touch_are_fine() -> None:
    parts = [segment(page * PAGE, PAGE, 1) for page in (3, 1, 2)]
    plan = replace(PLAN, segments=tuple(parts), entry=PAGE)
    limits = Limits(page_size=PAGE, memory=6 * PAGE, address_end=1 << 32, region=Range(PAGE, 4 * PAGE))
    assert not list(refusals(plan, limits))
    for one, what in (
        (replace(limits, memory=6 * PAGE - 1), "allows half"),
        (replace(limits, region=Range(PAGE, 4 * PAGE - 1)), "outside of the reservation"),
        (replace(limits, address_end=4 * PAGE), "does not end below 0x4000"),
        (replace(limits, page_size=2 * PAGE), "whole pages of 8192"),
        (replace(limits, region=None), "no memory is reserved"),
    ):
        assert what in next(refusals(plan, one)).what


@pytest.mark.parametrize(
    ("segments", "names"),
    [
        ([("kernel", 1, 4), ("initrd", 3, 1)], ("kernel", "initrd")),
        ([("a", 8, 1), ("kernel", 1, 9), ("b", 2, 1)], ("kernel", "b")),
    ],
)
def test_both_that_overlap_are_named(segments: list[tuple[str, int, int]], names: tuple[str, str]) -> None:
    parts = (replace(segment(at * PAGE, pages * PAGE, 0), name=name) for name, at, pages in segments)
    plan = replace(PLAN, segments=tuple(parts), purpose=Purpose.BOOT)
    limits = Limits(page_size=PAGE, memory=END, address_end=END, region=None)
    told = next(refusals(plan, limits))
    assert told.errno == errno.EINVAL
    assert all(name in told.what for name in names)
