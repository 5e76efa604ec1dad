"""The parameter segment, read back with nothing but the offsets of boot.rst and bootparam.h."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch.x86 import boot_params, bzimage, layouts
from pykexec.arch.x86.boot_params import Handover
from pykexec.files import FileData
from pykexec.machine.efi import EfiFacts
from pykexec.memory import MemoryKind, Range, TypedRange
from tests.support.bzimage import FakeBzImage

KERNEL = bzimage.parse(FileData.from_bytes("vmlinuz", FakeBzImage().build()))
MAP = [
    TypedRange(Range(0x1000, 0x9FC00), MemoryKind.RAM),
    TypedRange(Range(0x9FC00, 0x100000), MemoryKind.RESERVED),
    TypedRange(Range(0x100000, 0x40000000), MemoryKind.RAM),
    TypedRange(Range(0x40000000, 0x40020000), MemoryKind.ACPI_TABLES),
    TypedRange(Range(1 << 40, (1 << 40) + (1 << 33)), MemoryKind.PERSISTENT),
]
UAPI_TYPES = {"RAM": 1, "RESERVED": 2, "ACPI_TABLES": 3, "PERSISTENT": 7}  # bootparam.h, boot.rst


def handover(**changes: object) -> Handover:
    values: dict[str, object] = {
        "command_line": b"console=ttyS0",
        "memory_map": MAP,
        "initrd": None,
        "running": None,
        "screen_info": boot_params.screen_info(None, None),
        "efi": None,
        "rsdp": 0,
        "seed": None,
    }
    return Handover(**{**values, **changes})  # type: ignore[arg-type]


def u32(block: bytes, offset: int) -> int:
    return int(struct.unpack_from("<I", block, offset)[0])


def u64(block: bytes, offset: int) -> int:
    return int(struct.unpack_from("<Q", block, offset)[0])


def setup_data(block: bytes, address: int) -> Iterator[tuple[int, bytes]]:
    node = u64(block, 0x250)
    while node:
        node -= address
        following, kind, length = struct.unpack_from("<QII", block, node)
        yield kind, block[node + 16 : node + 16 + length]
        node = following


def e820(table: bytes) -> list[tuple[int, int, int]]:
    return list(struct.iter_unpack("<QQI", table))


@given(st.integers(0, (1 << 40) - 1), st.integers(0, (1 << 40) - 1), st.integers(1, 1 << 33))
def test_addresses_are_split_into_halves(page: int, initrd: int, size: int) -> None:
    address = page * 4096
    block = boot_params.build(address, KERNEL, handover(initrd=Range.sized(initrd, size)))
    assert u32(block, 0x218) | u32(block, 0xC0) << 32 == initrd
    assert u32(block, 0x21C) | u32(block, 0xC4) << 32 == size
    line = (u32(block, 0x228) | u32(block, 0xC8) << 32) - address
    assert block[line : block.index(b"\0", line)] == b"console=ttyS0"


def test_the_header_is_the_kernels_own_less_what_the_loader_sets() -> None:
    block = boot_params.build(0x1000, KERNEL, handover())
    assert block[0x202:0x206] == b"HdrS"
    assert u32(block, 0x260) == FakeBzImage().init_size
    assert u64(block, 0x258) == FakeBzImage().pref_address
    assert block[0x210] >> 4 == 0xD  # boot.rst: kexec-tools
    assert block[0x1EF] == 0  # the sentinel
    assert u64(block, 0x250) == 0  # no setup_data without data


def test_memory_map_in_the_zero_page() -> None:
    block = boot_params.build(0x1000, KERNEL, handover())
    assert block[0x1E8] == len(MAP)
    assert e820(block[0x2D0 : 0x2D0 + 20 * len(MAP)]) == [
        (entry.range.start, entry.range.size, UAPI_TYPES[entry.kind.name]) for entry in MAP
    ]
    assert u32(block, 0x1E0) == (0x40000000 - 0x100000) // 1024


@pytest.mark.parametrize("count", [127, 128, 129, 1000])
def test_entries_the_zero_page_has_no_room_for_go_to_setup_data(count: int) -> None:
    entries = [TypedRange(Range.sized(i << 21, 1 << 20), MemoryKind.RAM) for i in range(1, count + 1)]
    address = 0x7FFFF000
    block = boot_params.build(address, KERNEL, handover(memory_map=entries, seed=bytes(range(64))))
    nodes = dict(setup_data(block, address))
    told = e820(block[0x2D0 : 0x2D0 + 20 * block[0x1E8]]) + e820(nodes.get(1, b""))
    assert told == [(entry.range.start, entry.range.size, 1) for entry in entries]
    assert nodes[9] == bytes(range(32))  # SETUP_RNG_SEED


@given(st.integers(0, 400), st.integers(0, 300), st.booleans())
def test_size_does_not_depend_on_the_address(length: int, entries: int, seeded: bool) -> None:
    given_map = [TypedRange(Range.sized(i << 21, 1 << 20), MemoryKind.RAM) for i in range(entries)]
    what = handover(command_line=b"x" * length, memory_map=given_map, seed=b"s" * 64 if seeded else None)
    high = boot_params.build((1 << 52) - (1 << 21), KERNEL, what)
    assert len(boot_params.build(0, KERNEL, what)) == len(high)


def test_a_confidential_guest_finds_its_blob_again() -> None:
    """bootparam.h: cc_blob_address at 0x13c; setup_data.h: SETUP_CC_BLOB is 7, struct cc_setup_data."""
    page = bytearray(4096)
    struct.pack_into("<I", page, 0x13C, 0x7FE00000)
    running = layouts.BOOT_PARAMS.parse(bytes(page))
    efi = EfiFacts(systab={}, fw_vendor=1, runtime=2, config_table=3, runtime_map=())
    for told, others in ((None, set()), (efi, {4})):
        nodes = dict(setup_data(boot_params.build(0, KERNEL, handover(running=running, efi=told)), 0))
        assert nodes.pop(7) == struct.pack("<I", 0x7FE00000)
        assert set(nodes) == others


RUNNING = layouts.BOOT_PARAMS.parse(bytes(64 * [0x5A]) + bytes(4096 - 64))


@pytest.mark.parametrize("driver", [None, "EFI VGA", "simpledrmdrmfb"])
def test_the_firmwares_framebuffer_is_passed_on_while_it_is_in_use(driver: str | None) -> None:
    assert boot_params.screen_info(RUNNING, driver) == bytes(64 * [0x5A])


def test_a_framebuffer_taken_over_by_a_driver_is_not_passed_on() -> None:
    info = boot_params.screen_info(RUNNING, "i915drmfb")
    assert struct.unpack_from("<HHHI", info, 0x12) == (0, 0, 0, 0)  # lfb width, height, depth, base
    assert info[0x0F] == 0
