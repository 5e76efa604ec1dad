"""A plan drawn: all of it is there, in its order, and nothing lies on anything else."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import loader
from pykexec.memory import MemoryKind, MemoryMap, Range, RangeSet, TypedRange, size_text
from pykexec.plan import LoadPlan, Purpose, Request, Segment
from pykexec.report import map as maps
from pykexec.report import picture, svg
from pykexec.report.picture import Block, Role
from pykexec.report.surroundings import Surroundings
from tests.support import growth
from tests.support.bzimage import FakeBzImage
from tests.support.machines import SNAPSHOTS, iomem, snapshot, unpacked

PAGE = 0x1000
KINDS = st.sampled_from(list(MemoryKind))
WORDS = st.text(max_size=120) | st.sampled_from(["<&>\"'", "]]>", "\0\x1b[31m", "W" * 200, "\ud800"])


@st.composite
def apart(draw: st.DrawFn, most: int) -> list[Range]:
    """Draw ranges of whole pages that do not overlap, in ascending order, some of which touch."""
    edges = draw(st.lists(st.integers(0, 2**40), min_size=2, max_size=2 * most, unique=True).map(sorted))
    both = [Range(start * PAGE, end * PAGE) for start, end in pairwise(edges)]
    return [each for each in both if draw(st.booleans())]


@st.composite
def cases(draw: st.DrawFn) -> tuple[LoadPlan, Surroundings]:
    segments = tuple(
        Segment(draw(WORDS), each.start, each.size, memoryview(draw(st.binary(max_size=9))), draw(WORDS))
        for each in draw(apart(16).filter(bool))
    )
    plan = LoadPlan(
        arch="x86_64",
        purpose=draw(st.sampled_from(Purpose)),
        image=draw(WORDS),
        image_format="bzImage",
        initrd=draw(st.none() | WORDS),
        command_line="",
        entry=segments[0].address,
        flags=0,
        segments=segments,
        memory_map=tuple(TypedRange(each, draw(KINDS)) for each in draw(apart(40))),
    )
    memory = MemoryMap(TypedRange(each, draw(KINDS)) for each in draw(apart(40)))
    kernel = draw(st.none() | st.builds(Range.sized, st.integers(0, 2**40), st.integers(1, 2**30)))
    return plan, Surroundings(memory, tuple(draw(apart(2))), kernel)


SMALLEST = LoadPlan(
    arch="x86_64",
    purpose=Purpose.BOOT,
    image="",
    image_format="",
    initrd=None,
    command_line="",
    entry=0,
    flags=0,
    segments=(Segment("kernel", 0, PAGE, memoryview(b""), ""),),
)


@dataclass(frozen=True)
class Drawn:
    """A rectangle of a picture, as a browser places it."""

    kinds: frozenset[str]
    x: float
    y: float
    width: float
    height: float
    tip: str


_NS = "{http://www.w3.org/2000/svg}"


def rectangles(root: ET.Element) -> Iterator[Drawn]:
    for group in root.iter(f"{_NS}g"):
        tip = group.findtext(f"{_NS}title") or ""
        for each in group.iter(f"{_NS}rect"):
            x, y, width, height = (float(each.attrib[name]) for name in ("x", "y", "width", "height"))
            yield Drawn(frozenset(each.attrib["class"].split()), x, y, width, height, tip)


def texts(root: ET.Element) -> list[str]:
    return [each.text or "" for each in root.iter(f"{_NS}text")]


@given(cases())
def test_a_picture_is_xml_whose_boxes_neither_overlap_nor_leave_it(
    case: tuple[LoadPlan, Surroundings],
) -> None:
    root = ET.fromstring(svg.as_svg(picture.of(*case)).encode())
    width, height = (float(each) for each in root.attrib["viewBox"].split()[2:])
    boxes = list(rectangles(root))
    for box in boxes:
        assert box.width > 0 < box.height
        assert 0 <= box.x <= box.x + box.width <= width
        assert 0 <= box.y <= box.y + box.height <= height
    by_column: dict[float, list[Drawn]] = {}
    for box in boxes:
        if "loaded" not in box.kinds:
            by_column.setdefault(box.x, []).append(box)
    assert len(by_column) <= 3
    assert sum(len(each) for each in by_column.values()) == len(list(root.iter(f"{_NS}g")))
    for column in by_column.values():
        for one, other in pairwise(column):
            assert one.y + one.height <= other.y
    for left, right in pairwise(sorted(by_column)):
        assert left + by_column[left][0].width < right


@given(cases())
def test_each_segment_is_in_the_picture_at_its_address(case: tuple[LoadPlan, Surroundings]) -> None:
    plan, surroundings = case
    root = ET.fromstring(svg.as_svg(picture.of(plan, surroundings)).encode())
    boxes = [each for each in rectangles(root) if "segment" in each.kinds and "loaded" not in each.kinds]
    assert len(boxes) == len(plan.segments)
    said = texts(root)
    for box, segment in zip(boxes, plan.segments, strict=True):
        assert f" at {segment.range}, {size_text(segment.memsz)}" in box.tip
        assert f"{segment.address:08x}" in said
    assert f"entered at {plan.entry:#x}" in " ".join(said)
    assert all(each.isprintable() for each in said)


@given(cases())
def test_a_picture_needs_nothing_else_and_says_what_it_is(case: tuple[LoadPlan, Surroundings]) -> None:
    text = svg.as_svg(picture.of(*case))
    root = ET.fromstring(text.encode())
    assert not re.search(r"href|url\(|@import|<script|<image|<!", text)
    assert root.attrib["role"] == "img"
    named = {each.attrib["id"] for each in root if each.tag in (f"{_NS}title", f"{_NS}desc")}
    assert set(root.attrib["aria-labelledby"].split()) == named
    assert {each.attrib["class"] for each in root.iter() if "class" in each.attrib} <= _styled(text)


def _styled(text: str) -> set[str]:
    """Return what elements may be called: what the style sheet has something for."""
    names = re.findall(r"^ *\.([a-z.]+)", text[: text.index("</style>")], re.MULTILINE)
    names += re.findall(r"^ *.*?, \.([a-z]+)", text[: text.index("</style>")], re.MULTILINE)
    return {
        "",
        "address right",
        "quiet right",
        "segment odd",
        "segment loaded",
        "segment odd loaded",
        *names,
    }


@given(cases(), st.integers(80, 160), st.booleans())
def test_a_map_has_each_segment_and_fits(
    case: tuple[LoadPlan, Surroundings], columns: int, colour: bool
) -> None:
    plan, surroundings = case
    text = maps.as_map(picture.of(plan, surroundings), columns, maps.style(colour=colour))
    plain = re.sub(r"\033\[[0-9]+m", "", text)
    assert ("\033" in text) <= colour
    for line in plain.splitlines():
        assert line.isprintable()
        # Words stay whole; beside the longest address and name there is room for one of 18 characters.
        assert len(line) <= columns or max(map(len, line.split())) > 18, line
    rows = iter(re.findall(r"^ +([0-9a-f]{8,}) +[┌├└]", plain, re.MULTILINE))
    for segment in plan.segments:
        assert f"{segment.address:08x}" in rows


@given(cases(), st.integers(40, 80))
def test_memory_fits_in_a_narrow_terminal(case: tuple[LoadPlan, Surroundings], columns: int) -> None:
    """Where there is no room for two columns beside each other, there is one below the other."""
    drawn = picture.of(*case)
    lines = maps.as_map(drawn, columns, maps.style("ascii")).splitlines()
    blank = [index for index, line in enumerate(lines) if not line]
    end = blank[-len(drawn.loaded)]
    for line in lines[blank[0] : end]:
        assert len(line) <= columns
        assert line.isascii()
    rows = re.findall(r"^  ([0-9a-f]{8,}) ", "\n".join(lines[:end]), re.MULTILINE)
    sides = [drawn.now] if drawn.told is None else [drawn.now, drawn.told]
    assert {int(row, 16) for row in rows} >= {block.range.start for side in sides for block in side.blocks}


@given(cases())
def test_a_map_without_lines_and_blocks_is_ascii(case: tuple[LoadPlan, Surroundings]) -> None:
    plan, surroundings = case
    before = maps.as_map(picture.of(plan, surroundings))
    after = maps.as_map(picture.of(plan, surroundings), how=maps.style("ascii"))
    assert len(after.splitlines()) == len(before.splitlines())
    assert not re.search("[█▓▚▒░⋮─│┌┐├┤└┘…]", after)


@given(cases())
def test_columns_have_no_gaps(case: tuple[LoadPlan, Surroundings]) -> None:
    plan, surroundings = case
    drawn = picture.of(plan, surroundings)
    for column in (drawn.now, drawn.told, *drawn.loaded):
        if column is None:
            continue
        for one, other in pairwise(column.blocks):
            assert one.range.end == other.range.start
    segments = [block for column in drawn.loaded for block in column.blocks if block.role is Role.SEGMENT]
    assert [block.range for block in segments] == [segment.range for segment in plan.segments]
    if surroundings.reserved:
        crash = [each.range for each in drawn.now.blocks if each.role is Role.RESERVATION]
        assert RangeSet(crash) == RangeSet(surroundings.reserved)


@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=200), st.integers(1, 40))
def test_small_neighbours_become_one(sizes: list[int], most: int) -> None:
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    blocks = [
        Block(Range(end - size, end), Role.RAM if index % 2 else Role.FIRMWARE, str(index))
        for index, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]
    shown = picture.summarised(blocks, most)
    assert len(shown) <= most
    assert (shown[0].range.start, shown[-1].range.end) == (0, ends[-1])
    kept = [each for each in shown if each in blocks]
    merged = [each for each in shown if each not in blocks]
    assert all(one.range.end == other.range.start for one, other in pairwise(shown))
    if len(blocks) <= most:
        assert merged == []
    for each in merged:
        inside = [block for block in blocks if each.range.covers(block.range)]
        assert each.name == f"{len(inside)} small pieces"
    assert len(kept) + sum(int(each.name.split()[0]) for each in merged) == len(blocks)


def test_a_machine_with_very_many_ranges_is_drawn_in_time() -> None:
    def drawing(count: int) -> Callable[[], object]:
        kinds = (MemoryKind.RAM, MemoryKind.RESERVED)
        ranges = [TypedRange(Range.sized(each * PAGE, PAGE), kinds[each % 2]) for each in range(count)]
        around = Surroundings(MemoryMap(ranges))
        return lambda: svg.as_svg(picture.of(SMALLEST, around))

    assert growth.growth(drawing(2_000), drawing(20_000)) < growth.QUADRATIC_SUSPECTED


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinuz"
    path.write_bytes(FakeBzImage().build())
    return path


def test_a_real_machine(kernel: Path) -> None:
    machine = snapshot("qemu-6.1-6g-high")
    plan = loader.plan_load(machine, Request.from_paths(kernel, purpose=Purpose.CRASH, append="quiet"))
    drawn = picture.of(plan, Surroundings.of(machine))
    reserved = iomem("qemu-6.1-6g-high", r"Crash kernel(?: \(low\))?")
    assert [column.range for column in drawn.loaded] == reserved
    assert [column.title for column in drawn.loaded] == ["crashkernel"] * len(reserved)
    for name in ("Reserved", "System RAM", "hole", "running kernel", "crashkernel"):
        assert name in {block.name for block in drawn.now.blocks}
    ram = {each.range for each in drawn.told.blocks if each.role is Role.RAM} if drawn.told else set()
    assert ram == {each.range for each in plan.memory_map if each.kind is MemoryKind.RAM}
    code = iomem("qemu-6.1-6g-high", "Kernel code")[0]
    running = next(block for block in drawn.now.blocks if block.role is Role.KERNEL)
    assert running.range.start == code.start
    assert running.range.covers(code)
    used, whole = sum(each.memsz for each in plan.segments), sum(each.size for each in reserved)
    sizes = (size_text(used), size_text(whole), size_text(whole - used))
    assert re.findall(r"[\d.]+ [GMK]iB", drawn.summary) == list(sizes)


def test_a_boot_is_drawn_in_the_memory_that_takes_it(kernel: Path) -> None:
    machine = snapshot("qemu-6.1-1g")
    drawn = picture.of(loader.plan_load(machine, Request.from_paths(kernel)), Surroundings.of(machine))
    assert [(each.title, each.range) for each in drawn.loaded] == [
        ("System RAM", Range(0x100000, 0x3FFE0000))
    ]
    assert "free" not in {block.name for column in drawn.loaded for block in column.blocks}


def test_what_a_kernel_keeps_of_its_memory_is_memory(tmp_path: Path) -> None:
    lines = (
        "40000000-7fffffff : System RAM",
        "  40000000-4000ffff : reserved",
        "80000000-8fffffff : reserved",
    )
    machine = unpacked("qemu-arm64-6.1-1g", tmp_path, {"proc/iomem": "\n".join(lines)})
    around = Surroundings.of(machine)
    assert list(around.memory.ram) == [Range(0x40000000, 0x80000000)]
    assert list(around.memory.of(MemoryKind.RESERVED)) == [Range(0x80000000, 0x90000000)]
    assert around.kernel is None


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_the_memory_of_every_machine(name: str) -> None:
    machine = snapshot(name)
    around = Surroundings.of(machine)
    assert around.memory.ram == RangeSet(iomem(name, r"System RAM.*"))
    drawn = picture.of(SMALLEST, around)
    # On s390x what is reserved is no System RAM.
    memory = [*machine.crash_regions, *(each.range for each in around.memory)]
    assert drawn.now.range.end == max(each.end for each in memory)
    if around.kernel is not None:
        assert around.memory.ram.covers(around.kernel)
    ET.fromstring(svg.as_svg(drawn))
