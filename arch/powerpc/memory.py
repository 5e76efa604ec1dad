"""Memory of a powerpc machine, by its device tree.

/proc/iomem shows all RAM, and nothing of what is in use: the kernel tells that in /chosen, and firmware in
nodes of its own (arch/powerpc/kernel/prom.c, kernel/rtas.c, platforms/powernv/opal.c, kexec/core.c).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from pykexec.devicetree import DeviceTree
from pykexec.errors import DeviceTreeError
from pykexec.memory import Range, RangeSet
from pykexec.values import dataclass

CHOSEN, RTAS, OPAL = "/chosen", "/rtas", "/ibm,opal"
_DYNAMIC = "/ibm,dynamic-reconfiguration-memory"
USABLE, DYNAMIC_USABLE = "linux,usable-memory", "linux,drconf-usable-memory"
"""What a capture kernel takes in the place of its memory nodes' "reg", and for each of the blocks."""

_RESERVED, _ASSIGNED = 0x80, 0x8
"""Flags of a block (LMB): firmware's own, or in the memory nodes already; this partition's (asm/drmem.h)."""
_BLOCK, _SET = struct.Struct(">QIIII"), struct.Struct(">IQIII")
"""ibm,dynamic-memory: address, DRC index, reserved, associativity, flags. ibm,dynamic-memory-v2: count,
address of the first, DRC index, associativity, flags."""
_BLOCKS_MAX = 1 << 18
"""64 TiB in blocks of 256 MiB."""

Properties = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class TreeMemory:
    """All ranges are physical."""

    ram: RangeSet
    first: Range
    """The real mode area: the part of memory that code without MMU can reach on all machines."""
    firmware: tuple[Range, ...]
    """RTAS and OPAL, which the next kernel calls, too."""
    tables: tuple[Range, ...]
    """Of I/O (TCE), which devices go on using, on machines without a hypervisor."""
    reserved: tuple[Range, ...]
    """By firmware, for purposes of its own."""
    hash_table: Range
    """The running kernel's, on machines without a hypervisor; empty where it has none."""
    kernel: Range
    """The running kernel, and all before it."""

    @property
    def handed_on(self) -> tuple[Range, ...]:
        """What stays in use whichever kernel runs, in the order in which kernels are told."""
        return *self.reserved, *self.firmware, *self.tables


def read(tree: DeviceTree) -> TreeMemory:
    """Return the memory of the machine that has this tree. Raises DeviceTreeError where it has none."""
    nodes = dict(tree.nodes())
    chosen = nodes.get(CHOSEN, {})
    parts = [part for node in _memory_nodes(nodes).values() for part in _parts(tree, node)]
    if not parts:
        raise DeviceTreeError("the device tree has no memory node")
    limit = _number(chosen, "linux,memory-limit")
    ram = RangeSet([*parts, *_blocks(tree)])
    return TreeMemory(
        ram=ram.intersect([Range(0, limit)]) if limit else ram,
        first=min(parts, key=lambda part: part.start),
        firmware=tuple(filter(None, (_rtas(nodes), _opal(nodes)))),
        tables=tuple(
            filter(None, (_sized(node, "linux,tce-base", "linux,tce-size") for node in nodes.values()))
        ),
        reserved=tuple(_pairs(nodes.get("/", {}).get("reserved-ranges", b""), 8, 8)),
        hash_table=_sized(chosen, "linux,htab-base", "linux,htab-size"),
        kernel=Range(0, _number(chosen, "linux,kernel-end")),
    )


def confine(tree: DeviceTree, usable: RangeSet) -> None:
    """Have a capture kernel use that memory alone. Raises DeviceTreeError."""
    for path, node in _memory_nodes(dict(tree.nodes())).items():
        parts = RangeSet(_pairs(node.get("reg", b""), *_widths(tree))).intersect(usable)
        # A part of no size: without it the kernel would take "reg".
        ranges = [(each.start, each.size) for each in parts] or [(0, 0)]
        tree.set(path, USABLE, tree.ranges(ranges))
    if not tree.has(_DYNAMIC):
        return
    data = bytearray()
    for block in _blocks(tree):
        within = [block.intersect(each) for each in usable if block.overlaps(each)]
        data += len(within).to_bytes(8) + tree.ranges([(each.start, each.size) for each in within])
    tree.set(_DYNAMIC, DYNAMIC_USABLE, bytes(data))


def _blocks(tree: DeviceTree) -> Iterator[Range]:
    """Yield the blocks that this partition has beside its memory nodes.

    Those that kernels skip are skipped: they read nothing of `DYNAMIC_USABLE` for them, either
    (early_init_drmem_lmb()). Raises DeviceTreeError.
    """
    size = int.from_bytes(tree.get(_DYNAMIC, "ibm,lmb-size") or b"")
    for start, flags in _all_blocks(tree, size):
        if size and flags & _ASSIGNED and not flags & _RESERVED:
            yield Range.sized(start, size)


def _all_blocks(tree: DeviceTree, size: int) -> Iterator[tuple[int, int]]:
    """Yield address and flags of each."""
    listed = tree.get(_DYNAMIC, "ibm,dynamic-memory") or b""
    for start, _, _, _, flags in _rows(listed, _BLOCK, "ibm,dynamic-memory"):
        yield start, flags
    total = 0
    sets = tree.get(_DYNAMIC, "ibm,dynamic-memory-v2") or b""
    for count, start, _, _, flags in _rows(sets, _SET, "ibm,dynamic-memory-v2"):
        total += count
        if total > _BLOCKS_MAX:
            raise DeviceTreeError(f"damaged device tree: more than {_BLOCKS_MAX} blocks of memory")
        for number in range(count):
            yield start + number * size, flags


def _rows(data: bytes, row: struct.Struct, what: str) -> Iterator[tuple[int, ...]]:
    """Yield the rows behind a number that counts them. Raises DeviceTreeError."""
    if not data:
        return
    count, rest = int.from_bytes(data[:4]), data[4:]
    if len(rest) < count * row.size:
        raise DeviceTreeError(f"damaged device tree: {what} says {count} rows, and has {len(rest)} bytes")
    yield from row.iter_unpack(rest[: count * row.size])


def _memory_nodes(nodes: Mapping[str, Properties]) -> Mapping[str, Properties]:
    """Return those that kernels read (early_init_dt_scan_memory()), less devices' own memory."""
    return {
        path: node
        for path, node in nodes.items()
        if path.count("/") == 1
        and node.get("device_type") == b"memory\0"
        and b"ibm,coherent-device-memory\0" not in node.get("compatible", b"")
    }


def _parts(tree: DeviceTree, node: Properties) -> Iterator[Range]:
    return _pairs(node.get(USABLE, node.get("reg", b"")), *_widths(tree))


def _widths(tree: DeviceTree) -> tuple[int, int]:
    address, size = tree.cells
    return 4 * address, 4 * size


def _pairs(data: bytes, address: int, size: int) -> Iterator[Range]:
    for at in range(0, len(data) - address - size + 1, address + size):
        start, middle = int.from_bytes(data[at : at + address]), at + address
        part = Range.sized(start, int.from_bytes(data[middle : middle + size]))
        if part:
            yield part


def _number(node: Properties, name: str) -> int:
    return int.from_bytes(node.get(name, b"")[:8])


def _sized(node: Properties, start: str, size: str) -> Range:
    return Range.sized(_number(node, start), _number(node, size))


def _rtas(nodes: Mapping[str, Properties]) -> Range:
    return _sized(nodes.get(RTAS, {}), "linux,rtas-base", "rtas-size")


def _opal(nodes: Mapping[str, Properties]) -> Range:
    return _sized(nodes.get(OPAL, {}), "opal-base-address", "opal-runtime-size")
