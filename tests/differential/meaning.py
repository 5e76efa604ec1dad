"""What a load means: facts in comparable form, wherever the loader put things.

Everything is read with struct and the offsets of the boot protocol (boot.rst, bootparam.h), and with
pyelftools; nothing of pykexec's own layouts is used.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from elftools.elf.elffile import ELFFile

from tests.differential.ckexec import Loaded

Facts = dict[str, object]

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
_FIELDS = {
    "cl_magic and cl_offset": (0x020, 0x024),
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


def facts(loaded: Loaded, kernel: bytes, initrd: bytes) -> Facts:
    """All that a load tells the next kernel."""
    memory = Memory(loaded)
    kernel_at, kernel_memsz, kernel_data = next(s for s in loaded.segments if s[2][:4096] == kernel[:4096])
    params_at, _, page = next(s for s in loaded.segments if s[2][0x202:0x206] == b"HdrS")
    entry_segment = next(s for s in loaded.segments if s[0] <= loaded.entry < s[0] + s[1])
    result: Facts = {
        "flags": loaded.flags,
        "kernel": kernel_data == kernel,
        "kernel memsz": kernel_memsz,
        "purgatory jumps to startup_64": struct.pack("<Q", kernel_at + 0x200) in entry_segment[2],
        "purgatory passes boot_params": struct.pack("<Q", params_at) in entry_segment[2],
    }
    result |= _boot_params(page)
    result |= _pointed_at(memory, page, initrd)
    result |= _core(loaded)
    return result


def _boot_params(page: bytes) -> Facts:
    rest = bytearray(page[:0x1000])
    for offset, size in _POINTERS.items():
        rest[offset : offset + size] = bytes(size)
    fields: Facts = {}
    for name, (start, end) in _FIELDS.items():
        fields[f"boot_params.{name}"] = bytes(rest[start:end])
        rest[start:end] = bytes(end - start)
    header_end = 0x202 + page[0x201]
    fields["boot_params.hdr, rest"] = bytes(rest[0x1F1:header_end])
    rest[0x1F1:header_end] = bytes(header_end - 0x1F1)
    fields["boot_params, all else"] = {offset: byte for offset, byte in enumerate(rest) if byte}
    return fields


def _pointed_at(memory: Memory, page: bytes, initrd: bytes) -> Facts:
    ramdisk = _split(page, 0x218, 0x0C0), _split(page, 0x21C, 0x0C4)
    nodes = dict(_setup_data(memory, page))
    table = page[0x2D0 : 0x2D0 + 20 * page[0x1E8]] + nodes.pop(1, b"")
    e820 = _normal_map(table, memory.loaded)
    efi_map_at, efi_map_size = _split(page, 0x1D0, 0x1DC), struct.unpack_from("<I", page, 0x1D4)[0]
    return {
        "initrd": memory.read(*ramdisk) == initrd,
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


def _normal_map(table: bytes, loaded: Loaded) -> dict[int, list[tuple[int, int]]]:
    """Ranges by type, neighbours joined. What the loader keeps from a capture kernel's RAM for itself (core
    headers, backup) counts as RAM: where that lies is its own affair."""
    ranges: dict[int, list[tuple[int, int]]] = {}
    own = [(at, memsz, 1) for at, memsz, data in loaded.segments if _is_core(data) or not any(data)]
    crash_load = bool(loaded.flags & 1)
    for start, size, kind in sorted([*struct.iter_unpack("<QQI", table), *(own if crash_load else [])]):
        joined = ranges.setdefault(kind, [])
        if joined and joined[-1][1] >= start:
            first, last = joined.pop()
            joined.append((first, max(last, start + size)))
        else:
            joined.append((start, start + size))
    return ranges


def _part(
    ranges: dict[int, list[tuple[int, int]]], start: int, end: int
) -> dict[int, list[tuple[int, int]]]:
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
        "core: memory": sorted(loads[1:]),
        "core: flags": {h["p_flags"] for h in headers if h["p_type"] == "PT_LOAD"},
    }
