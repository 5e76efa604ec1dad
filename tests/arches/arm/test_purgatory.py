"""The shipped arm purgatory, executed."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec import purgatory
from pykexec.booting.psci import ResetMethod
from pykexec.errors import PurgatoryError
from pykexec.purgatory import Backup, Console, ConsoleKind, Digest
from tests.arches.arm.board import (
    INSTRUCTIONS_MAX,
    MACHINE,
    MASKED,
    MODE_AND_STATE,
    SCTLR_A,
    SCTLR_AFE,
    SCTLR_C,
    SCTLR_M,
    SCTLR_TRE,
    SCTLR_WXN,
    UART,
    Cpu,
    Outcome,
    run,
)
from tests.emulated.machine import PLAIN
from tests.emulated.test_purgatory_cost import x86_64_per_byte
from tests.support import regions
from tests.support.effort import examples

BLOB = purgatory.load_blob("arm")
PURGATORY = 0x4A000000
KERNEL, DTB = 0x40208000, 0x48000000
CONTENTS = {
    "kernel": (KERNEL, b"\0\0\xa0\xe1" * 300),
    "initrd": (0x44000000, bytes(range(256)) * 17 + b"tail"),
    "dtb": (DTB, b"d" * 4097),
}
# A status register's offset, and its value while the UART is busy: an 8250's LSR lacks THRE then.
PL011 = Console(ConsoleKind.PL011, UART), 0x18, 0x20
MMIO = Console(ConsoleKind.UART_8250_MMIO, UART), 5, 0x00
MMIO32 = Console(ConsoleKind.UART_8250_MMIO32, UART, 2), 5 << 2, 0x00
SILENT = Console(), 0, 0
SVC = 0x13
PSCI_SYSTEM_RESET = 0x84000009  # ARM DEN 0022
STARTS = "purgatory: verifying 3 regions\r\npurgatory: starting the kernel\r\n"


def start(
    *,
    at: int = PURGATORY,
    contents: regions.Contents | None = None,
    digests: Sequence[Digest] | None = None,
    uart: tuple[Console, int, int] = PL011,
    cpu: Cpu = Cpu.V7,
    reset: int = ResetMethod.PSCI_HVC,
    backup: Backup | None = None,
    watched: int = CONTENTS["initrd"][0],
    sctlr_besides: int = 0,
    counted: bool = False,
    limit: int = INSTRUCTIONS_MAX,
) -> Outcome:
    console, status_register, busy = uart
    image = purgatory.build(
        BLOB,
        jump_to=KERNEL,
        arguments=(DTB,),
        digests=regions.digests(CONTENTS) if digests is None else digests,
        console=console,
        backup=backup,
        reset=reset,
    )
    return run(
        regions.with_purgatory(contents or CONTENTS, BLOB, image, at),
        at + BLOB.entry_offset,
        KERNEL,
        cpu=cpu,
        status_register=status_register,
        busy=busy,
        watched=watched,
        sctlr_besides=sctlr_besides,
        counted=counted,
        limit=limit,
    )


@pytest.mark.parametrize("uart", [PL011, MMIO, MMIO32], ids=["pl011", "8250", "8250-32"])
@pytest.mark.parametrize("at", [PURGATORY, 0x41E33000, (1 << 32) - (1 << 20)])
@pytest.mark.parametrize("cpu", Cpu)
def test_an_intact_kernel_is_started_as_the_boot_protocol_wants(
    cpu: Cpu, at: int, uart: tuple[Console, int, int]
) -> None:
    outcome = start(at=at, uart=uart, cpu=cpu)
    assert outcome.jumped
    assert (outcome.r0, outcome.r1, outcome.r2) == (0, MACHINE, DTB)
    assert outcome.cpsr & MODE_AND_STATE == SVC, "in ARM state"
    assert outcome.cpsr & MASKED == MASKED
    assert outcome.sctlr & (SCTLR_M | SCTLR_C) == 0
    assert at <= outcome.sp <= at + BLOB.memsz
    assert outcome.serial == STARTS
    assert outcome.calls == []


@pytest.mark.parametrize("cpu", Cpu)
def test_the_caches_are_on_while_it_hashes_where_that_can_be(cpu: Cpu) -> None:
    """What the old kernel has set is set again afterwards, and does not disturb."""
    besides = SCTLR_A | (SCTLR_WXN | SCTLR_TRE | SCTLR_AFE if cpu in (Cpu.V7, Cpu.V7_OTHER) else 0)
    outcome = start(cpu=cpu, sctlr_besides=besides)
    assert outcome.jumped
    assert outcome.cached == (cpu in (Cpu.V7, Cpu.V7_OTHER))
    assert outcome.sctlr == outcome.sctlr_before


def test_what_cannot_be_mapped_is_hashed_all_the_same() -> None:
    """The UART within the memory that is hashed: no section can be both."""
    content = CONTENTS["initrd"][1]
    digest = Digest("data", UART + 0x10000, len(content), hashlib.sha256(content).digest())
    contents = {"kernel": CONTENTS["kernel"], "data": (digest.address, content)}
    outcome = start(digests=(digest,), contents=contents, watched=digest.address)
    assert outcome.jumped
    assert not outcome.cached


def test_an_address_beyond_a_word_is_refused() -> None:
    with pytest.raises(PurgatoryError, match="does not fit this machine's 32 bits"):
        start(digests=(Digest("data", 1 << 32, 4096, bytes(32)),))


def test_without_a_console_it_says_nothing() -> None:
    outcome = start(uart=SILENT)
    assert outcome.jumped
    assert outcome.serial == ""


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("method", [ResetMethod.PSCI_HVC, ResetMethod.PSCI_SMC])
def test_damage_is_found_and_named(method: ResetMethod, name: str) -> None:
    address, content = CONTENTS[name]
    damaged = {**CONTENTS, name: (address, content[:-1] + b"D")}
    outcome = start(contents=damaged, reset=method)
    assert not outcome.jumped
    assert f"region {name} is damaged: {len(content)} bytes at 0x{address:016x}" in outcome.serial
    assert outcome.calls == [(method.name.removeprefix("PSCI_").lower(), PSCI_SYSTEM_RESET)]


def test_without_psci_it_stays_where_it_is() -> None:
    address, content = CONTENTS["dtb"]
    small = {"kernel": CONTENTS["kernel"], "dtb": (address, content[:-1] + b"D")}
    digest = Digest("dtb", address, len(content), hashlib.sha256(content).digest())
    outcome = start(contents=small, digests=(digest,), reset=ResetMethod.DEFAULT, cpu=Cpu.V5, limit=300_000)
    assert not outcome.jumped
    assert outcome.serial.endswith("resetting the machine\r\n")
    assert outcome.calls == []


@pytest.mark.slow
@settings(max_examples=examples(40), deadline=None)
@given(st.data())
def test_one_flipped_bit_anywhere_is_found_and_named(data: st.DataObject) -> None:
    damage = regions.flipped_bit(data, CONTENTS)
    cpu = data.draw(st.sampled_from(Cpu))
    outcome = start(contents=damage.contents, cpu=cpu)
    assert not outcome.jumped
    assert damage.message in outcome.serial
    assert damage.sha256 in outcome.serial


@pytest.mark.slow
@settings(max_examples=examples(80), deadline=None)
@given(
    regions.ANY_BYTES,
    regions.OFFSETS,
    st.sampled_from(Cpu),
)
def test_its_sha256_is_sha256(content: bytes, offset: int, cpu: Cpu) -> None:
    digest, data = regions.hashed(content, 0x44000000, offset)
    contents = {"kernel": CONTENTS["kernel"], "data": (0x44000000, data)}
    assert start(digests=(digest,), contents=contents, cpu=cpu).jumped


def test_without_digests_nothing_is_verified() -> None:
    assert start(contents={**CONTENTS, "initrd": (0x44000000, b"x")}, digests=()).jumped


def _instructions(size: int, cpu: Cpu) -> int:
    digest, data = regions.hashed(bytes(size), 0x44000000)
    contents = {"kernel": CONTENTS["kernel"], "data": (digest.address, data)}
    outcome = start(digests=(digest,), contents=contents, cpu=cpu, counted=True)
    assert outcome.jumped
    return outcome.instructions


@pytest.mark.slow
@pytest.mark.parametrize("cpu", [Cpu.V5, Cpu.V7])
def test_instructions_per_byte(cpu: Cpu) -> None:
    """Of the oldest instruction set, which has none to swap bytes, not many more than of x86_64's."""
    per_byte = regions.per_byte(lambda size: _instructions(size, cpu))
    assert per_byte < 1.2 * x86_64_per_byte(PLAIN)


@pytest.mark.slow
def test_what_the_map_and_the_caches_cost() -> None:
    """Most of it is for the lines of a cache of 4 MiB, which are brought to memory one by one."""
    assert _instructions(64, Cpu.V7) < 300_000
