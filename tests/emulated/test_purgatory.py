"""The shipped purgatory, executed: it starts an intact kernel and nothing else."""

import hashlib
import mmap
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec import purgatory
from pykexec.errors import PurgatoryError
from pykexec.purgatory import Backup, Console, ConsoleKind, Digest, Region
from tests.emulated.machine import COM1, CPUID, PLAIN, SHA, Cpu, Outcome, run
from tests.support import regions
from tests.support.effort import examples

BLOB = purgatory.load_blob("x86_64")
SERIAL = Console(ConsoleKind.UART_8250_PORT, COM1)
KERNEL = 0x200000
BOOT_PARAMS = 0x7000
CONTENTS = {
    "kernel": (KERNEL, b"\xf4" * 1000),
    "initrd": (0x500000, bytes(range(256)) * 17 + b"tail"),
    "boot_params": (BOOT_PARAMS, b"p" * 4097),
}


# A CPU that can, and those that lack something of it: each is hashed on all the same.
CPUS = {
    "sha": SHA,
    "plain": PLAIN,
    "old": replace(SHA, basic=1),
    "no-ssse3": replace(SHA, leaf1=(0, SHA.leaf1[1])),
    "no-fxsr": replace(SHA, leaf1=(SHA.leaf1[0], 1 << 26)),
    "no-sse2": replace(SHA, leaf1=(SHA.leaf1[0], 1 << 24)),
    "cpuid-faults": replace(SHA, cpuid_faults=True),
    "sse-on": replace(SHA, cr0=0, cr4=1 << 5 | 1 << 9 | 1 << 10),
}


def start(
    *,
    at: int = 0x10000,
    contents: regions.Contents | None = None,
    digests: tuple[Digest, ...] | None = None,
    backup: Backup | None = None,
    console: Console = SERIAL,
    uart_status: int = 0x60,
    extra: dict[int, bytes] | None = None,
    peek: dict[int, int] | None = None,
    cpu: Cpu = PLAIN,
    counted: bool = False,
) -> Outcome:
    image = purgatory.build(
        BLOB,
        jump_to=KERNEL + 0x200,
        arguments=(BOOT_PARAMS,),
        digests=regions.digests(CONTENTS) if digests is None else digests,
        console=console,
        backup=backup,
    )
    return run(
        regions.with_purgatory(contents or CONTENTS, BLOB, image, at) | dict(extra or {}),
        at + BLOB.entry_offset,
        KERNEL + 0x200,
        uart_status=uart_status,
        peek=peek,
        cpu=cpu,
        counted=counted,
    )


@pytest.mark.parametrize("at", [0x10000, 0x3FFF000, 0x123_4567_8000, (1 << 47) - (1 << 21)])
def test_an_intact_kernel_is_started_as_the_boot_protocol_wants(at: int) -> None:
    outcome = start(at=at)
    assert outcome.jumped
    registers = outcome.registers
    assert registers["rsi"] == BOOT_PARAMS
    assert at <= registers["rsp"] <= at + BLOB.memsz
    assert (registers["cs"], registers["ds"], registers["es"], registers["ss"]) == (0x10, 0x18, 0x18, 0x18)
    assert not registers["eflags"] & 0x600, "interrupt and direction flags"
    others = {"rax", "rbx", "rcx", "rdx", "rdi", "rbp"} | {f"r{n}" for n in range(8, 16)}
    assert {registers[name] for name in others} == {0}
    assert "verifying 3 regions" in outcome.serial
    assert outcome.port_writes == []


@pytest.fixture(scope="module")
def intact() -> dict[str, Outcome]:
    """What each CPU makes of an intact kernel."""
    return {name: start(cpu=cpu) for name, cpu in CPUS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", CPUS)
def test_the_kernel_gets_the_cpu_as_purgatory_got_it(name: str, intact: dict[str, Outcome]) -> None:
    outcome = intact[name]
    assert outcome.jumped
    assert outcome.before == outcome.after


@pytest.mark.slow
def test_the_cpu_hashes_where_it_can(intact: dict[str, Outcome]) -> None:
    assert {name for name, outcome in intact.items() if outcome.sha_instructions} == {"sha", "sse-on"}
    assert CPUID in BLOB.image


@pytest.mark.slow
@pytest.mark.parametrize("cpu", CPUS.values(), ids=CPUS)
def test_damage_is_found_on_any_cpu(cpu: Cpu) -> None:
    address, content = CONTENTS["initrd"]
    outcome = start(cpu=cpu, contents={**CONTENTS, "initrd": (address, content[:-1] + b"L")})
    assert not outcome.jumped
    assert f"region initrd is damaged: {len(content)} bytes" in outcome.serial


@pytest.mark.slow
@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_one_flipped_bit_anywhere_is_found_and_named(data: st.DataObject) -> None:
    damage = regions.flipped_bit(data, CONTENTS)
    outcome = start(contents=damage.contents)
    assert not outcome.jumped
    assert damage.message in outcome.serial
    assert hashlib.sha256(damage.intact).hexdigest() in outcome.serial
    assert damage.sha256 in outcome.serial
    assert outcome.port_writes == [(0x64, 0xFE)]


def test_every_damaged_region_is_named() -> None:
    outcome = start(
        contents={name: (address, b"x" + data[1:]) for name, (address, data) in CONTENTS.items()}
    )
    assert [name for name in CONTENTS if f"region {name} is damaged" in outcome.serial] == list(CONTENTS)


def test_bytes_behind_what_was_loaded_do_not_matter() -> None:
    address, content = CONTENTS["initrd"]
    assert start(contents={**CONTENTS, "initrd": (address, content + b"anything")}).jumped


def test_without_digests_nothing_is_verified() -> None:
    damaged = {name: (address, b"x" + data[1:]) for name, (address, data) in CONTENTS.items()}
    assert start(contents=damaged, digests=()).jumped


def test_no_console_is_silent() -> None:
    outcome = start(console=Console())
    assert outcome.jumped
    assert outcome.serial == ""


@pytest.mark.slow
@pytest.mark.parametrize("status", [0xFF, 0x00])
def test_a_uart_that_is_absent_or_never_ready_does_not_hang(status: int) -> None:
    silent = start(uart_status=status, digests=())
    assert silent.jumped
    assert start(digests=()).serial


LOW = bytes(range(7)) * 1463


def test_low_memory_is_saved_after_verification_only() -> None:
    backup = Backup(source=0x1000, destination=0x800000, size=len(LOW))
    low = {0x1000: LOW, 0x800000: bytes(len(LOW))}
    peek = {0x800000: len(LOW) + 16}
    assert start(backup=backup, extra=low, peek=peek).memory == {0x800000: LOW + bytes(16)}
    damaged = start(
        backup=backup, extra=low, peek=peek, contents={**CONTENTS, "kernel": (KERNEL, b"\x90" * 1000)}
    )
    assert damaged.memory == {0x800000: bytes(len(LOW) + 16)}


@pytest.mark.slow
@settings(max_examples=examples(80), deadline=None)
@given(
    regions.ANY_BYTES,
    regions.OFFSETS,
    st.sampled_from([PLAIN, SHA]),
)
def test_its_sha256_is_sha256(content: bytes, offset: int, cpu: Cpu) -> None:
    digest, data = regions.hashed(content, 0x500000, offset)
    good = start(
        digests=(digest,),
        extra={0x500000: data},
        contents={"kernel": CONTENTS["kernel"]},
        cpu=cpu,
    )
    assert good.jumped
    assert bool(good.sha_instructions) == (cpu is SHA)


@pytest.mark.slow
def test_a_full_table() -> None:
    address, content = CONTENTS["kernel"]
    digest = Digest("kernel", address, len(content), hashlib.sha256(content).digest())
    wrong = Digest("the last one", address, len(content), bytes(32))
    assert start(digests=(digest,) * 64).jumped
    outcome = start(digests=(digest,) * 63 + (wrong,))
    assert not outcome.jumped
    assert "region the last one is damaged" in outcome.serial


def test_more_regions_than_the_table_holds() -> None:
    many = [Region("r", i * 4096, memoryview(b"x")) for i in range(65)]
    with pytest.raises(PurgatoryError, match="65 regions"):
        purgatory.digest_regions(many)


def test_a_name_too_long_for_the_table() -> None:
    with pytest.raises(PurgatoryError, match="longer than 15"):
        start(digests=(Digest("sixteen letters!", 0, 0, bytes(32)),))


@pytest.mark.slow
@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(st.binary(max_size=300) | st.sampled_from([55, 64, 128, 1000]).map(bytes), max_size=5),
    st.sampled_from([PLAIN, SHA]),
    st.integers(0, 4),
)
def test_regions_of_any_sizes_side_by_side(contents: list[bytes], cpu: Cpu, number: int) -> None:
    placed = {0x500000 + 0x2000 * number: content for number, content in enumerate(contents)}
    digests = tuple(
        Digest(f"{at:x}", at, len(content), hashlib.sha256(content).digest())
        for at, content in placed.items()
    )
    memory = {at: content or b"x" for at, content in placed.items()}
    assert start(digests=digests, extra=memory, cpu=cpu).jumped
    for wrong in digests[number : number + 1]:
        damaged = tuple(replace(each, sha256=bytes(32)) if each is wrong else each for each in digests)
        outcome = start(digests=damaged, extra=memory, cpu=cpu)
        assert f"region {wrong.name} is damaged: {wrong.size} bytes" in outcome.serial
        assert outcome.serial.count("is damaged") == 1


def test_large_regions_are_hashed_in_parts_that_cover_them() -> None:
    data = memoryview(bytes(200 << 20))
    parts = purgatory.digest_regions([Region("initrd", 1 << 32, data)])
    assert len(parts) > 1
    position = 1 << 32
    for part in parts:
        assert part.address == position
        assert part.sha256 == hashlib.sha256(data[: part.size]).digest()
        position += part.size
    assert position == (1 << 32) + data.nbytes


def test_the_table_holds_any_number_of_large_regions() -> None:
    data = memoryview(mmap.mmap(-1, 130 << 20))
    whole = [Region(f"module{number}", number << 32, data) for number in range(6)]
    digests = purgatory.digest_regions(whole)
    assert {digest.name for digest in digests} == {region.name for region in whole}
    assert sum(digest.size for digest in digests) == 6 * data.nbytes
    assert purgatory.build(BLOB, jump_to=0, arguments=(), digests=digests)


_VGA = 0xB8000
_SCREEN = {_VGA: b"".join(bytes([ord("0") + line, 0x1F]) * 80 for line in range(25)).ljust(8192, b"\0")}


def _lines(screen: bytes) -> list[str]:
    return [screen[at : at + 160 : 2].decode("ascii").rstrip() for at in range(0, 80 * 25 * 2, 160)]


def test_the_vga_screen_scrolls_and_keeps_what_was_there() -> None:
    console = replace(SERIAL, vga=True)
    outcome = start(console=console, extra=_SCREEN, peek={_VGA: 4000})
    assert outcome.jumped
    shown = _lines(outcome.memory[_VGA])
    told = outcome.serial.replace("\r", "").splitlines()
    assert shown[-1 - len(told) : -1] == told
    kept = 24 - len(told)
    assert shown[:kept] == [chr(ord("0") + len(told) + 1 + line) * 80 for line in range(kept)]


def test_the_vga_screen_alone() -> None:
    outcome = start(console=Console(vga=True), extra=_SCREEN, peek={_VGA: 4000})
    assert outcome.serial == ""
    assert "purgatory: starting the kernel" in _lines(outcome.memory[_VGA])


def test_the_speed_is_set_once_where_asked() -> None:
    """8250: DLAB (0x80 of register 3) makes registers 0 and 1 the divisor; 8 bits, no parity is 3."""
    outcome = start(console=replace(SERIAL, divisor=12))
    writes = [write for write in outcome.port_writes if COM1 < write[0] < COM1 + 8]
    assert writes == [(COM1 + 3, 0x83), (COM1 + 1, 0), (COM1 + 3, 3)]
    assert outcome.serial.startswith("\x0cpurgatory: ")
    assert [write for write in start().port_writes if COM1 < write[0] < COM1 + 8] == []
