"""vmlinux and Multiboot files, good and hostile, and kernels entered through their 32-bit entry.

What such kernels then do is in tests/vm/test_formats.py; here is what the loader makes of them.
"""

import contextlib
import dataclasses
import re
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.x86 import multiboot_header, vmlinux
from pykexec.errors import ImageError, PlacementError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.memory import Range, RangeSet
from pykexec.plan import LoadPlan, Module, Purpose, Request
from tests.support.bzimage import FakeBzImage
from tests.support.machines import snapshot
from tests.support.program import Load, Program, multiboot1, multiboot2
from tests.support.stopwatch import Stopwatch

PLAIN, HIGH = "qemu-6.1-1g", "qemu-6.1-6g-high"
VIRTUAL = 0xFFFFFFFF80000000
BANNER = b"Linux version 6.1.0-9-amd64 (x) #1\n\0"
TEXT = Load(0x1000000, BANNER.ljust(0x3000, b"\xf4"), virtual=VIRTUAL + 0x1000000, align=0x200000)
DATA = Load(0x1200000, b"data" * 0x400, memsz=0x5000, virtual=VIRTUAL + 0x1200000, align=0x200000)
VMLINUX = Program([TEXT, DATA], entry=0x1000010)
TEXT32 = Load(0x1000000, BANNER.ljust(0x3000, b"\xf4"), virtual=0xC1000000)
VMLINUX32 = Program([TEXT32], entry=0x1000010, bits=32, machine=3)
MULTIBOOT = Program([Load(0x100000, multiboot1().ljust(0x2000, b"\xf4"))], 0x100010, bits=32, machine=3)
ALIGNED = bytes(4)
"""Behind the headers of a 32-bit file, so that what follows is at a multiple of 8."""
MULTIBOOT2 = Program(
    [Load(0x100000, (ALIGNED + multiboot2()).ljust(0x2000, b"\xf4"))], 0x100010, bits=32, machine=3
)
BELOW_4G = Range(0, 1 << 32)


def file(data: bytes) -> FileData:
    return FileData.from_bytes("kernel", data)


def plan(data: bytes, machine: str = PLAIN, **changes: object) -> LoadPlan:
    plain = Request(file(data), append="quiet", seed=bytes(64))
    return plan_load(snapshot(machine), dataclasses.replace(plain, **changes))  # type: ignore[arg-type]


def test_vmlinux_is_loaded_as_it_lies_in_memory() -> None:
    found = plan(VMLINUX.build())
    kernel = found.segment("kernel")
    assert found.image_format == "vmlinux, Linux 6.1.0-9-amd64"
    assert kernel.address % 0x200000 == 0
    assert kernel.memsz >= 0x1205000 - 0x1000000
    assert bytes(kernel.data[: len(TEXT.data)]) == TEXT.data
    assert not any(kernel.data[len(TEXT.data) : 0x200000])
    assert bytes(kernel.data[0x200000:]) == DATA.data


@pytest.mark.parametrize("purpose", Purpose)
def test_an_i386_vmlinux_lies_where_it_was_linked(purpose: Purpose) -> None:
    if purpose is Purpose.CRASH:
        with pytest.raises(ImageError, match=r"must lie at 0x1000000, so it cannot run in the crash region"):
            plan(VMLINUX32.build(), purpose=purpose)
    else:
        assert plan(VMLINUX32.build()).segment("kernel").address == 0x1000000


def test_a_capture_kernel_may_be_linked_to_the_reservation() -> None:
    (reserved,) = snapshot(PLAIN).iomem.crash_regions
    there = reserved.start + 0x1000000
    program = dataclasses.replace(
        VMLINUX32, loads=[dataclasses.replace(TEXT32, address=there)], entry=there + 0x10
    )
    found = plan(program.build(), purpose=Purpose.CRASH)
    assert found.segment("kernel").address == there
    assert any("is a 32-bit kernel" in each for each in found.warnings)


def test_a_multiboot_capture_kernel_may_be_linked_to_the_reservation() -> None:
    (reserved,) = snapshot(PLAIN).iomem.crash_regions
    there = reserved.start + 0x1000000
    load = Load(there, multiboot1().ljust(0x2000, b"\xf4"))
    found = plan(Program([load], there + 0x10, bits=32, machine=3).build(), purpose=Purpose.CRASH)
    assert found.segment("kernel").address == there
    assert all(reserved.covers(each.range) for each in found.segments)
    with pytest.raises(PlacementError, match="linked to the reservation, or can be moved"):
        plan(MULTIBOOT.build(), purpose=Purpose.CRASH)


def test_a_big_endian_multiboot_kernel() -> None:
    with pytest.raises(ImageError, match="a Multiboot kernel in a big-endian ELF file"):
        plan(dataclasses.replace(MULTIBOOT, order=">").build())


def test_a_32_bit_capture_kernel_is_worth_a_word() -> None:
    kernel = FakeBzImage(xloadflags=0).build()
    assert any("is a 32-bit kernel" in each for each in plan(kernel, purpose=Purpose.CRASH).warnings)
    assert plan(kernel).warnings == ()
    assert not any("32-bit" in each for each in plan(FakeBzImage().build(), purpose=Purpose.CRASH).warnings)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (Program([Load(0x1000000, b"x" * 100)], 0x1000000), 'there is no "Linux version" in it'),
        (dataclasses.replace(VMLINUX, entry=0x2000000), "its entry point 0x2000000 is outside"),
        (dataclasses.replace(VMLINUX, kind=1), "no executable one"),
        (dataclasses.replace(VMLINUX, loads=[]), 'no "Linux version"|without anything to load'),
        (dataclasses.replace(VMLINUX, more=[3]), "names an interpreter"),
        (dataclasses.replace(VMLINUX, count=0xFFFF), "65535 program headers"),
        (dataclasses.replace(VMLINUX, size=8), "program headers of 8 bytes"),
        (Program([TEXT, dataclasses.replace(DATA, address=0x1001000)], 0x1000010), "the same memory"),
        (Program([dataclasses.replace(TEXT, filesz=1 << 40, memsz=1 << 41)], 0x1000010), "truncated"),
        (Program([dataclasses.replace(TEXT, memsz=8)], 0x1000010), "12288 bytes for 8"),
        (Program([dataclasses.replace(TEXT, memsz=1 << 63)], 0x1000010), "which no kernel's do"),
        (Program([dataclasses.replace(TEXT, align=3)], 0x1000010), "aligned to 0x3"),
        (Program([dataclasses.replace(TEXT, address=0x1001000)], 0x1001010), "no multiple of 2 MiB"),
        (Program([TEXT, dataclasses.replace(DATA, address=1 << 40)], 0x1000010), "too far apart"),
    ],
)
def test_what_is_wrong_with_a_vmlinux_is_said(program: Program, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        vmlinux.parse_64bit(file(program.build()))


def test_segments_that_all_are_the_whole_file() -> None:
    """A file of 2 MiB would take 500 MiB."""
    content = BANNER.ljust(2 << 20, b"x")
    whole = Program([Load(0x1000000, content)], 0x1000000).build()
    header, row = bytearray(whole[:64]), whole[64:120]
    count = 250
    header[56:58] = struct.pack("<H", count)
    rows = b""
    for number in range(count):
        place = struct.pack("<QQQ", 64 + 56 * count, VIRTUAL, 0x1000000 + number * len(content))
        rows += row[:8] + place + row[32:]
    with pytest.raises(ImageError, match="more in them than the file"):
        plan(bytes(header) + rows + content, HIGH)


def test_where_a_32_bit_kernel_cannot_run() -> None:
    high = dataclasses.replace(TEXT32, address=0x40000000)
    with pytest.raises(ImageError, match="where no 32-bit kernel can run"):
        vmlinux.parse_32bit(file(dataclasses.replace(VMLINUX32, loads=[high], entry=0x40000010).build()))


@pytest.mark.parametrize("purpose", Purpose)
def test_the_32_bit_entry_keeps_everything_below_4g(purpose: Purpose) -> None:
    image = FakeBzImage(xloadflags=0, version=0x020F, initrd_addr_max=0x37FFFFFF).build()
    initrd = file(b"\0" * 5000)
    machine = PLAIN if purpose is Purpose.CRASH else HIGH
    found = plan(image, machine, initrd=initrd, purpose=purpose)
    assert all(BELOW_4G.covers(segment.range) for segment in found.segments)
    assert found.segment("initrd").range.end <= 0x38000000
    assert "32-bit entry" in found.image_format


def test_the_32_bit_entry_needs_memory_below_4g() -> None:
    with pytest.raises(PlacementError, match="below 4 GiB, but all that is free lies above") as caught:
        plan(FakeBzImage().build(), HIGH, purpose=Purpose.CRASH, entry_32bit=True)
    assert "without ,high" in str(caught.value)


@pytest.mark.parametrize("version", [0x0200, 0x0203, 0x0205, 0x0209, 0x020B])
def test_old_boot_protocols(version: int) -> None:
    """Fields that came later are not looked at, whatever bytes are there (boot.rst, "Details")."""
    size: dict[str, Any] = {"init_size": 0, "pref_address": 1 << 60} if version < 0x020A else {}
    kept = FakeBzImage(version=version, cmdline_size=99, **size)
    found = plan(kept.build(), append="x" * (90 if version >= 0x0206 else 250))
    assert found.image_format == f"bzImage, boot protocol 2.{version & 0xFF:02}, 32-bit entry"
    assert BELOW_4G.covers(found.segment("kernel").range)
    if version < 0x0205:
        assert found.segment("kernel").address == 0x100000
    longer = 100 if version >= 0x0206 else 256
    with pytest.raises(ImageError, match="Command line overflow"):
        plan(kept.build(), append="x" * longer)


def test_the_map_on_the_command_line_is_the_map() -> None:
    """As kernel-parameters.txt has memmap=: size@start RAM, # ACPI, sizes in KiB."""
    found = plan(FakeBzImage().build(), purpose=Purpose.CRASH, memmap_parameters=True)
    words = found.command_line.split()
    assert "memmap=exactmap" in words
    told = re.findall(r"memmap=(\d+)K@(\d+)K", found.command_line)
    ram = RangeSet(Range.sized(int(start) << 10, int(size) << 10) for size, start in told)
    assert ram == RangeSet(each.range for each in found.memory_map if each.kind.name == "RAM")


@pytest.mark.parametrize("data", [MULTIBOOT.build(), MULTIBOOT2.build()], ids=["1", "2"])
def test_multiboot_lies_where_it_was_linked(data: bytes) -> None:
    modules = tuple(Module(file(bytes([number]) * 5000), f"module {number}") for number in range(12))
    found = plan(data, modules=modules)
    assert found.segment("kernel").address == 0x100000
    assert all(BELOW_4G.covers(segment.range) for segment in found.segments)
    assert len(found.segments) <= 16
    told = bytes(found.segment("information").data)
    (places,) = {tuple(sorted(re.finditer(b"module (\\d+)\0", told), key=lambda each: int(each[1])))}
    assert [int(each[1]) for each in places] == list(range(12))
    loaded = b"".join(bytes(segment.data) for segment in found.segments if "module" in segment.name)
    assert all(bytes([number]) * 5000 in loaded for number in range(12))


ADDRESS, ENTRY, RELOCATABLE = 2, 3, 10


def words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


@pytest.mark.parametrize(
    ("parse", "data", "message"),
    [
        (multiboot_header.parse1, multiboot1(1 << 5), "requires what no version of Multiboot knows: bit 5"),
        (multiboot_header.parse1, multiboot1(1, checksum=0), "no Multiboot header"),
        (multiboot_header.parse1, multiboot1(), "must have load addresses"),
        (multiboot_header.parse1, multiboot1(1 << 16), "truncated within its Multiboot header"),
        (
            multiboot_header.parse1,
            multiboot1(1 << 16, 100, 200, 0, 0, 0),
            "cannot be part of what is loaded",
        ),
        (multiboot_header.parse1, multiboot1(1 << 16, 4096, 4096, 1 << 20, 0, 4096), "bytes to load from"),
        (multiboot_header.parse1, multiboot1(1 << 16, 4096, 4096, 4100, 0, 1), "entry point 0x1 is outside"),
        (multiboot_header.parse2, multiboot2(architecture=4), "for architecture 4, which is not x86"),
        (multiboot_header.parse2, multiboot2(length=1 << 30), "beyond the first"),
        (multiboot_header.parse2, multiboot2((1, 0, words(17))), "after a kexec: EFI memory map"),
        (multiboot_header.parse2, multiboot2((7, 0, b"")), "cannot be given: EFI boot services"),
        (multiboot_header.parse2, multiboot2((99, 0, b"")), "cannot be given: type 99"),
        (multiboot_header.parse2, multiboot2((ADDRESS, 0, words(1))), "tag 2 has 4 bytes"),
        (multiboot_header.parse2, multiboot2((ADDRESS, 0, words(0, 0, 0, 0))), "but no entry address"),
        (
            multiboot_header.parse2,
            multiboot2(
                (ADDRESS, 0, words(4096, 4096, 0, 0)),
                (ENTRY, 0, words(4096)),
                (RELOCATABLE, 0, words(8192, 4096, 4096, 0)),
            ),
            "to be loaded between 0x2000 and 0x1000",
        ),
    ],
)
def test_what_is_wrong_with_multiboot_is_said(parse: object, data: bytes, message: str) -> None:
    assert callable(parse)
    with pytest.raises(ImageError, match=message):
        parse(file(data))


def test_a_tag_nobody_needs_is_no_obstacle() -> None:
    header = multiboot2((99, 1, b""), (1, 1, words(17)))
    program = dataclasses.replace(
        MULTIBOOT2, loads=[Load(0x100000, (ALIGNED + header).ljust(0x2000, b"\xf4"))]
    )
    assert plan(program.build()).image_format == "Multiboot version 2"


def test_a_place_that_is_taken_is_named() -> None:
    taken = dataclasses.replace(MULTIBOOT, loads=[dataclasses.replace(MULTIBOOT.loads[0], address=0xF0000)])
    with pytest.raises(PlacementError, match=r"must lie at 0*f0000-0*f1fff, which is not free"):
        plan(dataclasses.replace(taken, entry=0xF0010).build())


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (MULTIBOOT.build(), {"initrd": file(b"x")}, "--module"),
        (VMLINUX.build(), {"modules": (Module(file(b"x"), "x"),)}, "--module is for Multiboot kernels"),
        (VMLINUX.build(), {"entry_32bit": True}, "--entry-32bit is for bzImages"),
        (VMLINUX.build(), {"real_mode": True}, "--real-mode"),
        (VMLINUX.build(), {"format": "multiboot-x86"}, "Wrong file type multiboot-x86"),
        (VMLINUX.build(), {"format": "Image"}, "Unsupported kernel type Image\n.*elf-x86, uki, fit"),
        (b"text" * 2000, {"format": "elf-x86"}, "Cannot determine the file type of kernel"),
    ],
)
def test_options_for_other_formats(data: bytes, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, ImageError), match=message):
        plan(data, **changes)


GOOD = [VMLINUX, VMLINUX32, MULTIBOOT, MULTIBOOT2]


@pytest.mark.slow
@given(st.sampled_from(GOOD), st.data())
def test_any_damage_is_read_or_refused_quickly(program: Program, data: st.DataObject) -> None:
    blob = bytearray(program.build())
    head = 64 + 56 * 2 + 64
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, head))
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        blob[at : at + size] = data.draw(st.binary(min_size=size, max_size=size))
    stopwatch = Stopwatch()
    with contextlib.suppress(PykexecError):
        plan(bytes(blob[: data.draw(st.one_of(st.just(len(blob)), st.integers(0, len(blob))))]))
    assert stopwatch.seconds() < 1


@pytest.mark.slow
@pytest.mark.parametrize("program", GOOD)
def test_truncated_anywhere(program: Program) -> None:
    whole = program.build()
    for length in [*range(64), *range(64, 300, 5), len(whole) - 1]:
        with pytest.raises(PykexecError):
            plan(whole[:length])
