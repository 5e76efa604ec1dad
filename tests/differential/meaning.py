"""What a load means: facts in comparable form, wherever the loader put things.

Everything is read with struct and the offsets of the boot protocol (boot.rst, bootparam.h), and with
pyelftools; nothing of pykexec's own layouts is used.
"""

import io
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from elftools.elf.elffile import ELFFile

from tests.differential.ckexec import Loaded

Facts = dict[str, Any]
MapByType = dict[int, list[tuple[int, int]]]
"""Ranges by e820 type: ascending, ends exclusive."""
_Part = tuple[int, int, int, int | str]
"""Of a core file: physical address, virtual address, size, and offset (or that it is the backup's)."""

_POINTERS = {  # compared by what they point at
    0x0C0: 4,  # ext_ramdisk_image
    0x0C4: 4,  # ext_ramdisk_size
    0x0C8: 4,  # ext_cmd_line_ptr
    0x1E8: 1,  # e820_entries, with the table
    0x218: 8,  # ramdisk_image, ramdisk_size
    0x228: 4,  # cmd_line_ptr
    0x250: 8,  # setup_data
    0x1D0: 4,  # efi_memmap
    0x1DC: 4,  # efi_memmap_hi
    0x2D0: 128 * 20,  # e820_table
}
FIELDS = {
    "cl_magic and cl_offset": (0x020, 0x024),
    "ext_mem_k": (0x002, 0x004),  # within screen_info
    "screen_info": (0x000, 0x040),
    "apm_bios_info": (0x040, 0x054),
    "ist_info": (0x060, 0x070),
    "acpi_rsdp_addr": (0x070, 0x078),
    "drive_info": (0x080, 0x0A0),
    "edid_info": (0x140, 0x1C0),
    "efi_info": (0x1C0, 0x1E0),
    "alt_mem_k": (0x1E0, 0x1E4),
    "eddbuf_entries": (0x1E9, 0x1EA),
    "edd_mbr_sig_buf_entries": (0x1EA, 0x1EB),
    "secure_boot": (0x1EC, 0x1ED),
    "root_flags": (0x1F2, 0x1F4),
    "root_dev": (0x1FC, 0x1FE),
    "aux_device_info": (0x1FF, 0x200),
    "hardware_subarch": (0x23C, 0x240),
    "edd_mbr_sig_buffer": (0x290, 0x2D0),
    "eddbuf": (0xD00, 0xD00 + 6 * 82),
}


@dataclass(frozen=True)
class Memory:
    """What is in memory once the segments are in place."""

    loaded: Loaded

    def read(self, address: int, size: int) -> bytes:
        for start, memsz, data in self.loaded.segments:
            if start <= address and address + size <= start + memsz:
                return data[address - start : address - start + size].ljust(size, b"\0")
        raise AssertionError(f"{address:#x} is in no segment")

    def string(self, address: int) -> bytes:
        for start, memsz, data in self.loaded.segments:
            if start <= address < start + memsz:
                return data[address - start :].partition(b"\0")[0]
        raise AssertionError(f"{address:#x} is in no segment")


def facts(loaded: Loaded, image: bytes, initrd: bytes | None) -> Facts:
    """All that a load tells the next kernel. Kernel, initrd and purgatory must be as they ought to be."""
    memory = Memory(loaded)
    proper = image[((image[0x1F1] or 4) + 1) * 512 :]
    kernel_at, kernel_memsz, kernel = next(s for s in loaded.segments if s[2][:4096] == proper[:4096])
    params_at, _, page = next(s for s in loaded.segments if s[2][0x202:0x206] == b"HdrS")
    purgatory = next(s[2] for s in loaded.segments if s[0] <= loaded.entry < s[0] + s[1])
    startup_64 = kernel_at + 0x200
    assert kernel == proper
    assert struct.pack("<Q", startup_64) in purgatory
    assert struct.pack("<Q", params_at) in purgatory
    ramdisk = _split(page, 0x218, 0x0C0), _split(page, 0x21C, 0x0C4)
    assert ramdisk == (0, 0) if initrd is None else memory.read(*ramdisk) == initrd
    result: Facts = {"flags": loaded.flags, "kernel memsz": kernel_memsz}
    result |= _boot_params(page)
    result |= _pointed_at(memory, page)
    result |= _core(loaded)
    return result


def check_places(loaded: Loaded, image: bytes, allowed: Sequence[tuple[int, int]]) -> None:
    """Where segments may be: in the allowed memory (ends exclusive), in whole pages, not over each other,
    and the kernel where its setup header wants it."""
    end = 0
    for start, memsz, data in sorted(loaded.segments):
        assert start % 4096 == memsz % 4096 == 0
        assert len(data) <= memsz
        assert start >= end
        end = start + memsz
        assert any(first <= start and end <= last for first, last in joined(allowed)), f"{start:#x}"
    alignment, pref_address, init_size = (
        struct.unpack_from(layout, image, offset)[0]
        for layout, offset in [("<I", 0x230), ("<Q", 0x258), ("<I", 0x260)]
    )
    kernel = image[((image[0x1F1] or 4) + 1) * 512 :][:4096]
    kernel_at, memsz, _ = next(s for s in loaded.segments if s[2][:4096] == kernel)
    assert kernel_at % alignment == 0
    assert kernel_at >= pref_address
    assert memsz >= init_size


def joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ascending, those that touch made one."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if result and result[-1][1] >= start:
            start, before = result.pop()
            end = max(end, before)
        result.append((start, end))
    return result


def _boot_params(page: bytes) -> Facts:
    rest = bytearray(page[:0x1000])
    for offset, size in _POINTERS.items():
        rest[offset : offset + size] = bytes(size)
    fields: Facts = {}
    for name, (start, end) in FIELDS.items():
        fields[f"boot_params.{name}"] = bytes(rest[start:end])
        rest[start:end] = bytes(end - start)
    header_end = 0x202 + page[0x201]
    fields["boot_params.hdr, rest"] = bytes(rest[0x1F1:header_end])
    rest[0x1F1:header_end] = bytes(header_end - 0x1F1)
    fields["boot_params, all else"] = {offset: byte for offset, byte in enumerate(rest) if byte}
    return fields


def _pointed_at(memory: Memory, page: bytes) -> Facts:
    nodes = dict(_setup_data(memory, page))
    table = page[0x2D0 : 0x2D0 + 20 * page[0x1E8]] + nodes.pop(1, b"")
    e820 = _resolved(table, memory.loaded)
    efi_map_at, efi_map_size = _split(page, 0x1D0, 0x1DC), struct.unpack_from("<I", page, 0x1D4)[0]
    return {
        "command line": _command_line(memory.string(_split(page, 0x228, 0x0C8)), memory.loaded),
        "e820 below 1 MiB": _part(e820, 0, 1 << 20),
        "e820 from 1 MiB": _part(e820, 1 << 20, 1 << 64),
        "setup_data": {kind: len(data) if kind == 9 else data for kind, data in nodes.items()},
        "efi memory map": _efi_map(memory.read(efi_map_at, efi_map_size)) if efi_map_size else [],
    }


def _split(page: bytes, low: int, high: int) -> int:
    return int(struct.unpack_from("<I", page, low)[0] | struct.unpack_from("<I", page, high)[0] << 32)


def _setup_data(memory: Memory, page: bytes) -> Iterator[tuple[int, bytes]]:
    (node,) = struct.unpack_from("<Q", page, 0x250)
    while node:
        following, kind, size = struct.unpack("<QII", memory.read(node, 16))
        yield kind, memory.read(node + 16, size)
        node = following


def _efi_map(table: bytes) -> list[tuple[int, ...]]:
    """Sorted, and less the padding."""
    return sorted((kind, *rest) for kind, _, *rest in struct.iter_unpack("<IIQQQQ", table))


def _resolved(table: bytes, loaded: Loaded) -> MapByType:
    """What the kernel makes of the table: where entries overlap the greater type number holds
    (e820__update_table()), and neighbours are joined.

    What the loader keeps from a capture kernel's RAM for itself (core headers, backup) counts as RAM: where
    that lies is its own affair.
    """
    own = [(at, memsz, 1) for at, memsz, data in loaded.segments if _is_core(data) or not any(data)]
    crash_load = bool(loaded.flags & 1)
    entries = [*struct.iter_unpack("<QQI", table), *(own if crash_load else [])]
    bounds = sorted({bound for start, size, _ in entries for bound in (start, start + size)})
    pieces: MapByType = {}
    for first, last in itertools.pairwise(bounds):
        over = [kind for start, size, kind in entries if start <= first and last <= start + size]
        if over:
            pieces.setdefault(max(over), []).append((first, last))
    return {kind: joined(each) for kind, each in pieces.items()}


def _part(ranges: MapByType, start: int, end: int) -> MapByType:
    """Of each range what lies between start and end."""
    cut = {kind: [(max(a, start), min(b, end)) for a, b in each] for kind, each in ranges.items()}
    return {kind: inside for kind, each in cut.items() if (inside := [(a, b) for a, b in each if a < b])}


def _command_line(line: bytes, loaded: Loaded) -> bytes:
    """With the address of the core headers replaced by its meaning."""
    for at, _, data in loaded.segments:
        if _is_core(data):
            line = line.replace(b"elfcorehdr=%dK" % (at // 1024), b"elfcorehdr=HERE")
    return line


def _is_core(data: bytes) -> bool:
    return data[:4] == b"\x7fELF" and data[16:18] == b"\x04\0"


def _core(loaded: Loaded) -> Facts:
    cores = [s for s in loaded.segments if _is_core(s[2])]
    if not cores:
        return {}
    elf = ELFFile(io.BytesIO(cores[0][2]))
    backup = [s[0] for s in loaded.segments if not any(s[2])]
    headers = [segment.header for segment in elf.iter_segments()]
    assert all(h["p_filesz"] == h["p_memsz"] for h in headers)
    loads = [
        (h["p_paddr"], h["p_vaddr"], h["p_memsz"], "backup" if h["p_offset"] in backup else h["p_offset"])
        for h in headers
        if h["p_type"] == "PT_LOAD"
    ]
    return {
        "core: file header": {
            name: elf[name]
            for name in ("e_type", "e_machine", "e_version", "e_phoff", "e_phentsize", "e_shnum")
        },
        "core: notes": [
            (h["p_paddr"], h["p_memsz"], h["p_offset"]) for h in headers if h["p_type"] == "PT_NOTE"
        ],
        "core: kernel text": loads[0],
        "core: memory": _continuous(sorted(loads[1:])),
        "core: flags": {h["p_flags"] for h in headers if h["p_type"] == "PT_LOAD"},
    }


def _continuous(parts: Iterable[_Part]) -> list[_Part]:
    """Parts that continue one another made one."""
    result: list[_Part] = []
    for part in parts:
        physical, virtual, size, offset = part
        if result and size:
            before = result[-1]
            if (before[0] + before[2], before[1] + before[2]) == (physical, virtual) and "backup" not in (
                offset,
                before[3],
            ):
                result[-1] = (before[0], before[1], before[2] + size, before[3])
                continue
        result.append(part)
    return result
