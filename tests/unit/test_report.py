"""A plan told to people and to programs: complete, and the same each time."""

import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from pykexec import report
from pykexec.files import FileData
from pykexec.memory import MemoryKind, Range, TypedRange
from pykexec.plan import FileLoadPlan, LoadPlan, Purpose, Segment
from pykexec.report.surroundings import Surroundings
from pykexec.values import replace
from tests.support.schemas import require_valid

SEGMENTS = st.builds(
    Segment,
    name=st.sampled_from(["kernel", "initrd", "elfcorehdr"]),
    address=st.integers(0, 2**52 - 1).map(lambda page: page << 12),
    memsz=st.integers(1, 2**20).map(lambda pages: pages << 12),
    data=st.binary(max_size=200).map(memoryview),
    why=st.text(max_size=20),
)
MAPS = st.lists(
    st.builds(
        TypedRange,
        st.builds(Range.sized, st.integers(0, 2**63), st.integers(1, 2**40)),
        st.sampled_from(list(MemoryKind)),
    ),
    max_size=5,
)
PLANS = st.builds(
    LoadPlan,
    arch=st.just("x86_64"),
    purpose=st.sampled_from(list(Purpose)),
    image=st.text(max_size=20),
    image_format=st.just("bzImage, boot protocol 2.15"),
    initrd=st.none() | st.text(max_size=20),
    command_line=st.text(max_size=80),
    entry=st.integers(0, 2**64 - 1),
    flags=st.sampled_from([0x3E0000, 0x3E0001]),
    segments=st.lists(SEGMENTS, max_size=16).map(tuple),
    memory_map=MAPS.map(tuple),
    warnings=st.lists(st.text(max_size=20), max_size=2).map(tuple),
)

PLAN = LoadPlan(
    arch="x86_64",
    purpose=Purpose.CRASH,
    image="/boot/vmlinuz",
    image_format="bzImage, boot protocol 2.15",
    initrd="capture.img",
    command_line="nr_cpus=1 elfcorehdr=786428K",
    entry=0x2FFF0010,
    flags=0x3E0001,
    segments=(
        Segment("kernel", 0x2C000000, 0x400000, memoryview(b"k" * 8192), "aligned to 2 MiB"),
        Segment("purgatory", 0x2FFF0000, 0x5000, memoryview(b"p" * 100), "runs first"),
    ),
    memory_map=(TypedRange(Range(0x1000, 0x9F000), MemoryKind.RAM),),
    warnings=("no CPU has crash_notes",),
)


@given(PLANS)
def test_json_says_all_that_is_in_the_plan(plan: LoadPlan) -> None:
    told = require_valid("plan", report.as_json(plan))
    assert (told["arch"], told["purpose"]) == (plan.arch, plan.purpose.value)
    assert (told["kernel"], told["kernel_format"], told["initrd"]) == (
        plan.image,
        plan.image_format,
        plan.initrd,
    )
    assert (told["entry"], told["flags"], told["command_line"]) == (
        plan.entry,
        plan.flags,
        plan.command_line,
    )
    assert told["segments"] == [
        {
            "name": segment.name,
            "address": segment.address,
            "memsz": segment.memsz,
            "bufsz": len(bytes(segment.data)),
            "sha256": hashlib.sha256(bytes(segment.data)).hexdigest(),
            "why": segment.why,
        }
        for segment in plan.segments
    ]
    assert [(each["start"], each["end"], each["kind"]) for each in told["memory_map"]] == [
        (entry.range.start, entry.range.end, entry.kind.value) for entry in plan.memory_map
    ]
    assert told["warnings"] == list(plan.warnings)
    assert isinstance(told["schema"], int)


FILES = st.binary(max_size=20).map(lambda data: FileData.from_bytes("/boot/file", data))


@given(
    st.builds(
        FileLoadPlan,
        arch=st.just("s390x"),
        purpose=st.sampled_from(Purpose),
        kernel=FILES,
        initrd=st.none() | FILES,
        command_line=st.text(max_size=80),
        flags=st.integers(0, 0x3F),
        warnings=st.lists(st.text(max_size=20), max_size=2).map(tuple),
        taken=st.lists(st.text(max_size=20), max_size=2).map(tuple),
    )
)
def test_json_of_a_load_by_file(plan: FileLoadPlan) -> None:
    told = require_valid("file-plan", report.as_json(plan))
    assert (told["kernel"], told["initrd"]) == ("/boot/file", "/boot/file" if plan.initrd else None)
    assert (told["purpose"], told["command_line"], told["flags"]) == (
        plan.purpose.value,
        plan.command_line,
        plan.flags,
    )


@given(PLANS)
def test_same_plan_same_words(plan: LoadPlan) -> None:
    assert report.as_text(plan) == report.as_text(plan)
    assert report.as_json(plan) == report.as_json(plan)


def test_text_shows_each_segment_where_it_is_and_why() -> None:
    text = report.as_text(PLAN)
    # Ranges as in /proc/iomem: the end belongs to them.
    assert re.search(r"^ +kernel +2c000000-2c3fffff +4 MiB +8 KiB +aligned to 2 MiB$", text, re.MULTILINE)
    assert re.search(r"^ +purgatory +2fff0000-2fff4fff +20 KiB +100 B +runs first$", text, re.MULTILINE)
    assert re.search(r"^ +00001000-0009efff +632 KiB +System RAM$", text, re.MULTILINE)


def test_text_has_what_a_reader_looks_for() -> None:
    text = report.as_text(PLAN)
    for part in (
        "crash load for x86_64",
        "/boot/vmlinuz (bzImage, boot protocol 2.15)",
        "capture.img",
        "nr_cpus=1 elfcorehdr=786428K",
        "0x2fff0010",
        "0x3e0001 (KEXEC_ON_CRASH)",
        "warning: no CPU has crash_notes",
    ):
        assert part in text


def test_columns_are_aligned_below_their_heads() -> None:
    lines = report.as_text(PLAN).splitlines()
    head = next(line for line in lines if "in memory" in line)
    rows = lines[lines.index(head) + 1 :][:2]
    assert [row.index(segment.why) for row, segment in zip(rows, PLAN.segments, strict=True)] == [
        head.index("why there")
    ] * 2
    assert [row.index(size) + len(size) for row, size in zip(rows, ("4 MiB", "20 KiB"), strict=True)] == [
        head.index("in memory") + len("in memory")
    ] * 2


def test_what_is_used_of_a_reservation_and_what_is_free() -> None:
    around = Surroundings(reserved=(Range(0x10000000, 0x18000000), Range(0x2C000000, 0x30000000)))
    text = " ".join(report.as_text(PLAN, around).split())
    assert "reservation 10000000-17ffffff, 128 MiB: 0 B used, 128 MiB free;" in text
    assert "2c000000-2fffffff, 64 MiB: 4.0 MiB used, 59.9 MiB free" in text
    assert "reservation" not in report.as_text(PLAN)
    assert "reservation" not in report.as_text(replace(PLAN, purpose=Purpose.BOOT), around)


@given(PLANS, st.integers(80, 200))
def test_lines_are_as_wide_as_the_terminal_or_a_single_word(plan: LoadPlan, columns: int) -> None:
    for line in report.as_text(plan, columns=columns).splitlines():
        assert len(line) <= columns or len(line.rpartition(" ")[0]) <= columns, line


@given(PLANS)
def test_a_folded_line_does_not_look_like_another_one(plan: LoadPlan) -> None:
    begins = [line for line in report.as_text(plan, columns=40).splitlines() if line[:1] not in ("", " ")]
    warnings = [line for line in begins if line.startswith("warning:")]
    assert len(warnings) == len(plan.warnings)


def test_no_contents_in_the_report() -> None:
    assert "kkkk" not in report.as_text(PLAN) + report.as_json(PLAN)
