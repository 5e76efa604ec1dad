"""sh's purgatory, run in a bare machine of QEMU's."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec import purgatory
from pykexec.purgatory import Console, ConsoleKind, Digest, Region
from tests.arches.sh.board import P1, SCIF, Outcome, kernel_code_size, run
from tests.emulated.machine import PLAIN
from tests.emulated.test_purgatory_cost import x86_64_per_byte
from tests.support import regions

pytestmark = pytest.mark.programs

BLOB = purgatory.load_blob("sh")
PURGATORY, KERNEL = 0x0F000000, 0x0C011000
CONTENTS = {
    "initrd": (0x0D000000, bytes(range(256)) * 33 + b"tail"),
    "zero page": (0x0C001000, b"console=ttySC1".ljust(4096, b"\0")),
    "odd": (0x0E000001, b"odd" * 1001),
}
"""By names: physical addresses, and bytes."""
CONSOLE = Console(ConsoleKind.SCIF, SCIF)
STARTS = "purgatory: verifying 3 regions\r\npurgatory: starting the kernel\r\n"


def digests(contents: regions.Contents) -> Sequence[Digest]:
    """Return what purgatory is told: addresses of P1."""
    found = [Region(name, P1 + at, memoryview(data)) for name, (at, data) in contents.items()]
    return purgatory.digest_regions(found)


def start(
    folder: Path,
    *,
    at: int = PURGATORY,
    contents: regions.Contents | None = None,
    told: Sequence[Digest] | None = None,
    console: Console = CONSOLE,
) -> Outcome:
    image = purgatory.build(
        BLOB,
        jump_to=P1 + KERNEL,
        arguments=(),
        digests=digests(CONTENTS) if told is None else told,
        console=console,
    )
    memory = regions.with_purgatory(contents or CONTENTS, BLOB, image, at)
    return run(memory, at + BLOB.entry_offset, KERNEL, folder)


@pytest.mark.parametrize("at", [PURGATORY, 0x0C0F7000])
def test_an_intact_kernel_is_started(at: int, tmp_path: Path) -> None:
    outcome = start(tmp_path, at=at)
    assert outcome.serial == STARTS
    assert outcome.kernel is not None
    stack, status, here = outcome.kernel
    assert P1 + at < stack <= P1 + at + BLOB.memsz
    assert status & 0x400000F0 == 0x400000F0, "privileged, and not interrupted"
    assert here & ~0xFF == P1 + KERNEL


@pytest.mark.parametrize("name", CONTENTS)
def test_damage_is_found_and_named(name: str, tmp_path: Path) -> None:
    damage = regions.last_bit(CONTENTS, name)
    outcome = start(tmp_path, contents=damage.contents)
    assert outcome.kernel is None
    assert replace(damage, address=P1 + damage.address).message in outcome.serial
    assert damage.sha256 in outcome.serial
    assert outcome.serial.endswith("purgatory: resetting the machine\r\n")


def test_without_a_console_it_says_nothing(tmp_path: Path) -> None:
    outcome = start(tmp_path, console=Console())
    assert outcome.kernel is not None
    assert outcome.serial == ""


def test_without_digests_nothing_is_verified(tmp_path: Path) -> None:
    contents = {**CONTENTS, "initrd": (0x0D000000, b"x")}
    assert start(tmp_path, contents=contents, told=()).kernel is not None


def test_the_kernels_own_bytes_are_verified(tmp_path: Path) -> None:
    """With those of the program that stands for it."""
    content = bytes(64)
    contents = {"kernel": (KERNEL + kernel_code_size(), content)}
    assert start(tmp_path, told=digests(contents), contents=contents).kernel is not None


def test_instructions_per_byte(tmp_path: Path) -> None:
    def instructions(size: int) -> int:
        digest, data = regions.hashed(bytes(size), 0x0D000000)
        told = [replace(digest, address=P1 + digest.address)]
        return start(tmp_path, told=told, contents={"data": (digest.address, data)}).instructions

    assert 10 < regions.per_byte(instructions) < 2 * x86_64_per_byte(PLAIN)


def test_what_is_copied_behind_the_code_is_more_than_caches_hold() -> None:
    """At least twice 32 KiB, of SH-4A, as pages: then the code is no more in the data cache only."""
    assert BLOB.memsz - len(BLOB.image) >= 64 << 10
