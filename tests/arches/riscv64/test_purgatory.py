"""The shipped riscv64 purgatory, executed."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec import purgatory
from pykexec.purgatory import Backup, Console, ConsoleKind, Digest
from tests.arches.riscv64.hart import (
    DEBUG_CONSOLE_WRITE_BYTE,
    HART,
    LEGACY_PUTCHAR,
    NEW,
    UART,
    Firmware,
    Outcome,
    run,
)
from tests.emulated.machine import PLAIN
from tests.emulated.test_purgatory_cost import x86_64_per_byte
from tests.support import regions
from tests.support.effort import examples

BLOB = purgatory.load_blob("riscv64")
PURGATORY = 0x8A000000
KERNEL, DTB = 0x80200000, 0x88000000
CONTENTS = {
    "kernel": (KERNEL, b"\x13\0\0\0" * 300),
    "initrd": (0x84000000, bytes(range(256)) * 17 + b"tail"),
    "dtb": (DTB, b"d" * 4097),
}
# A status register's offset, and its value while the UART is busy: an 8250's LSR lacks THRE then.
MMIO = Console(ConsoleKind.UART_8250_MMIO, UART), 5, 0x00
MMIO32 = Console(ConsoleKind.UART_8250_MMIO32, UART, 2), 5 << 2, 0x00
SBI = Console(ConsoleKind.FIRMWARE), 0, 0
SILENT = Console(), 0, 0
COLD_REBOOT, SYSTEM_FAILURE = 1, 1  # RISC-V SBI specification, tables 15 and 16
STARTS = "purgatory: verifying 3 regions\r\npurgatory: starting the kernel\r\n"


def start(
    *,
    at: int = PURGATORY,
    contents: regions.Contents | None = None,
    digests: Sequence[Digest] | None = None,
    uart: tuple[Console, int, int] = MMIO,
    firmware: Firmware = NEW,
    backup: Backup | None = None,
    counted: bool = False,
) -> Outcome:
    console, status_register, busy = uart
    image = purgatory.build(
        BLOB,
        jump_to=KERNEL,
        arguments=(DTB,),
        digests=regions.digests(CONTENTS) if digests is None else digests,
        console=console,
        backup=backup,
    )
    return run(
        regions.with_purgatory(contents or CONTENTS, BLOB, image, at),
        at + BLOB.entry_offset,
        KERNEL,
        status_register=status_register,
        busy=busy,
        firmware=firmware,
        counted=counted,
    )


@pytest.mark.parametrize("uart", [MMIO, MMIO32], ids=["8250", "8250-32"])
@pytest.mark.parametrize("at", [PURGATORY, 0x1_9920_1000, (1 << 47) - (1 << 21)])
def test_an_intact_kernel_is_started_as_the_boot_protocol_wants(
    at: int, uart: tuple[Console, int, int]
) -> None:
    outcome = start(at=at, uart=uart)
    assert outcome.jumped
    assert (outcome.a0, outcome.a1) == (HART, DTB)
    assert at <= outcome.sp <= at + BLOB.memsz
    assert (outcome.serial, outcome.firmware) == (STARTS, "")
    assert outcome.resets == []


def test_the_entry_point_can_be_a_trap_vector() -> None:
    """In a crash it is entered so; the two low bits of stvec say how, and are none of the address."""
    assert (PURGATORY + BLOB.entry_offset) % 4 == 0


@pytest.mark.parametrize(
    ("firmware", "call"),
    [
        (NEW, DEBUG_CONSOLE_WRITE_BYTE),
        (Firmware(legacy=False), DEBUG_CONSOLE_WRITE_BYTE),
        (Firmware(debug_console=False), LEGACY_PUTCHAR),
        (Firmware(debug_console=False, error=-2), LEGACY_PUTCHAR),
    ],
)
def test_firmware_writes_by_the_call_that_it_has(firmware: Firmware, call: tuple[int, int]) -> None:
    outcome = start(uart=SBI, firmware=firmware)
    assert outcome.jumped
    assert (outcome.serial, outcome.firmware, outcome.consoles) == ("", STARTS, {call})


@pytest.mark.parametrize(
    ("uart", "firmware"),
    [
        (SILENT, NEW),
        (SBI, Firmware(debug_console=False, legacy=False)),
        ((Console(ConsoleKind.UART_8250_PORT, UART), 0, 0), NEW),
    ],
)
def test_without_a_console_it_says_nothing(uart: tuple[Console, int, int], firmware: Firmware) -> None:
    outcome = start(uart=uart, firmware=firmware)
    assert outcome.jumped
    assert (outcome.serial, outcome.firmware) == ("", "")


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("uart", [MMIO, SBI], ids=["8250", "sbi"])
def test_damage_is_found_and_named(uart: tuple[Console, int, int], name: str) -> None:
    address, content = CONTENTS[name]
    outcome = start(uart=uart, contents={**CONTENTS, name: (address, content[:-1] + b"D")})
    assert not outcome.jumped
    assert (
        f"region {name} is damaged: {len(content)} bytes at 0x{address:016x}"
        in outcome.serial + outcome.firmware
    )
    assert outcome.resets == [(COLD_REBOOT, SYSTEM_FAILURE)]


@pytest.mark.slow
@settings(max_examples=examples(40), deadline=None)
@given(st.data())
def test_one_flipped_bit_anywhere_is_found_and_named(data: st.DataObject) -> None:
    damage = regions.flipped_bit(data, CONTENTS)
    outcome = start(contents=damage.contents)
    assert not outcome.jumped
    assert damage.message in outcome.serial
    assert damage.sha256 in outcome.serial


@pytest.mark.slow
@settings(max_examples=examples(80), deadline=None)
@given(
    regions.ANY_BYTES,
    regions.OFFSETS,
)
def test_its_sha256_is_sha256(content: bytes, offset: int) -> None:
    digest, data = regions.hashed(content, 0x84000000, offset)
    contents = {"kernel": CONTENTS["kernel"], "data": (0x84000000, data)}
    assert start(digests=(digest,), contents=contents).jumped


def test_memory_that_may_not_be_read_ends_in_a_reset() -> None:
    """Such as firmware's own, which it protects (PMP)."""
    digest = Digest("data", 0x1_0000_0000, 4096, bytes(32))
    outcome = start(digests=(digest,))
    assert not outcome.jumped
    assert outcome.resets == [(COLD_REBOOT, SYSTEM_FAILURE)]


def test_without_digests_nothing_is_verified() -> None:
    assert start(contents={**CONTENTS, "initrd": (0x84000000, b"x")}, digests=()).jumped


def _instructions(size: int) -> int:
    digest, data = regions.hashed(bytes(size), 0x84000000)
    contents = {"kernel": CONTENTS["kernel"], "data": (digest.address, data)}
    outcome = start(digests=(digest,), contents=contents, counted=True)
    assert outcome.jumped
    return outcome.instructions


@pytest.mark.slow
def test_instructions_per_byte() -> None:
    """Of the base instruction set, which cannot rotate, not many more than of x86_64's."""
    assert regions.per_byte(_instructions) < 1.2 * x86_64_per_byte(PLAIN)
