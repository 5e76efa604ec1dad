"""The shipped s390x purgatory, executed by Unicorn."""

import hashlib
from collections.abc import Mapping, Sequence

import pytest

from pykexec import purgatory
from pykexec.purgatory import Console, ConsoleKind, Digest
from tests.arches.s390x.cpu import (
    LOWCORE,
    MODE_31,
    MODE_64,
    RETURN,
    Outcome,
    ServiceProcessor,
    run,
)
from tests.emulated.machine import PLAIN
from tests.emulated.test_purgatory_cost import x86_64_per_byte
from tests.support import regions

BLOB = purgatory.load_blob("s390x")
BOOT, CRASH = 0x10000, 0x10010
"""Entries of a kernel: arch/s390/include/asm/setup.h, STARTUP_NORMAL_OFFSET and STARTUP_KDUMP_OFFSET."""
REGION, REGION_SIZE = 0x40000000, 0x100000
IN_REGION = REGION + 0xC000
FIRMWARE = Console(ConsoleKind.FIRMWARE)
CONTENTS = {
    "kernel": (REGION + 0x10000, bytes(range(256)) * 33 + b"tail"),
    "initrd": (REGION + 0x80001, b"odd" * 1001),
}
STARTS = "purgatory: verifying 2 regions\r\npurgatory: starting the kernel\r\n"
KEPT = [0xDEAD_0000 + number for number in range(6, 14)] + [RETURN, 0xDEAD_000F]
VERIFY, START = 0, 1


def crash(
    call: int,
    contents: regions.Contents = CONTENTS,
    *,
    console: Console = FIRMWARE,
    service: ServiceProcessor | None = None,
    digests: Sequence[Digest] | None = None,
    at: int = IN_REGION,
    wanted: Mapping[int, int] | None = None,
) -> Outcome:
    image = purgatory.build(
        BLOB,
        jump_to=CRASH,
        arguments=(at & ~0xFFFF, REGION_SIZE),
        digests=regions.digests(CONTENTS) if digests is None else digests,
        console=console,
    )
    low, region = bytearray(REGION_SIZE), bytearray(REGION_SIZE)
    low[: len(LOWCORE)] = LOWCORE
    for address, content in contents.values():
        region[address - REGION : address - REGION + len(content)] = content
    region[at & 0xFFFF : (at & 0xFFFF) + len(image)] = image
    low[0x10000:] = OLD
    memory = {0: bytes(low), at & ~0xFFFF: bytes(region)}
    service = service or ServiceProcessor(allows=True)
    return run(memory, at + BLOB.entry_offset, CRASH, service, r2=call, wanted=wanted)


OLD = hashlib.shake_128(b"old").digest(REGION_SIZE - 0x10000)
"""The crashed kernel's memory, behind the first 64 KiB."""


def test_in_a_crash_it_answers_that_all_is_intact() -> None:
    """arch/s390/kernel/machine_kexec.c, kdump_csum_valid()"""
    outcome = crash(VERIFY, wanted={0: len(LOWCORE)})
    assert (outcome.at, outcome.r2) == (RETURN, 0)
    assert outcome.kept == KEPT
    assert outcome.said == STARTS
    assert outcome.mask & ~(3 << 44) == MODE_64, "interruptions are off, as they were"
    changed = {at for at in range(len(LOWCORE)) if outcome.memory[0][at] != LOWCORE[at]}
    assert not changed, "the crashed kernel goes on with its lowcore"
    assert not outcome.orders, "its other CPUs run"


@pytest.mark.parametrize("name", CONTENTS)
def test_in_a_crash_it_answers_that_something_is_damaged(name: str) -> None:
    address, content = CONTENTS[name]
    damaged = content[:-1] + bytes([content[-1] ^ 1])
    outcome = crash(VERIFY, {**CONTENTS, name: (address, damaged)})
    assert (outcome.at, outcome.r2) == (RETURN, 1)
    assert outcome.kept == KEPT
    assert f"region {name} is damaged: {len(content)} bytes at 0x{address:016x}" in outcome.said
    assert hashlib.sha256(damaged).hexdigest() in outcome.said
    assert outcome.said.endswith("purgatory: not starting the kernel\r\n")
    assert not outcome.diagnoses


def test_in_a_crash_the_kernels_exchange_places() -> None:
    wanted = {0x10000: REGION_SIZE - 0x10000, REGION: REGION_SIZE}
    outcome = crash(START, wanted=wanted)
    assert outcome.at == CRASH
    assert outcome.mask & ~(3 << 44) == MODE_64
    for address, content in CONTENTS.values():
        start = address - REGION - 0x10000
        assert outcome.memory[0x10000][start : start + len(content)] == content
    old = outcome.memory[REGION]
    assert old[: len(LOWCORE)] == LOWCORE
    assert old[0x10000:] == OLD


BOOTED = {"kernel": (0x10000, CONTENTS["kernel"][1]), "initrd": (0x80001, CONTENTS["initrd"][1])}
AT = 0x90000


def boot(
    contents: regions.Contents = BOOTED,
    *,
    console: Console = FIRMWARE,
    service: ServiceProcessor | None = None,
    digests: Sequence[Digest] | None = None,
    counted: bool = False,
) -> Outcome:
    image = purgatory.build(
        BLOB,
        jump_to=BOOT,
        arguments=(),
        digests=regions.digests(BOOTED) if digests is None else digests,
        console=console,
    )
    memory = bytearray(REGION_SIZE)
    for address, content in contents.values():
        memory[address : address + len(content)] = content
    memory[AT : AT + len(image)] = image
    service = service or ServiceProcessor(allows=False)
    entry = AT + BLOB.entry_offset
    return run({0: bytes(memory)}, entry, BOOT, service, mask=MODE_31, counted=counted)


def test_a_boot() -> None:
    outcome = boot()
    assert (outcome.at, outcome.said) == (BOOT, STARTS)
    assert outcome.mask & MODE_64 == MODE_31, "as the old kernel would have entered it"
    assert outcome.orders == [0x12], "SIGP set architecture: it is entered in ESA/390 mode"


@pytest.mark.parametrize("name", BOOTED)
def test_in_a_boot_damage_resets_the_machine(name: str) -> None:
    address, content = BOOTED[name]
    outcome = boot({**BOOTED, name: (address, b"x" + content[1:])})
    assert f"region {name} is damaged" in outcome.said
    assert outcome.diagnoses == [(0x308, 3)], "arch/s390/include/asm/diag.h: load clear"


@pytest.mark.parametrize(
    ("service", "said"),
    [
        (ServiceProcessor(allows=False, busy=3), STARTS),
        (ServiceProcessor(allows=False, busy=10**9), ""),
        (ServiceProcessor(allows=False, answers=False), ""),
    ],
    ids=["busy", "always-busy", "none"],
)
def test_no_console_keeps_a_kernel_from_starting(service: ServiceProcessor, said: str) -> None:
    outcome = boot(service=service)
    assert (outcome.at, outcome.said) == (BOOT, said)
    assert outcome.milliseconds < 500


def test_without_a_console_it_says_nothing() -> None:
    for outcome in (boot(console=Console()), crash(VERIFY, console=Console())):
        assert (outcome.said, outcome.opened) == ("", 0)


def test_the_service_processor_reaches_31_bits() -> None:
    """Elsewhere there is no message, and the answer is the same."""
    at = 0x8000C000
    outcome = crash(VERIFY, digests=(), at=at)
    assert (outcome.at, outcome.r2, outcome.said) == (RETURN, 0, "")


def test_without_digests_nothing_is_verified() -> None:
    assert boot({}, digests=()).at == BOOT


def test_instructions_per_byte() -> None:
    def instructions(size: int) -> int:
        digest, data = regions.hashed(bytes(size), 0x20000)
        return boot({"data": (digest.address, data)}, digests=(digest,), counted=True).instructions

    assert 10 < regions.per_byte(instructions) < 1.3 * x86_64_per_byte(PLAIN)
