"""The shipped loongarch64 purgatory, executed by QEMU."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from pykexec import purgatory
from pykexec.purgatory import Backup, Console, ConsoleKind, Digest
from tests.arches.loongarch64.board import (
    CACHED,
    EFI,
    OLD_WINDOW,
    RESET_REGISTER,
    RESET_VALUE,
    SYSTEM_TABLE,
    UART,
    UNCACHED,
    Outcome,
    kernel_code_size,
    run,
)
from tests.emulated.machine import PLAIN
from tests.emulated.test_purgatory_cost import x86_64_per_byte
from tests.support import regions

pytestmark = pytest.mark.programs

BLOB = purgatory.load_blob("loongarch64")
PURGATORY, KERNEL, LINE = 0x8000000, 0x400000, 0x7000000
CONTENTS = {
    "initrd": (0x4000000, bytes(range(256)) * 33 + b"tail"),
    "cmdline": (LINE, b"kexec quiet".ljust(4096, b"\0")),
    "odd": (0x5000001, b"odd" * 1001),
}
CONSOLE = Console(ConsoleKind.UART_8250_MMIO, UNCACHED | UART)
STARTS = "purgatory: verifying 3 regions\r\npurgatory: starting the kernel\r\n"


def start(
    folder: Path,
    *,
    at: int = PURGATORY,
    contents: regions.Contents | None = None,
    digests: Sequence[Digest] | None = None,
    console: Console = CONSOLE,
    backup: Backup | None = None,
) -> Outcome:
    image = purgatory.build(
        BLOB,
        jump_to=KERNEL,
        arguments=(LINE, UNCACHED | RESET_REGISTER),
        digests=regions.digests(CONTENTS) if digests is None else digests,
        console=console,
        backup=backup,
        reset=1 << 8 | RESET_VALUE,
    )
    memory = regions.with_purgatory(contents or CONTENTS, BLOB, image, at)
    return run(memory, at + BLOB.entry_offset, KERNEL, folder)


@pytest.mark.parametrize("at", [PURGATORY, 0x9_7C4000])
def test_an_intact_kernel_is_started_as_the_boot_protocol_wants(at: int, tmp_path: Path) -> None:
    outcome = start(tmp_path, at=at)
    assert outcome.serial == STARTS
    assert outcome.kernel is not None
    *arguments, stack, window = outcome.kernel
    assert arguments == [EFI, CACHED | LINE, SYSTEM_TABLE]
    assert CACHED | at <= stack <= CACHED | at + BLOB.memsz
    assert window == OLD_WINDOW


@pytest.mark.parametrize("name", CONTENTS)
def test_damage_is_found_and_named(name: str, tmp_path: Path) -> None:
    damage = regions.last_bit(CONTENTS, name)
    outcome = start(tmp_path, contents=damage.contents)
    assert outcome.kernel is None
    assert damage.message in outcome.serial
    assert damage.sha256 in outcome.serial
    assert outcome.serial.endswith("purgatory: resetting the machine\r\n")


def test_without_a_console_it_says_nothing(tmp_path: Path) -> None:
    outcome = start(tmp_path, console=Console())
    assert outcome.kernel is not None
    assert outcome.serial == ""


def test_without_digests_nothing_is_verified(tmp_path: Path) -> None:
    contents = {**CONTENTS, "initrd": (0x4000000, b"x")}
    assert start(tmp_path, contents=contents, digests=()).kernel is not None


def test_the_kernels_own_bytes_are_verified(tmp_path: Path) -> None:
    """With those of the program that stands for it."""
    content = bytes(64)
    place = KERNEL + kernel_code_size()
    digest = Digest("kernel", place, len(content), hashlib.sha256(content).digest())
    assert start(tmp_path, digests=[digest], contents={"kernel": (place, content)}).kernel is not None


def test_instructions_per_byte(tmp_path: Path) -> None:
    def instructions(size: int) -> int:
        digest, data = regions.hashed(bytes(size), 0x4000000)
        outcome = start(tmp_path, digests=(digest,), contents={"data": (digest.address, data)})
        assert outcome.kernel is not None
        return 10 * outcome.ticks

    assert 10 < regions.per_byte(instructions) < 1.2 * x86_64_per_byte(PLAIN)
