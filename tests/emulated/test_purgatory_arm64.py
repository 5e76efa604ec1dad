"""The shipped arm64 purgatory, executed."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec import purgatory
from pykexec.purgatory import Console, ConsoleKind, Digest, Region, ResetMethod
from tests.emulated.arm64 import PSCI_SYSTEM_RESET, UART, Outcome, run

BLOB = purgatory.load_blob("arm64")
KERNEL, DTB = 0x40200000, 0x48000000
CONTENTS = {
    "kernel": (KERNEL, b"\x1f\x20\x03\xd5" * 1500),
    "initrd": (0x44000000, bytes(range(256)) * 33 + b"tail"),
    "dtb": (DTB, b"d" * 4097),
}
# A status register's offset, and its value while the UART is busy: PL011's FR has TXFF, an 8250's LSR THRE.
PL011 = Console(ConsoleKind.PL011, UART), 0x18, 0x20
MMIO = Console(ConsoleKind.UART_8250_MMIO, UART, 0), 5, 0x00
MMIO32 = Console(ConsoleKind.UART_8250_MMIO32, UART, 2), 5 << 2, 0x00


def start(
    *,
    at: int = 0x4A000000,
    contents: dict[str, tuple[int, bytes]] | None = None,
    digests: tuple[Digest, ...] | None = None,
    uart: tuple[Console, int, int] = PL011,
    reset: ResetMethod = ResetMethod.PSCI_HVC,
) -> Outcome:
    regions = [Region(name, address, memoryview(data)) for name, (address, data) in CONTENTS.items()]
    console, status_register, busy = uart
    image = purgatory.build(
        BLOB,
        jump_to=KERNEL,
        arguments=(DTB,),
        digests=purgatory.digest_regions(regions) if digests is None else digests,
        console=console,
        reset=reset,
    )
    memory = dict((contents or CONTENTS).values())
    memory[at] = image.ljust(BLOB.memsz, b"\xcc")
    return run(memory, at + BLOB.entry_offset, KERNEL, status_register=status_register, busy=busy)


@pytest.mark.parametrize("uart", [PL011, MMIO, MMIO32], ids=["pl011", "8250", "8250-32"])
@pytest.mark.parametrize("at", [0x4A000000, 0x1_9920_1000])
def test_an_intact_kernel_is_started_as_the_boot_protocol_wants(
    at: int, uart: tuple[Console, int, int]
) -> None:
    outcome = start(at=at, uart=uart)
    assert outcome.jumped
    assert outcome.arguments == [DTB, 0, 0, 0]
    assert at <= outcome.sp <= at + BLOB.memsz
    assert outcome.serial == "purgatory: verifying 3 regions\r\npurgatory: starting the kernel\r\n"
    assert outcome.psci_calls == []


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_one_flipped_bit_anywhere_is_found_and_named(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(CONTENTS)))
    address, content = CONTENTS[name]
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    outcome = start(
        contents={**CONTENTS, name: (address, bytes(damaged))},
        reset=data.draw(st.sampled_from([ResetMethod.PSCI_HVC, ResetMethod.PSCI_SMC])),
    )
    assert not outcome.jumped
    assert f"region {name} is damaged: {len(content)} bytes at 0x{address:016x}" in outcome.serial
    assert hashlib.sha256(damaged).hexdigest() in outcome.serial
    assert outcome.psci_calls == [PSCI_SYSTEM_RESET]


def test_without_digests_nothing_is_verified() -> None:
    assert start(contents={**CONTENTS, "initrd": (0x44000000, b"x")}, digests=()).jumped


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 300) | st.sampled_from([55, 56, 63, 64, 65, 119, 120, 127, 128]), st.binary(max_size=9)
)
def test_its_sha256_is_sha256(size: int, pattern: bytes) -> None:
    content = ((pattern or b"\0") * (size // max(len(pattern), 1) + 1))[:size]
    digest = Digest("data", 0x44000000, size, hashlib.sha256(content).digest())
    contents = {"kernel": CONTENTS["kernel"], "data": (0x44000000, content or b"\0")}
    assert start(digests=(digest,), contents=contents).jumped
