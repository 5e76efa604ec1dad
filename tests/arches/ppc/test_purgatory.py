"""The shipped purgatory, executed on an e500 core."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykexec import purgatory
from pykexec.purgatory import NO_CONSOLE, Backup, Console, ConsoleKind
from tests.arches.ppc.bare import AFTER_RESET, CPU, MAPPED, RSTCR, SERIAL, Outcome, run
from tests.support import regions
from tests.support.effort import examples

pytestmark = [pytest.mark.programs, pytest.mark.xdist_group("purgatory-ppc")]

BLOB = purgatory.load_blob("ppc")
PURGATORY = 0x1000000
KERNEL, DTB = 0x400000, 0x800000
STAYS = 0x48000000.to_bytes(4)
"""A branch to itself."""
CONTENTS = {
    "kernel": (KERNEL, STAYS + bytes(range(1, 251)) * 20),
    "initrd": (0xC00000, bytes(range(256)) * 17 + b"tail"),
    "dtb": (DTB, b"d" * 4097),
}
UART = Console(ConsoleKind.UART_8250_MMIO, SERIAL)
STARTS = "purgatory: verifying 3 regions\r\npurgatory: starting the kernel\r\n"
RESET = 1  # purgatory/ppc/arch.c


def start(
    folder: Path,
    *,
    at: int = PURGATORY,
    contents: regions.Contents = CONTENTS,
    intact: regions.Contents = CONTENTS,
    console: Console = UART,
    reset: int = RESET,
    backup: Backup | None = None,
) -> Outcome:
    image = purgatory.build(
        BLOB,
        jump_to=KERNEL,
        arguments=(DTB, RSTCR if reset else 0),
        digests=regions.digests(intact),
        console=console,
        backup=backup,
        reset=reset,
    )
    memory = regions.with_purgatory(contents, BLOB, image, at)
    return run(memory, at + BLOB.entry_offset, {KERNEL}, folder)


@pytest.mark.parametrize("at", [PURGATORY, 0x1FF000, MAPPED - 0x5000])
def test_an_intact_kernel_is_started_as_from_a_boot_loader(at: int, tmp_path: Path) -> None:
    """Documentation/arch/powerpc/booting.rst."""
    outcome = start(tmp_path, at=at)
    assert outcome.at == KERNEL
    assert outcome.registers[3:8] == (DTB, KERNEL, 0, 0, 0)
    assert outcome.console == STARTS
    tree = outcome.memory[DTB]
    assert tree[28:32] == CPU.to_bytes(4), "boot_cpuid_phys: the next kernel starts on this one"
    assert tree[:28] + tree[32:] == b"d" * 4093


def test_no_device_is_touched_where_none_is_named(tmp_path: Path) -> None:
    """Classic cores have no such TLB: the instructions that map a device would stop them."""
    outcome = start(tmp_path, console=NO_CONSOLE, reset=0)
    assert outcome.at == KERNEL
    assert outcome.console == ""


@pytest.mark.parametrize("region", CONTENTS)
def test_damage_is_named_and_the_machine_is_reset(region: str, tmp_path: Path) -> None:
    address, content = CONTENTS[region]
    outcome = start(tmp_path, contents={**CONTENTS, region: (address, content[:-1] + b"D")})
    assert outcome.at == AFTER_RESET
    assert f"region {region} is damaged: {len(content)} bytes at 0x{address:016x}\r\n" in outcome.console


def test_memory_is_saved_before_the_kernel_takes_it(tmp_path: Path) -> None:
    saved, place = bytes(range(256)) * 256, 0x1100000
    contents = {**CONTENTS, "old": (0x1200000, saved), "backup": (place, bytes(len(saved)))}
    outcome = start(tmp_path, contents=contents, backup=Backup(0x1200000, place, len(saved)))
    assert outcome.at == KERNEL
    assert outcome.memory[place] == saved


@pytest.mark.slow
@settings(
    max_examples=examples(9), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_one_flipped_bit_anywhere_is_found_and_named(tmp_path: Path, data: st.DataObject) -> None:
    damage = regions.flipped_bit(data, CONTENTS)
    outcome = start(tmp_path, contents=damage.contents)
    assert outcome.at == AFTER_RESET
    assert damage.message in outcome.console
    assert damage.sha256 in outcome.console


@pytest.mark.slow
@settings(
    max_examples=examples(9), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(regions.ANY_BYTES, regions.OFFSETS)
def test_its_sha256_is_sha256(tmp_path: Path, content: bytes, offset: int) -> None:
    digest, data = regions.hashed(content, 0xC00000, offset)
    contents = {"kernel": CONTENTS["kernel"], "dtb": CONTENTS["dtb"], "data": (0xC00000, data)}
    intact = {**contents, "data": (digest.address, content)}
    assert start(tmp_path, contents=contents, intact=intact).at == KERNEL
