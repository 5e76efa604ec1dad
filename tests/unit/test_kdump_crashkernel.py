"""crashkernel=: read as kernels read it; what real kernels reserved is in the snapshots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.errors import MachineError
from pykexec.kdump.reservation.crashkernel import (
    Clause,
    CrashkernelError,
    Form,
    SizeRange,
    counting,
    explain,
    observed,
    parse,
    render,
    reservation,
    size_text,
    values,
)
from pykexec.kdump.reservation.support import CrashkernelSupport, support
from pykexec.memory import GIB, KIB, MIB, Range
from pykexec.names import name_of_uname
from tests.support.growth import QUADRATIC_SUSPECTED, growth
from tests.support.machines import SNAPSHOTS, snapshot

NEW = support("x86_64")


def reserved(command_line: str, total: int = 8 * GIB, kernel: CrashkernelSupport = NEW) -> int:
    return reservation(command_line, total, kernel).size


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_real_kernels_reserved_what_we_say(name: str) -> None:
    machine = snapshot(name)
    total = machine.iomem.system_ram.size
    kernel = support(name_of_uname(machine.uname_machine), machine.kernel_release, machine.command_line)
    found = reservation(machine.command_line, total, kernel)
    *low, main = machine.crash_regions
    assert found.size == main.size
    assert [region.size for region in low] == ([found.low_size] if main.start >= 4 * GIB else [])
    assert found.above_4g == (main.start >= 4 * GIB)


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("256M", Clause(Form.SIMPLE, 256 * MIB)),
        ("0x10000000", Clause(Form.SIMPLE, 256 * MIB)),
        ("268435456@16m", Clause(Form.SIMPLE, 256 * MIB, 16 * MIB)),
        ("1g,high", Clause(Form.HIGH, GIB)),
        ("72M,low", Clause(Form.LOW, 72 * MIB)),
        ("0,low", Clause(Form.LOW, 0)),
        ("512M,cma", Clause(Form.CMA, 512 * MIB)),
        ("384M-:128M", Clause(Form.RANGES, ranges=(SizeRange(384 * MIB, None, 128 * MIB),))),
        (
            "2G-64G:256M,64G-:512M@32M",
            Clause(
                Form.RANGES,
                offset=32 * MIB,
                ranges=(
                    SizeRange(2 * GIB, 64 * GIB, 256 * MIB),
                    SizeRange(64 * GIB, None, 512 * MIB),
                ),
            ),
        ),
    ],
)
def test_forms(text: str, clause: Clause) -> None:
    assert parse(text) == clause


SIZES = st.integers(0, 1 << 44) | st.sampled_from([0, KIB, MIB, 256 * MIB, GIB, 3 * GIB, 64 * GIB, 1 << 40])
RANGES = st.builds(
    lambda start, more, size: SizeRange(start, start + more if more else None, size), SIZES, SIZES, SIZES
)
CLAUSES = (
    st.builds(Clause, st.just(Form.SIMPLE), SIZES, st.none() | SIZES)
    | st.builds(Clause, st.sampled_from([Form.HIGH, Form.LOW, Form.CMA]), SIZES)
    | st.builds(
        lambda ranges, offset: Clause(Form.RANGES, ranges=tuple(ranges), offset=offset),
        st.lists(RANGES, min_size=1, max_size=4),
        st.none() | SIZES,
    )
)


@given(CLAUSES)
def test_what_is_rendered_reads_back(clause: Clause) -> None:
    assert parse(render(clause)) == clause


@given(SIZES)
def test_sizes_read_back(size: int) -> None:
    assert parse(size_text(size)).size == size


@pytest.mark.parametrize(
    ("text", "column", "fault"),
    [
        ("", 1, "a size expected, not the end"),
        ("auto", 1, "a size expected, not 'a'"),
        ('"256M"', 1, "a size expected"),
        ("256MB", 5, "'B' cannot follow the size"),
        ("256M,", 5, "',' cannot follow the size"),
        ("256M,hihg", 5, "',' cannot follow the size"),
        ("256M,high,low", 5, ",low has to follow the size"),
        ("256M@16M,high", 5, ",high has to follow the size"),
        ("2G-:256M,high", 3, ",high has to follow the size"),
        ("256M@", 6, "a size expected, not the end"),
        ("256M@x", 6, "a size expected, not 'x'"),
        ("256M@16M@1", 9, "'@' cannot follow the offset"),
        ("2G:256M", 3, "'-' expected"),
        ("2G-4G256M:1M", 6, "':' expected"),
        ("4G-2G:256M", 4, "ends where it starts, or before"),
        ("2G-2G:256M", 4, "ends where it starts, or before"),
        ("2G-:", 5, "a size expected, not the end"),
        ("2G-:256M,", 10, "a size expected, not the end"),
        ("2G-:256M;4G-:1G", 9, "';' cannot follow a range"),
        ("2G-4G:256M,4G-:x", 16, "a size expected, not 'x'"),
        ("2G-:256M@y", 10, "a size expected, not 'y'"),
        ("99999999999G", 1, "more than 64 bits"),
    ],
)
def test_faults_have_a_column(text: str, column: int, fault: str) -> None:
    with pytest.raises(CrashkernelError) as caught:
        parse(text)
    assert (caught.value.column, fault in caught.value.fault) == (column, True), caught.value.what
    assert f"column {column}: " in caught.value.what


@given(st.text(st.sampled_from('0129xKMG-:,@high low cma"é\n'), max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    fault = refusal(text)
    assert fault is None or (1 <= fault.column <= len(text) + 1 and fault.what.isprintable())
    for line in explain(f"crashkernel={text}", GIB, NEW):
        assert line.isprintable()


def refusal(text: str) -> CrashkernelError | None:
    try:
        parse(text)
    except CrashkernelError as error:
        return error
    return None


# Which of several counts, and how much it is (kernel-parameters.txt: "crashkernel=")


@pytest.mark.parametrize(
    ("total", "size"),
    [
        (GIB, 0),
        (2 * GIB - 129 * MIB, 0),
        (2 * GIB - 128 * MIB + 1, 256 * MIB),  # rounded up to 2G
        (4 * GIB - 200 * MIB, 256 * MIB),
        (4 * GIB - 100 * MIB, 320 * MIB),
        (63 * GIB, 320 * MIB),
        (64 * GIB, 576 * MIB),
        (4096 * GIB, 576 * MIB),
    ],
)
def test_ranges(total: int, size: int) -> None:
    assert reserved("crashkernel=2G-4G:256M,4G-64G:320M,64G-:576M", total) == size


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("quiet", 0),
        ("crashkernel=256M", 256 * MIB),
        ("crashkernel=256M quiet crashkernel=128M", 128 * MIB),
        ("crashkernel=256M crashkernel=512M,high", 256 * MIB),
        ("crashkernel=512M,high crashkernel=256M", 256 * MIB),
        ("crashkernel=512M,high crashkernel=1G,high", GIB),
        ("crashkernel=128M,low", 0),
        ("crashkernel=512M,cma", 0),
        ("crashkernel=256M crashkernel=x", 0),
        ("crashkernel=x crashkernel=256M", 256 * MIB),
        ("crashkernel=512M,high crashkernel=x,low", 0),
        ("crashkernel=0", 0),
        ("crashkernel=8G", 0),
        ("crashkernel=4G-:9G", 0),
        ("crashkernel=auto", 0),
        ("module.crashkernel=256M", 256 * MIB),  # strstr() does not look at what is in front
        ('"crashkernel=256M"', 0),
        ("crashkernel=256M\tquiet", 0),  # a parameter ends at a space only
        ("crashkernel=2G-16G:256M,junk", 256 * MIB),  # not looked at
        ("crashkernel=16G-:1G,junk", 0),
        ("crashkernel=2G-16G:256M,junk@x", 0),
        ("crashkernel=256M@32M", 256 * MIB),
        ("crashkernel=256M@", 256 * MIB),
        ("crashkernel=256M@8M", 0),  # no multiple of 16M
    ],
)
def test_which_counts(line: str, size: int) -> None:
    found = reservation(line, 8 * GIB, NEW)
    assert found.size == size
    assert bool(found.why_nothing) == (size == 0)
    told = explain(line, 8 * GIB, NEW)
    assert told[0].startswith("nothing will be reserved: ") == (size == 0)


def test_low_parts() -> None:
    assert reservation("crashkernel=1G,high", 8 * GIB, NEW).low_size == 256 * MIB
    assert reservation("crashkernel=1G,high crashkernel=72M,low", 8 * GIB, NEW).low_size == 72 * MIB
    assert reservation("crashkernel=1G,high crashkernel=0,low", 8 * GIB, NEW).low_size == 0
    assert reservation("crashkernel=1G", 8 * GIB, NEW).low_size == 256 * MIB, "if it falls back above 4G"
    assert reservation("crashkernel=1G@6G", 8 * GIB, NEW).low_size == 0, "not where the place is given"
    # swiotlb= counts slabs of 2 KiB: 262144 of them are 512 MiB, and 8 MiB come on top.
    large = support("x86_64", "", "swiotlb=262144")
    assert reservation("crashkernel=1G,high", 8 * GIB, large).low_size == 520 * MIB
    assert reservation("crashkernel=1G,high", 8 * GIB, support("arm64")).low_size == 128 * MIB
    assert reservation("crashkernel=1G,high", 8 * GIB, support("arm64", "6.1.0-50")).low_size == 0


def test_arm64_learned_it_over_time() -> None:
    assert reserved("crashkernel=512M,high", kernel=support("arm64", "5.10.0-36")) == 0
    assert reserved("crashkernel=512M,high", kernel=support("arm64", "6.1.0")) == 512 * MIB
    assert "or not at all" in " ".join(explain("crashkernel=512M", 8 * GIB, support("arm64", "5.10.0")))
    assert "no room, above" in " ".join(explain("crashkernel=512M", 8 * GIB, support("arm64", "6.12.1")))


@pytest.mark.parametrize(
    "release",
    [
        "5.14.0-427.13.1.el9_4.aarch64+64k",
        "5.10.60-1.ampere.aarch64",
        "5.10.0-216.0.0.115.oe2203sp4.aarch64",
        "4.19.90-2112.8.0.0131.oe1.aarch64",
    ],
)
def test_distributions_kernels_may_know_more_on_arm64(release: str) -> None:
    kernel = support("arm64", release)
    told = explain("crashkernel=1G,high", 8 * GIB, kernel)
    assert told[0].startswith("crashkernel=1G,high decides: 1G")
    assert "such as this one, may" in told[-1]
    assert "may go above" in " ".join(explain("crashkernel=512M", 8 * GIB, kernel))


@pytest.mark.parametrize("release", ["5.10.0-36-arm64", "5.14.10-300.fc35.aarch64", "5.15.0-1043-aws"])
def test_kernels_close_to_linux_do_not(release: str) -> None:
    assert reserved("crashkernel=1G,high", kernel=support("arm64", release)) == 0


LOW, HIGH = Range.sized(0x1D000000, 256 * MIB), Range.sized(0x2027B8000000, GIB)


def test_what_was_reserved_shows_what_the_kernel_knows() -> None:
    old = support("arm64", "5.10.0-36-arm64")
    line = "root=/dev/vda1 crashkernel=1024M,high"
    found = reservation(line, 64 * GIB, observed(old, line, [LOW, HIGH]))
    assert (found.size, found.low_size, found.notes) == (GIB, 256 * MIB, ())
    assert reservation(line, 64 * GIB, observed(old, line, [])).size == 0
    # A plain one that lies above 4G fell back there.
    plain = "crashkernel=1G"
    assert observed(old, plain, [LOW, HIGH]).falls_back_high
    assert not observed(old, plain, [LOW]).falls_back_high
    assert not observed(old, "crashkernel=1G@0x2027b8000000", [LOW, HIGH]).falls_back_high
    # Where SIZE,cma is not known the last one is a broken size, of which comes nothing.
    cma = "crashkernel=256M crashkernel=1G,cma"
    assert reservation(cma, 8 * GIB, observed(support("x86_64", "6.12.0-160000-default"), cma, [LOW])).size
    with_cma = observed(support("ppc64le", "6.19.0"), cma, [LOW], has_cma=True)
    assert reservation(cma, 8 * GIB, with_cma).cma_size == GIB


# "parisc64" has a name and no folder with a part for kdump.
@pytest.mark.parametrize("arch", ["parisc64", "of the future"])
def test_what_kernels_of_an_architecture_support_is_not_guessed(arch: str) -> None:
    kernel = support(arch)
    told = explain("crashkernel=2G-:256M", 8 * GIB, kernel)
    assert told[0] == "8G of memory is in the range 2G-: 256M (0x10000000 bytes)", "the same on all"
    assert told[1:] == ("where it comes to lie is not known for this architecture",)
    with pytest.raises(MachineError, match="SIZE,high is not known"):
        reservation("crashkernel=1G,high", 8 * GIB, kernel)
    with pytest.raises(MachineError, match="SIZE,high is not known"):
        counting("crashkernel=1G,high", kernel)
    cma = reservation("crashkernel=256M crashkernel=1G,cma", 8 * GIB, kernel)
    assert cma.cma_size == 0
    assert "not known" in cma.notes[0]


def test_what_was_reserved_is_evidence_on_any_architecture() -> None:
    line = "crashkernel=1G,high"
    found = reservation(line, 64 * GIB, observed(support("of the future"), line, [LOW, HIGH]))
    assert (found.size, found.low_size) == (GIB, 256 * MIB)


@pytest.mark.parametrize("arch", ["ppc64le", "s390x"])
def test_architectures_without_high(arch: str) -> None:
    """They call parse_crashkernel() with no place for what SIZE,high says."""
    assert "does not know" in reservation("crashkernel=1G,high", 8 * GIB, support(arch)).why_nothing


def test_riscv64_learned_it_over_time() -> None:
    assert reserved("crashkernel=512M,high", kernel=support("riscv64", "6.6.0")) == 0
    assert reserved("crashkernel=512M,high", kernel=support("riscv64", "6.7.0")) == 512 * MIB


@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_cma_besides_x86(arch: str) -> None:
    line = "crashkernel=256M crashkernel=1G,cma"
    assert reservation(line, 8 * GIB, support(arch, "7.2.9")).cma_size == 0
    assert reservation(line, 8 * GIB, support(arch, "7.3.0")).cma_size == GIB


@pytest.mark.parametrize(
    ("line", "amount"),
    [
        ("crashkernel=256", 256),
        ("crashkernel=2G-:192,64G-:1G", 192),
        ("crashkernel=512,high", 512),
        ("crashkernel=1G,high crashkernel=72,low", 72),
        ("crashkernel=1G crashkernel=512,cma", 512),
        ("crashkernel=256K", 256),
    ],
)
def test_a_size_without_a_unit_is_asked_about(line: str, amount: int) -> None:
    assert f"did you mean {amount}M?" in " ".join(explain(line, 8 * GIB, NEW))


def test_a_size_with_a_unit_is_not_said_to_have_none() -> None:
    told = " ".join(explain("crashkernel=256K", 8 * GIB, NEW))
    assert "256K is too little" in told
    assert "no unit" not in told


@pytest.mark.parametrize("line", ["crashkernel=1G,high crashkernel=0,low", "crashkernel=1M"])
def test_a_size_that_is_meant_is_not_asked_about(line: str) -> None:
    assert "did you mean" not in " ".join(explain(line, 8 * GIB, NEW))


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("quiet", ()),
        ("crashkernel=auto crashkernel=256M", ("256M",)),
        ("crashkernel=256M crashkernel=auto", ("auto",)),
        ("crashkernel=512M crashkernel=512M,high crashkernel=x,low", ("512M",)),
        ("crashkernel=1G,high crashkernel=x,low crashkernel=1G,cma", ("1G,high", "x,low", "1G,cma")),
        ("crashkernel=128M,low", ()),
    ],
)
def test_which_ones_count(line: str, texts: tuple[str, ...]) -> None:
    assert counting(line, NEW) == texts


def test_cma() -> None:
    line = "crashkernel=256M crashkernel=1G,cma"
    found = reservation(line, 8 * GIB, support("x86_64", "6.17.0"))
    assert (found.size, found.cma_size, found.notes) == (256 * MIB, GIB, ())
    old = reservation(line, 8 * GIB, support("x86_64", "6.16.9"))
    assert old.size == 0, "for an older kernel the last one is a broken size"
    assert "does not know SIZE,cma" in old.why_nothing
    arm = reservation(line, 8 * GIB, support("arm64", "6.17.0"))
    assert (arm.size, arm.cma_size) == (256 * MIB, 0)
    assert "this architecture" in arm.notes[0]
    assert "of CMA for it" in reservation("crashkernel=256M crashkernel=1Gx,cma", 8 * GIB, NEW).notes[0]


def test_what_has_no_effect_is_named() -> None:
    found = reservation("crashkernel=1M crashkernel=512M,high crashkernel=256M", 8 * GIB, NEW)
    assert found.notes == (
        "crashkernel=1M has no effect: crashkernel=256M decides",
        "crashkernel=512M,high has no effect: crashkernel=256M decides",
    )


def test_explained() -> None:
    assert explain("crashkernel=2G-4G:256M,4G-:512M", 8 * GIB, NEW) == (
        "8G of memory is in the range 4G-: 512M (0x20000000 bytes)",
        "below 4G; if there is no room, above",
        "if it comes to lie above 4G, 256M below as well, for devices' DMA",
    )
    assert explain("crashkernel=512M,high crashkernel=1G,cma", 8 * GIB, NEW) == (
        "crashkernel=512M,high decides: 512M (0x20000000 bytes)",
        "above 4G; if there is no room, below",
        "if it comes to lie above 4G, 256M below as well, for devices' DMA",
        "and 1G of CMA, which the running kernel uses until it crashes",
    )
    assert explain("crashkernel=2G-:256M", GIB, NEW) == (
        "nothing will be reserved: no range takes in 1024M of memory",
    )


def test_values_are_found_as_strstr_finds_them() -> None:
    assert values("a crashkernel=1 xcrashkernel=2,high b") == ("1", "2,high")
    assert values("crashkernel=crashkernel=3") == ("crashkernel=3", "3")


def test_long_lines_take_linear_time() -> None:
    def ask(count: int) -> None:
        reservation("crashkernel=" + "1G-2G:256M," * count, GIB, NEW)

    assert growth(lambda: ask(1000), lambda: ask(10000)) < QUADRATIC_SUSPECTED
