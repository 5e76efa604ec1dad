"""The shipped arm64 purgatory, executed."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec import purgatory
from pykexec.booting.psci import ResetMethod
from pykexec.purgatory import Console, ConsoleKind, Digest
from tests.emulated.arm64 import (
    ISAR0,
    MMFR0,
    PLAIN,
    PSCI_SYSTEM_RESET,
    SCTLR_A,
    SCTLR_C,
    SCTLR_I,
    SCTLR_M,
    SCTLR_WXN,
    UART,
    Cpu,
    Level,
    Mapped,
    Outcome,
    mapped,
    run,
)
from tests.support import regions
from tests.support.effort import examples

BLOB = purgatory.load_blob("arm64")
PURGATORY = 0x4A000000
KERNEL, DTB = 0x40200000, 0x48000000
CONTENTS = {
    "kernel": (KERNEL, b"\x1f\x20\x03\xd5" * 300),
    "initrd": (0x44000000, bytes(range(256)) * 17 + b"tail"),
    "dtb": (DTB, b"d" * 4097),
}
# A status register's offset, and its value while the UART is busy: PL011's FR has TXFF, an 8250's LSR THRE.
PL011 = Console(ConsoleKind.PL011, UART), 0x18, 0x20
MMIO = Console(ConsoleKind.UART_8250_MMIO, UART, 0), 5, 0x00
MMIO32 = Console(ConsoleKind.UART_8250_MMIO32, UART, 2), 5 << 2, 0x00
SILENT = Console(), 0, 0

# Fields of ID registers (Arm ARM, D19.2): what purgatory asks the CPU for.
NO_SHA = {ISAR0: (12, 0)}
NO_4K_GRANULE = {MMFR0: (28, 0xF)}
ONLY_32_BITS = {MMFR0: (0, 0)}
CPUS = [
    pytest.param(Cpu(level, sctlr, identification), id=f"{level.name}-{name}")
    for level in Level
    for name, sctlr, identification in (
        ("sha", 0, {}),
        ("no-sha", 0, NO_SHA),
        ("sha-uncached", SCTLR_A, NO_4K_GRANULE),
        ("no-sha-uncached", 0, {**NO_SHA, **NO_4K_GRANULE}),
        ("wxn", SCTLR_A | SCTLR_WXN, {}),
    )
]


def start(
    *,
    at: int = PURGATORY,
    contents: regions.Contents | None = None,
    digests: Sequence[Digest] | None = None,
    uart: tuple[Console, int, int] = PL011,
    reset: ResetMethod = ResetMethod.PSCI_HVC,
    cpu: Cpu = PLAIN,
    until_mapped: bool = False,
    counted: bool = False,
) -> Outcome:
    console, status_register, busy = uart
    image = purgatory.build(
        BLOB,
        jump_to=KERNEL,
        arguments=(DTB,),
        digests=regions.digests(CONTENTS) if digests is None else digests,
        console=console,
        reset=reset,
    )
    return run(
        regions.with_purgatory(contents or CONTENTS, BLOB, image, at),
        at + BLOB.entry_offset,
        KERNEL,
        status_register=status_register,
        busy=busy,
        cpu=cpu,
        purgatory=range(at, at + BLOB.memsz),
        until_mapped=until_mapped,
        counted=counted,
    )


@pytest.mark.parametrize("uart", [PL011, MMIO, MMIO32], ids=["pl011", "8250", "8250-32"])
@pytest.mark.parametrize("at", [PURGATORY, 0x1_9920_1000])
def test_an_intact_kernel_is_started_as_the_boot_protocol_wants(
    at: int, uart: tuple[Console, int, int]
) -> None:
    outcome = start(at=at, uart=uart)
    assert outcome.jumped
    assert outcome.arguments == [DTB, 0, 0, 0]
    assert at <= outcome.sp <= at + BLOB.memsz
    assert outcome.serial == "purgatory: verifying 3 regions\r\npurgatory: starting the kernel\r\n"
    assert outcome.psci_calls == []


@pytest.fixture(scope="module", params=CPUS)
def intact(request: pytest.FixtureRequest) -> tuple[Cpu, Outcome]:
    """A CPU, and what it makes of an intact kernel."""
    return request.param, start(cpu=request.param)


def test_the_kernel_gets_the_cpu_as_purgatory_got_it(intact: tuple[Cpu, Outcome]) -> None:
    _, outcome = intact
    assert outcome.jumped
    assert outcome.before == outcome.after


def test_the_caches_are_on_while_hashing(intact: tuple[Cpu, Outcome]) -> None:
    cpu, outcome = intact
    assert outcome.hashing is not None
    sctlr = outcome.hashing.registers["sctlr"]
    cached = cpu.identification.get(MMFR0) is None
    assert bool(sctlr & SCTLR_I)
    assert bool(sctlr & SCTLR_M) == bool(sctlr & SCTLR_C) == cached


def test_vector_registers_are_accessible_only_where_they_are_used(intact: tuple[Cpu, Outcome]) -> None:
    cpu, outcome = intact
    assert outcome.hashing is not None
    if ISAR0 in cpu.identification:
        assert outcome.hashing.registers["access"] == outcome.before["access"]
    elif cpu.level is Level.EL2:
        assert not outcome.hashing.registers["access"] & 1 << 10, "CPTR_EL2.TFP"
    else:
        assert outcome.hashing.registers["access"] >> 20 & 3 == 3, "CPACR_EL1.FPEN"


@pytest.mark.parametrize("cpu", CPUS)
def test_damage_is_found_and_named(cpu: Cpu) -> None:
    address, content = CONTENTS["dtb"]
    outcome = start(cpu=cpu, contents={**CONTENTS, "dtb": (address, content[:-1] + b"D")})
    assert not outcome.jumped
    assert f"region dtb is damaged: {len(content)} bytes at 0x{address:016x}" in outcome.serial
    assert outcome.before == outcome.after


@pytest.mark.slow
@settings(max_examples=examples(40), deadline=None)
@given(st.data())
def test_one_flipped_bit_anywhere_is_found_and_named(data: st.DataObject) -> None:
    damage = regions.flipped_bit(data, CONTENTS)
    outcome = start(
        contents=damage.contents,
        reset=data.draw(st.sampled_from([ResetMethod.PSCI_HVC, ResetMethod.PSCI_SMC])),
        cpu=data.draw(st.sampled_from([PLAIN, Cpu(identification=NO_SHA)])),
    )
    assert not outcome.jumped
    assert damage.message in outcome.serial
    assert damage.sha256 in outcome.serial
    assert outcome.psci_calls == [PSCI_SYSTEM_RESET]


def test_a_console_that_it_has_not_is_left_alone() -> None:
    outcome = start(uart=(Console(ConsoleKind.FIRMWARE, UART), 0, 0))
    assert outcome.jumped
    assert outcome.serial == ""


def test_without_digests_nothing_is_verified() -> None:
    assert start(contents={**CONTENTS, "initrd": (0x44000000, b"x")}, digests=()).jumped


@pytest.mark.slow
@settings(max_examples=examples(80), deadline=None)
@given(
    regions.ANY_BYTES,
    regions.OFFSETS,
    st.sampled_from([parameters.values[0] for parameters in CPUS]),
)
def test_its_sha256_is_sha256(content: bytes, offset: int, cpu: Cpu) -> None:
    digest, data = regions.hashed(content, 0x44000000, offset)
    contents = {"kernel": CONTENTS["kernel"], "data": (0x44000000, data)}
    assert start(digests=(digest,), contents=contents, cpu=cpu).jumped


# The map


def _root_offset() -> int:
    """Where in purgatory the tables' root is."""
    outcome = start()
    assert outcome.hashing is not None
    return outcome.hashing.registers["ttbr0"] - PURGATORY


ROOT = _root_offset()


def map_of(digests: Sequence[Digest], cpu: Cpu, uart: tuple[Console, int, int] = PL011) -> list[Mapped]:
    outcome = start(
        contents={"kernel": CONTENTS["kernel"]}, digests=digests, cpu=cpu, uart=uart, until_mapped=True
    )
    assert outcome.hashing is not None
    own = range(PURGATORY, PURGATORY + BLOB.memsz)
    return mapped(outcome.hashing, own, PURGATORY + ROOT, cpu.level)


def expected(digests: Sequence[Digest]) -> list[tuple[range, bool, bool, bool]]:
    """Ranges of whole pages, and whether they are normal memory, writable, executable."""
    own = (range(PURGATORY, PURGATORY + BLOB.memsz), True, True, True)
    uart = (range(UART, UART + 4096), False, True, False)
    hashed = [
        (range(d.address & -4096, d.address + d.size + 4095 & -4096), True, False, False) for d in digests
    ]
    return joined([own, uart, *hashed])


def joined(parts: Sequence[tuple[range, bool, bool, bool]]) -> list[tuple[range, bool, bool, bool]]:
    """The same with adjacent or overlapping ranges of the same kind as one."""
    result: list[tuple[range, bool, bool, bool]] = []
    for part, *kind in sorted(parts, key=lambda each: each[0].start):
        if result and result[-1][0].stop >= part.start and list(result[-1][1:]) == kind:
            part = range(result.pop()[0].start, part.stop)
        normal, writable, executable = kind
        result.append((part, normal, writable, executable))
    return result


@st.composite
def layouts(draw: st.DrawFn) -> list[Digest]:
    """Up to four regions of up to 3 GiB, some in several rows; none over purgatory or the UART."""
    digests = []
    address = PURGATORY + (1 << 21)
    for number in range(draw(st.integers(1, 4))):
        address += draw(st.integers(0, 1 << 19) | st.sampled_from([0, 1, 512, 1 << 18])) << 12
        size = draw(st.integers(1, 3 << 30) | st.sampled_from([1, 4096, 1 << 21, 1 << 30, (1 << 30) + 1]))
        rows = draw(st.integers(1, 3))
        for row in range(rows):
            start, stop = size * row // rows, size * (row + 1) // rows
            digests.append(Digest(f"{number}", address + start, stop - start, bytes(32)))
        address += size + 4095 & -4096
    return digests


@pytest.mark.slow
@settings(max_examples=examples(60), deadline=None)
@given(layouts(), st.sampled_from(list(Level)))
def test_exactly_what_is_hashed_is_mapped(digests: list[Digest], level: Level) -> None:
    found = map_of([d for d in digests if d.size], Cpu(level))
    for block in found:
        assert block.start % block.size == 0
    parts = [(range(m.start, m.start + m.size), m.normal, m.writable, m.executable) for m in found]
    assert joined(parts) == expected([d for d in digests if d.size])


def test_large_regions_are_mapped_in_large_blocks() -> None:
    region = Digest("initrd", 0x1_0000_0000 - 4096, (1 << 30) + (1 << 21) + 8192, bytes(32))
    sizes = [block.size for block in map_of([region], PLAIN) if block.start >= region.address]
    assert sizes == [4096, 1 << 30, 1 << 21, 4096]


def test_regions_in_different_halves_of_a_terabyte() -> None:
    regions = [Digest(str(n), n << 38, 1 << 21, bytes(32)) for n in range(1, 6)]
    found = map_of(regions, PLAIN)
    assert [block.start for block in found if not block.writable] == [n << 38 for n in range(1, 6)]


def test_without_console_no_device_is_mapped() -> None:
    assert all(block.normal for block in map_of([Digest("k", KERNEL, 6000, bytes(32))], PLAIN, SILENT))


def test_the_translation_is_of_the_size_the_cpu_has() -> None:
    for level, shift in (Level.EL1, 32), (Level.EL2, 16), (Level.EL2_HOST, 32):
        outcome = start(cpu=Cpu(level, identification={MMFR0: (0, 2)}))
        assert outcome.hashing is not None
        assert outcome.hashing.registers["tcr"] >> shift & 7 == 2
        assert outcome.hashing.registers["tcr"] & 0x3F == 64 - 48
        assert outcome.hashing.registers["mair"] == 0xFF00


def uncached(outcome: Outcome) -> bool:
    """Whether it was all the same as with the caches on, only without MMU."""
    assert outcome.jumped
    assert outcome.hashing is not None
    assert outcome.before == outcome.after
    return not outcome.hashing.registers["sctlr"] & (SCTLR_M | SCTLR_C)


def test_addresses_beyond_those_of_the_cpu_are_not_mapped() -> None:
    assert not uncached(start(at=0x1_9920_1000))
    assert uncached(start(at=0x1_9920_1000, cpu=Cpu(identification=ONLY_32_BITS)))


def test_a_uart_among_what_is_hashed_is_not_mapped() -> None:
    content = b"x" * 100
    digest = Digest("x", 0x44000000, len(content), hashlib.sha256(content).digest())
    contents = {"kernel": CONTENTS["kernel"], "x": (digest.address, content)}
    inside = (Console(ConsoleKind.PL011, digest.address + 0x800), 0x18, 0)
    assert not uncached(start(digests=[digest], contents=contents))
    assert uncached(start(digests=[digest], contents=contents, uart=inside))


def test_more_regions_than_there_are_tables_for() -> None:
    content = b"\xd5" * 100
    digests = [
        Digest(str(n), 0x1_0000_0000 + (n << 30), len(content), hashlib.sha256(content).digest())
        for n in range(12)
    ]
    contents = {"kernel": CONTENTS["kernel"]} | {d.name: (d.address, content) for d in digests}
    assert not uncached(start(digests=digests[:6], contents=contents))
    assert uncached(start(digests=digests, contents=contents))
