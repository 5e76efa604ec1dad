"""A plan told to people and to programs: complete, and the same each time."""

import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from pykexec import report
from pykexec.files import FileData
from pykexec.memory import MemoryKind, Range, TypedRange
from pykexec.plan import FileLoadPlan, LoadPlan, Purpose, Segment
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
    assert re.search(
        r"^ +kernel +2c000000-2c3fffff +8,192 of +4,194,304 +aligned to 2 MiB$", text, re.MULTILINE
    )
    assert re.search(r"^ +purgatory +2fff0000-2fff4fff +100 of +20,480 +runs first$", text, re.MULTILINE)
    assert re.search(r"^ +00001000-0009efff : System RAM", text, re.MULTILINE)


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


def test_columns_are_aligned() -> None:
    rows = [line for line in report.as_text(PLAN).splitlines() if " of " in line]
    assert len(rows) == 2
    assert len({row.index(" of ") for row in rows}) == 1


def test_no_contents_in_the_report() -> None:
    assert "kkkk" not in report.as_text(PLAN) + report.as_json(PLAN)
