"""The information for a Multiboot kernel: the structure of version 1, the tags of version 2.

Names and numbers are those of the specifications' sections "Boot information format".
"""

import struct
from collections.abc import Sequence

from pykexec import __version__
from pykexec.memory import KIB, MIB, MemoryKind, Range, RangeSet, TypedRange, align_up
from pykexec.values import dataclass

LOADER_NAME = f"pykexec {__version__}".encode()

MAGIC_1, MAGIC_2 = 0x2BADB002, 0x36D76289
"""The value of EAX at the entry."""

_KINDS = {
    MemoryKind.RAM: 1,
    MemoryKind.ACPI_TABLES: 3,
    MemoryKind.ACPI_NVS: 4,
    MemoryKind.UNUSABLE: 5,
}
_RESERVED = 2
_LOWER_MEMORY_MAX = 640  # KiB
_U32_MAX = 0xFFFFFFFF

# flags of version 1
_HAS_MEMORY, _HAS_COMMAND_LINE, _HAS_MODULES = 1 << 0, 1 << 2, 1 << 3
_HAS_MAP, _HAS_LOADER_NAME, _HAS_FRAMEBUFFER = 1 << 6, 1 << 9, 1 << 12

_INFO_1 = struct.Struct("<III4xIII16xII12xI4x16xQIIIBB6s4x")
_MODULE_1 = struct.Struct("<III4x")
_MAP_ENTRY_1 = struct.Struct("<IQQI")
_MAP_ENTRY_2 = struct.Struct("<QQI4x")
_RSDP_1_SIZE = 20  # ACPI 1.0's

_RGB, _TEXT = 1, 2  # types of a framebuffer
_TEXT_MEMORY = 0xB8000

# include/uapi/linux/screen_info.h
_VIDEO_TYPE_VGAC, _VIDEO_TYPE_VLFB, _VIDEO_TYPE_EFI = 0x22, 0x23, 0x70
_VIDEO_CAPABILITY_64BIT_BASE = 1 << 1


@dataclass(frozen=True, slots=True)
class Screen:
    """A framebuffer, or a text screen (whose sizes are in characters)."""

    address: int
    pitch: int
    width: int
    height: int
    depth: int
    """The bits of a pixel or a character."""
    kind: int
    colors: bytes = bytes(6)
    """Position and size of red, green, blue; unused for text."""


@dataclass(frozen=True, slots=True)
class LoadedModule:
    """A module where it lies (physical)."""

    range: Range
    text: bytes


@dataclass(frozen=True, slots=True)
class Information:
    """All that the kernel is told."""

    command_line: bytes
    memory_map: Sequence[TypedRange]
    modules: Sequence[LoadedModule] = ()
    screen: Screen | None = None
    rsdp: bytes | None = None
    """ACPI's root pointer itself, not its address."""
    load_base: int | None = None
    """The address where the kernel was loaded (version 2)."""


def build(version: int, address: int, information: Information) -> bytes:
    """Return the structure for that version, to lie at `address`; its size does not depend on that."""
    return _build1(address, information) if version == 1 else _build2(information)


def screen_of(screen_info: bytes) -> Screen | None:
    """Return the screen that struct screen_info describes; None where it describes none."""
    kind, width, height, depth, base = screen_info[0x0F], *struct.unpack_from("<HHHI", screen_info, 0x12)
    if kind in (_VIDEO_TYPE_VLFB, _VIDEO_TYPE_EFI) and width and height:
        pitch, *fields = struct.unpack_from("<H6B", screen_info, 0x24)
        capabilities, high = struct.unpack_from("<II", screen_info, 0x36)
        base |= high << 32 if capabilities & _VIDEO_CAPABILITY_64BIT_BASE else 0
        sizes, positions = fields[0::2], fields[1::2]
        colors = bytes(number for pair in zip(positions, sizes, strict=True) for number in pair)
        return Screen(base, pitch, width, height, depth, _RGB, colors)
    columns, lines = screen_info[0x07], screen_info[0x0E]
    if kind in (1, _VIDEO_TYPE_VGAC) and columns and lines:
        return Screen(_TEXT_MEMORY, 2 * columns, columns, lines, 16, _TEXT)
    return None


def _memory(memory_map: Sequence[TypedRange]) -> tuple[int, int]:
    """Return (mem_lower, mem_upper): KiB of RAM from 0 and from 1 MiB on."""
    ram = RangeSet(entry.range for entry in memory_map if entry.kind is MemoryKind.RAM)
    # The running kernel keeps the first page for itself.
    first = next((each for each in ram if each.start <= 4 * KIB), Range(0, 0))
    upper = next((each for each in ram if MIB in each), Range(MIB, MIB))
    return min(first.end // KIB, _LOWER_MEMORY_MAX), min((upper.end - MIB) // KIB, _U32_MAX)


def _kind(entry: TypedRange) -> int:
    return _KINDS.get(entry.kind, _RESERVED)


def _build1(address: int, information: Information) -> bytes:
    block = bytearray(_INFO_1.size)

    def add(data: bytes) -> int:
        block.extend(bytes(-len(block) % 4))
        place = address + len(block)
        block.extend(data)
        return place

    memory_map = b"".join(
        _MAP_ENTRY_1.pack(_MAP_ENTRY_1.size - 4, e.range.start, e.range.size, _kind(e))
        for e in information.memory_map
    )
    map_at = add(memory_map)
    modules = [
        _MODULE_1.pack(each.range.start, each.range.end, add(each.text + b"\0"))
        for each in information.modules
    ]
    modules_at = add(b"".join(modules))
    line_at = add(information.command_line + b"\0")
    name_at = add(LOADER_NAME + b"\0")
    flags = _HAS_MEMORY | _HAS_COMMAND_LINE | _HAS_MAP | _HAS_LOADER_NAME
    flags |= _HAS_MODULES if modules else 0
    flags |= _HAS_FRAMEBUFFER if information.screen else 0
    screen = information.screen or Screen(0, 0, 0, 0, 0, 0)
    block[: _INFO_1.size] = _INFO_1.pack(
        flags,
        *_memory(information.memory_map),
        line_at,
        len(modules),
        modules_at if modules else 0,
        len(memory_map),
        map_at,
        name_at,
        screen.address,
        screen.pitch,
        screen.width,
        screen.height,
        screen.depth,
        screen.kind,
        screen.colors,
    )
    return bytes(block)


def _build2(information: Information) -> bytes:
    memory_map = b"".join(
        _MAP_ENTRY_2.pack(e.range.start, e.range.size, _kind(e)) for e in information.memory_map
    )
    tags = [
        _tag(1, information.command_line + b"\0"),
        _tag(2, LOADER_NAME + b"\0"),
        _tag(4, struct.pack("<II", *_memory(information.memory_map))),
        _tag(6, struct.pack("<II", _MAP_ENTRY_2.size, 0) + memory_map),
    ]
    for each in information.modules:
        tags.append(_tag(3, struct.pack("<II", each.range.start, each.range.end) + each.text + b"\0"))
    if information.screen:
        tags.append(_tag(8, _framebuffer(information.screen)))
    if information.rsdp:
        tags.append(_tag(14, information.rsdp[:_RSDP_1_SIZE]))
        if len(information.rsdp) > _RSDP_1_SIZE:
            tags.append(_tag(15, information.rsdp))
    if information.load_base is not None:
        tags.append(_tag(21, struct.pack("<I", information.load_base)))
    tags.append(_tag(0, b""))
    content = b"".join(tags)
    return struct.pack("<II", 8 + len(content), 0) + content


def _tag(kind: int, data: bytes) -> bytes:
    size = 8 + len(data)
    return struct.pack("<II", kind, size) + data.ljust(align_up(size, 8) - 8, b"\0")


def _framebuffer(screen: Screen) -> bytes:
    colors = screen.colors if screen.kind == _RGB else b""
    numbers = screen.address, screen.pitch, screen.width, screen.height, screen.depth, screen.kind
    return struct.pack("<QIIIBBH", *numbers, 0) + colors
