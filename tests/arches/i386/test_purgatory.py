"""The shipped purgatory, executed: it starts an intact kernel, as is asked for, and nothing else."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec import purgatory
from pykexec.arch.x86.preparation import Leave
from pykexec.errors import PurgatoryError
from pykexec.purgatory import Backup, Console, ConsoleKind, Digest
from tests.arches.i386.bare import Outcome, run
from tests.emulated import machine, test_purgatory_cost
from tests.support import regions

BLOB = purgatory.load_blob("i386")
SERIAL = Console(ConsoleKind.UART_8250_PORT, machine.COM1)
KERNEL, PARAMETERS = 0x200000, 0x100000
CONTENTS = {
    "kernel": (KERNEL, b"\xf4" * 1000),
    "initrd": (0x500000, bytes(range(256)) * 17 + b"tail"),
    "boot_params": (PARAMETERS, b"p" * 4097),
}


def start(
    contents: regions.Contents = CONTENTS,
    *,
    at: int = 0x10000,
    table: tuple[Digest, ...] | None = None,
    leave: Leave = Leave.PROTECTED,
    arguments: tuple[int, ...] = (PARAMETERS, 0x111, 0x222),
    jump_to: int = KERNEL + 0x200,
    reached: int | None = None,
    extra: Mapping[int, bytes] | None = None,
    return_to: int = 0,
    peek: Mapping[int, int] | None = None,
    uart_status: int = 0x60,
    counted: bool = False,
    console: Console = SERIAL,
    **further: object,
) -> Outcome:
    image = purgatory.build(
        BLOB,
        jump_to=jump_to,
        arguments=(*arguments, leave),
        digests=regions.digests(CONTENTS) if table is None else table,
        console=console,
        **further,  # type: ignore[arg-type]
    )
    return run(
        regions.with_purgatory(contents, BLOB, image, at) | dict(extra or {}),
        at + BLOB.entry_offset,
        jump_to if reached is None else reached,
        return_to=return_to,
        peek=peek,
        uart_status=uart_status,
        counted=counted,
    )


@pytest.mark.parametrize("at", [0x10000, 0x3FFF000, 0x8000_0000, (1 << 32) - (1 << 16)])
def test_an_intact_kernel_is_started_as_the_boot_protocol_wants(at: int) -> None:
    outcome = start(at=at)
    assert outcome.jumped
    registers = outcome.registers
    assert (registers["esi"], registers["ebx"], registers["eax"]) == (PARAMETERS, 0x111, 0x222)
    assert [registers[name] for name in ("ecx", "edx", "edi", "ebp")] == [0] * 4
    assert at <= registers["esp"] <= at + BLOB.memsz
    assert [registers[name] for name in ("cs", "ds", "es", "fs", "gs", "ss")] == [0x10, *[0x18] * 5]
    assert not registers["eflags"] & 0x600, "interrupt and direction flags"
    assert registers["cr0"] & 0x8000_0001 == 1, "protected mode, no paging"
    assert "verifying 3 regions" in outcome.serial
    assert outcome.port_writes == []


_BELOW_1M = {**CONTENTS, "boot_params": (0x90000, b"p" * 0x10000)}


def test_a_kernel_is_started_in_real_mode() -> None:
    """SDM volume 3, "Switching Back to Real-Address Mode": segments of 64 KiB, the BIOS's vectors, no PE."""
    outcome = start(
        _BELOW_1M,
        table=regions.digests(_BELOW_1M),
        leave=Leave.REAL,
        arguments=(0x9000, 0xE000, 0),
        jump_to=0x9020 << 16,
        reached=0x90200,
    )
    assert outcome.jumped
    registers = outcome.registers
    assert not registers["cr0"] & 1
    assert registers["cs"] == 0x9020
    assert [registers[name] for name in ("ds", "es", "fs", "gs", "ss")] == [0x9000] * 5
    assert registers["esp"] == 0xE000
    assert outcome.interrupt_table == (0, 0x3FF)
    assert [registers[name] for name in ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp")] == [0] * 7
    assert not registers["eflags"] & 0x600


RETURN = 0x345678
LINE = 0x300000
ZEROS = b"quiet entry=0x" + b"0" * 16 + b"\0"


def test_the_new_kernel_is_told_where_the_old_one_waits() -> None:
    at = LINE + len(ZEROS) - 17
    extra, peek = {LINE: ZEROS}, {LINE: len(ZEROS)}
    told = start(called=True, jump_back_digits=at, extra=extra, peek=peek, return_to=RETURN)
    assert told.jumped
    assert told.memory[LINE] == b"quiet entry=0x0000000000345678\0"
    assert start(extra=extra, peek=peek, return_to=RETURN).memory[LINE] == ZEROS


def test_a_kernel_that_waits_is_gone_back_to() -> None:
    """It takes what is on the stack for where the other one waits ("re-entry point")."""
    image = {0x10000: BLOB.memsz}
    outcome = start(leave=Leave.BACK, called=True, return_to=RETURN, peek=image)
    assert outcome.jumped
    at = outcome.registers["esp"] - 0x10000
    assert int.from_bytes(outcome.memory[0x10000][at : at + 4], "little") == RETURN
    assert {name: outcome.registers[name] for name in outcome.segments_before} == outcome.segments_before


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_one_flipped_bit_anywhere_is_found_and_named(data: st.DataObject) -> None:
    damage = regions.flipped_bit(data, CONTENTS)
    outcome = start(damage.contents)
    assert not outcome.jumped
    assert damage.message in outcome.serial
    assert hashlib.sha256(damage.intact).hexdigest() in outcome.serial
    assert damage.sha256 in outcome.serial
    assert outcome.port_writes == [(0x64, 0xFE)]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.binary(max_size=300) | st.sampled_from([55, 56, 64, 128, 9000]).map(bytes), max_size=5),
    st.integers(0, 65),
    st.integers(0, 4),
)
def test_regions_of_any_sizes_at_any_addresses(contents: list[bytes], offset: int, number: int) -> None:
    placed = {0x500000 + 0x8000 * index: content for index, content in enumerate(contents)}
    table = tuple(
        Digest(f"{at:x}", at + offset, len(content), hashlib.sha256(content).digest())
        for at, content in placed.items()
    )
    extra = {at: bytes(offset) + content + b"\xff" for at, content in placed.items()}
    kernel = {"kernel": CONTENTS["kernel"]}
    assert start(kernel, table=table, extra=extra).jumped
    for wrong in table[number : number + 1]:
        damaged = tuple(replace(each, sha256=bytes(32)) if each is wrong else each for each in table)
        outcome = start(kernel, table=damaged, extra=extra)
        assert f"region {wrong.name} is damaged: {wrong.size} bytes" in outcome.serial
        assert outcome.serial.count("is damaged") == 1


LOW = bytes(range(7)) * 1463


def test_low_memory_is_saved_after_verification_only() -> None:
    backup = Backup(source=0x1000, destination=0x800000, size=len(LOW))
    low = {0x1000: LOW, 0x800000: bytes(len(LOW))}
    peek = {0x800000: len(LOW) + 16}
    assert start(backup=backup, extra=low, peek=peek).memory == {0x800000: LOW + bytes(16)}
    broken = {**CONTENTS, "kernel": (KERNEL, b"\x90" * 1000)}
    assert start(broken, backup=backup, extra=low, peek=peek).memory == {0x800000: bytes(len(LOW) + 16)}


@pytest.mark.slow
@pytest.mark.parametrize("status", [0xFF, pytest.param(0x00, marks=pytest.mark.further)])
def test_a_uart_that_is_absent_or_never_ready_does_not_hang(status: int) -> None:
    silent = start(uart_status=status, table=())
    assert silent.jumped
    assert start(table=()).serial


def test_the_speed_is_set_once_where_asked() -> None:
    """8250: DLAB (0x80 of register 3) makes registers 0 and 1 the divisor; 8 bits, no parity is 3."""
    com1 = machine.COM1
    outcome = start(console=replace(SERIAL, divisor=12))
    writes = [write for write in outcome.port_writes if com1 < write[0] < com1 + 8]
    assert writes == [(com1 + 3, 0x83), (com1 + 1, 0), (com1 + 3, 3)]
    assert outcome.serial.startswith("\x0cpurgatory: ")


def test_messages_go_to_the_vga_screen() -> None:
    screen = {0xB8000: b"x\x1f" * 80 * 25}
    outcome = start(console=Console(vga=True), extra=screen, peek={0xB8000: 4000})
    assert outcome.serial == ""
    assert outcome.memory[0xB8000][0:4000:2].rstrip().endswith(b"purgatory: starting the kernel")


def test_what_does_not_fit_a_word_is_refused() -> None:
    with pytest.raises(PurgatoryError, match="does not fit this machine's 32 bits"):
        start(jump_to=1 << 32)


def per_byte() -> float:
    """Instructions for each byte that is hashed."""

    def instructions(size: int) -> int:
        digest, data = regions.hashed(bytes(size), 0x500000)
        kernel = {"kernel": CONTENTS["kernel"]}
        outcome = start(kernel, table=(digest,), extra={digest.address: data}, counted=True)
        assert outcome.jumped
        return outcome.instructions

    return regions.per_byte(instructions)


@pytest.mark.slow
def test_hashing_takes_few_more_instructions_than_portable_code_on_x86_64() -> None:
    assert per_byte() <= 1.2 * test_purgatory_cost.x86_64_per_byte(machine.PLAIN)
