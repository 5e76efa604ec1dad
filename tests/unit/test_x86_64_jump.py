"""kexec jump: what the new kernel gets of memory, and the way back; and kernels started in real mode."""

import io
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pykexec import cli, optionparser
from pykexec.errors import ImageError, PlacementError, PykexecError, UsageError
from pykexec.loader import plan_load
from pykexec.machine import Machine
from pykexec.memory import KIB, MIB, Range, RangeSet
from pykexec.plan import LoadPlan
from tests.support.bzimage import FakeBzImage
from tests.support.machines import iomem, snapshot, unpacked
from tests.unit.test_x86_64_plan import check_sound

PLAIN, HIGH = "qemu-6.1-1g", "qemu-6.1-6g-high"
JUMP = ("--load-preserve-context", "--mem-max=0xfffffff", "--append=quiet")


def plan(machine: Machine, *arguments: str) -> LoadPlan:
    given = optionparser.parse(["-c", *arguments])
    return plan_load(machine, cli.request_of(given, cli.resolve(given).purpose, machine))


@pytest.fixture
def kernel(tmp_path: Path) -> str:
    path = tmp_path / "vmlinuz"
    path.write_bytes(FakeBzImage().build())
    return str(path)


@pytest.mark.parametrize("name", [PLAIN, HIGH])
def test_the_new_kernel_has_what_is_in_segments_and_no_more(name: str, kernel: str) -> None:
    made = plan(snapshot(name), *JUMP, kernel)
    check_sound(made)
    assert made.flags == 62 << 16 | 0x2  # KEXEC_PRESERVE_CONTEXT, include/uapi/linux/kexec.h
    segments = RangeSet(segment.range for segment in made.segments)
    system_ram, crash = (RangeSet(iomem(name, what)) for what in ("System RAM", "Crash kernel"))
    below = RangeSet([Range(0, 256 * MIB)])
    assert segments == system_ram.intersect(below).minus(crash).aligned_inwards(4096)
    headers = made.segment("elfcorehdr").range
    told = RangeSet(each.range for each in made.memory_map if each.kind.value == "System RAM")
    assert told == segments.minus([headers])
    kept = ELFFile(io.BytesIO(made.segment("elfcorehdr").data))
    loads = [each.header for each in kept.iter_segments("PT_LOAD")]
    linear = RangeSet(Range.sized(h["p_paddr"], h["p_memsz"]) for h in loads)
    assert linear == system_ram.minus(crash).minus(segments)
    assert all(h["p_offset"] == h["p_paddr"] for h in loads)


def test_where_purgatory_writes_the_way_back(kernel: str) -> None:
    made = plan(snapshot(PLAIN), *JUMP, kernel)
    parameters, image = made.segment("boot_params"), bytes(made.segment("purgatory").data)
    pointer = struct.unpack_from("<I", parameters.data, 0x228)[0]  # boot.rst: cmd_line_ptr
    line = bytes(parameters.data[pointer - parameters.address :]).partition(b"\0")[0]
    assert line.decode() == made.command_line
    assert line.startswith(b"quiet ")
    before, digits = line.split(b"kexec_jump_back_entry=0x")
    assert digits == b"0" * 16
    at = pointer + len(before) + len(b"kexec_jump_back_entry=0x")
    assert image.count(at.to_bytes(8, "little")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mem-max=0xffffffff"], "has to be kept in the rest"),
        (["--mem-max=0xfff"], "has to be kept in the rest"),
        (["--mem-max=0xfffff"], "Could not find a free area"),
        ([], "Please specify memory range"),
        (["--mem-max=0xfffffff", "--real-mode"], "not lent"),
    ],
)
def test_what_cannot_be_lent(arguments: list[str], message: str, kernel: str) -> None:
    with pytest.raises(PykexecError, match=message):
        plan(snapshot(PLAIN), "--load-preserve-context", kernel, *arguments)


def test_the_way_back_brings_its_own_page_tables(tmp_path: Path) -> None:
    line = "quiet kexec_jump_back_entry=0x000000002f0000c8\n"
    machine = unpacked(PLAIN, tmp_path, {"proc/cmdline": line})
    made = plan(machine, "--load-jump-back-helper")
    assert made == plan(snapshot(PLAIN), "--load-jump-back-helper", "--entry=0x2f0000c8")
    assert [segment.name for segment in made.segments] == ["page_tables", "purgatory"]
    assert made.flags == 62 << 16 | 0x2
    assert made.entry in made.segment("purgatory").range
    ram = RangeSet(iomem(PLAIN, "System RAM"))
    assert all(ram.covers(segment.range) for segment in made.segments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no kexec_jump_back_entry= in /proc/cmdline"),
        (["--entry=0x10000000000000"], "52 bits"),
        (["--entry=1", "vmlinuz"], "cannot go together"),
        (["--entry=1", "--initrd=x"], "cannot go together"),
        (["--entry=1", "-p"], "cannot go together"),
    ],
)
def test_no_way_back(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(snapshot(PLAIN), "--load-jump-back-helper", *arguments)


def test_both_are_for_x86(kernel: str) -> None:
    arm64 = snapshot("qemu-arm64-6.1-1g")
    for arguments in ([*JUMP, kernel], ["--load-jump-back-helper", "--entry=1"]):
        with pytest.raises(UsageError, match=r"is for x86"):
            plan(arm64, *arguments)


def test_real_mode(kernel: str) -> None:
    """boot.rst, "Sample Boot Configuration": what is in the setup segment when the kernel is relocatable."""
    made = plan(snapshot(PLAIN), "-l", kernel, "--real-mode", "--append=quiet")
    setup, proper = made.segment("setup"), made.segment("kernel")
    assert Range(4096, 640 * KIB).covers(setup.range)
    assert Range(4096, 640 * KIB).covers(made.segment("purgatory").range)
    data = bytes(setup.data)
    assert data[0x1F1] == FakeBzImage().setup_sects
    assert data[0x1FE:0x206] == b"\x55\xaa\xeb\x6aHdrS"
    assert data[0x211] & 0x81 == 0x81
    code32_start, pointer = (struct.unpack_from("<I", data, at)[0] for at in (0x214, 0x228))
    heap_end_ptr = struct.unpack_from("<H", data, 0x224)[0]
    assert code32_start == proper.address
    assert heap_end_ptr + 0x200 <= pointer - setup.address
    assert data[pointer - setup.address :].startswith(b"quiet\0")
    assert proper.address >= FakeBzImage().pref_address


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"setup_sects": 100}, ImageError, "setup code"),
        ({"version": 0x0201}, ImageError, "2.02 is the oldest"),
    ],
)
def test_kernels_that_have_no_16bit_entry(
    changes: dict[str, int], error: type[PykexecError], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(FakeBzImage(**changes).build())  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        plan(snapshot(PLAIN), "-l", str(path), "--real-mode")


def test_what_real_mode_is_not_for(kernel: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Can't use bzImage for crash dump purposes"):
        plan(snapshot(PLAIN), "-p", kernel, "--real-mode")
    efi = unpacked(PLAIN, tmp_path / "efi", {"sys/firmware/efi/systab": "ACPI20=0x1000\n"})
    with pytest.raises(UsageError, match="no BIOS"):
        plan(efi, "-l", kernel, "--real-mode")


def test_no_room_is_an_error(kernel: str) -> None:
    with pytest.raises(PlacementError):
        plan(snapshot(PLAIN), "--load-jump-back-helper", "--entry=0x1000", "--mem-max=0x100fff")
