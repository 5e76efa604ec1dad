"""The shipped purgatories of both byte orders, executed."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pykexec import purgatory
from pykexec.purgatory import NO_CONSOLE, Backup, Console, ConsoleKind
from tests.arches.powerpc.partition import CPU, MSR_LE, MSR_SF, OPAL, REBOOTED, TERMINAL, Outcome, run
from tests.support import regions
from tests.support.effort import examples

pytestmark = [pytest.mark.programs, pytest.mark.xdist_group("purgatory-powerpc")]

BLOBS = {name: purgatory.load_blob(name) for name in ("ppc64", "ppc64le")}
PURGATORY = 0x1000000
KERNEL, DTB = 0x2000000, 0x3000000
STAYS = 0x48000000.to_bytes(4)
"""A branch to itself, in big-endian, in which all kernels are entered."""
CONTENTS = {
    "kernel": (KERNEL, STAYS + bytes(range(1, 251)) * 20),
    "initrd": (0x4000000, bytes(range(256)) * 17 + b"tail"),
    "dtb": (DTB, b"d" * 4097),
}
HYPERVISOR = Console(ConsoleKind.FIRMWARE, TERMINAL)
STARTS = "purgatory: verifying 3 regions\r\npurgatory: starting the kernel\r\n"
RTAS, RTAS_BASE, TOKEN = 0x600000, 0x5F0000, 0x2001
IS_RTAS, IS_OPAL = 1, 2  # purgatory/powerpc/arch64.h
CONSOLE_WRITE, CEC_REBOOT, POLL_EVENTS = 1, 6, 10  # skiboot, include/opal-api.h


def start(
    name: str,
    folder: Path,
    *,
    at: int = PURGATORY,
    contents: regions.Contents = CONTENTS,
    intact: regions.Contents = CONTENTS,
    console: Console = HYPERVISOR,
    firmware: int = IS_RTAS,
    backup: Backup | None = None,
) -> Outcome:
    blob = BLOBS[name]
    base, entry = (RTAS_BASE, RTAS) if firmware == IS_RTAS else (OPAL - 0x1000, OPAL)
    image = purgatory.build(
        blob,
        jump_to=KERNEL,
        arguments=(DTB, base, entry, TOKEN),
        digests=regions.digests(intact),
        console=console,
        backup=backup,
        reset=firmware,
        head=CONTENTS["kernel"][1][:0x100],
    )
    memory = {**regions.with_purgatory(contents, blob, image, at), RTAS: STAYS}
    stops = {KERNEL, RTAS, REBOOTED}
    return run(memory, at + blob.entry_offset, stops, folder, is_little=name == "ppc64le")


@pytest.mark.parametrize("name", BLOBS)
@pytest.mark.parametrize("at", [PURGATORY, 0x1FFE0000])
def test_an_intact_kernel_is_started_as_from_open_firmware(name: str, at: int, tmp_path: Path) -> None:
    """Documentation/arch/powerpc/booting.rst."""
    outcome = start(name, tmp_path, at=at)
    assert outcome.at == KERNEL
    assert outcome.registers[3:10] == (DTB, KERNEL, 0, 0, 0, 0, 0)
    assert outcome.msr & MSR_SF
    assert not outcome.msr & MSR_LE
    assert outcome.console == STARTS
    tree = outcome.memory[DTB]
    assert tree[28:32] == CPU.to_bytes(4), "boot_cpuid_phys: the next kernel starts on this one"
    assert tree[:28] + tree[32:] == b"d" * 4093


@pytest.mark.parametrize("name", BLOBS)
def test_what_other_processors_execute_is_the_kernels(name: str, tmp_path: Path) -> None:
    """kexec_sequence() copies 256 bytes to address 0, and the others go on at 0x60."""
    assert BLOBS[name].entry_offset == 0
    outcome = start(name, tmp_path)
    assert outcome.memory[PURGATORY][4:0x100] == CONTENTS["kernel"][1][4:0x100]


@pytest.mark.parametrize("region", CONTENTS)
@pytest.mark.parametrize("name", BLOBS)
def test_damage_is_named_and_rtas_resets(name: str, region: str, tmp_path: Path) -> None:
    """Power Architecture Platform Reference, 7.2.6: in 32-bit big-endian mode, with its arguments in r3."""
    address, content = CONTENTS[region]
    outcome = start(name, tmp_path, contents={**CONTENTS, region: (address, content[:-1] + b"D")})
    assert f"region {region} is damaged: {len(content)} bytes at 0x{address:016x}\r\n" in outcome.console
    assert outcome.at == RTAS
    assert not outcome.msr & (MSR_SF | MSR_LE)
    assert outcome.registers[4] == RTAS_BASE
    arguments = outcome.registers[3] - PURGATORY
    assert struct.unpack_from(">3I", outcome.memory[PURGATORY], arguments) == (TOKEN, 0, 1)


@pytest.mark.parametrize("name", BLOBS)
def test_opal_writes_and_resets(name: str, tmp_path: Path) -> None:
    address, content = CONTENTS["initrd"]
    damaged = {**CONTENTS, "initrd": (address, content[:-1] + b"D")}
    console = Console(ConsoleKind.FIRMWARE, 1)
    outcome = start(name, tmp_path, contents=damaged, console=console, firmware=IS_OPAL)
    assert outcome.at == REBOOTED
    assert not outcome.msr & MSR_LE
    assert outcome.registers[2] == OPAL - 0x1000
    assert outcome.console == ""
    written = [call for call in outcome.calls if call[0] == CONSOLE_WRITE]
    assert {(terminal, length) for _, terminal, _, length in written} == {(1, 1)}
    assert b"region initrd is damaged" in bytes(byte for _, _, byte, _ in written)
    assert {token for token, *_ in outcome.calls} == {CONSOLE_WRITE, POLL_EVENTS, CEC_REBOOT}


@pytest.mark.parametrize("name", BLOBS)
def test_the_kernel_is_told_of_opal(name: str, tmp_path: Path) -> None:
    outcome = start(name, tmp_path, console=NO_CONSOLE, firmware=IS_OPAL)
    assert outcome.at == KERNEL
    assert outcome.registers[8:10] == (OPAL - 0x1000, OPAL)
    assert outcome.console == ""
    assert outcome.calls == []


@pytest.mark.parametrize("name", BLOBS)
def test_memory_is_saved_before_the_kernel_takes_it(name: str, tmp_path: Path) -> None:
    saved, place = bytes(range(256)) * 256, 0x5000000
    contents = {**CONTENTS, "old": (0x8000000, saved), "backup": (place, bytes(len(saved)))}
    outcome = start(
        name, tmp_path, contents=contents, console=NO_CONSOLE, backup=Backup(0x8000000, place, len(saved))
    )
    assert outcome.at == KERNEL
    assert outcome.memory[place] == saved


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOBS)
@settings(
    max_examples=examples(9), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_one_flipped_bit_anywhere_is_found_and_named(name: str, tmp_path: Path, data: st.DataObject) -> None:
    damage = regions.flipped_bit(data, CONTENTS)
    outcome = start(name, tmp_path, contents=damage.contents)
    assert outcome.at == RTAS
    assert damage.message in outcome.console
    assert damage.sha256 in outcome.console


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOBS)
@settings(
    max_examples=examples(9), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(regions.ANY_BYTES, regions.OFFSETS)
def test_its_sha256_is_sha256(name: str, tmp_path: Path, content: bytes, offset: int) -> None:
    digest, data = regions.hashed(content, 0x4000000, offset)
    contents = {"kernel": CONTENTS["kernel"], "dtb": CONTENTS["dtb"], "data": (0x4000000, data)}
    intact = {**contents, "data": (digest.address, content)}
    assert start(name, tmp_path, contents=contents, intact=intact).at == KERNEL
