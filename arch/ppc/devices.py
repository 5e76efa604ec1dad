"""Devices of e500 machines that purgatory uses, found in the device tree."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping

from pykexec.devicetree import DeviceTree
from pykexec.memory import GIB
from pykexec.values import dataclass

_RSTCR = 0xB0
"""The reset control register in the global utilities block (sysdev/fsl_soc.c, setup_rstcr())."""
_REACHED = 4 * GIB
"""purgatory/ppc/entry.S maps pages below this."""
_CELLS_MAX = 4

Properties = Mapping[str, bytes]


class ResetKind(enum.IntEnum):
    """How purgatory resets the machine, as in purgatory/ppc/arch.c."""

    NONE = 0
    RSTCR = 1


@dataclass(frozen=True, slots=True)
class Reset:
    """How to reset a machine, and by which register (physical)."""

    kind: ResetKind = ResetKind.NONE
    register: int = 0


def find_reset(tree: DeviceTree) -> Reset:
    """Return how the machine that has this tree is reset. Raises DeviceTreeError."""
    nodes = dict(tree.nodes())
    for path, node in nodes.items():
        if "fsl,has-rstcr" in node:
            start = _address(nodes, path)
            if start is not None and start + _RSTCR < _REACHED:
                return Reset(ResetKind.RSTCR, start + _RSTCR)
    return Reset()


def _address(nodes: Mapping[str, Properties], path: str) -> int | None:
    """Return where a device's registers are (physical); None where the buses above it do not say."""
    bus = path.rpartition("/")[0] or "/"
    cells = _cells(nodes[bus], "#address-cells", 2)
    reg = nodes[path].get("reg", b"")
    if cells is None or len(reg) < 4 * cells:
        return None
    address = int.from_bytes(reg[: 4 * cells])
    while bus != "/":
        above = bus.rpartition("/")[0] or "/"
        windows = _windows(nodes[bus], nodes[above])
        found = next((to + address - at for at, to, size in windows if at <= address < at + size), None)
        if found is None:
            return None
        address, bus = found, above
    return address


def _windows(bus: Properties, above: Properties) -> Iterator[tuple[int, int, int]]:
    """Yield what a bus shows of the one above it: address on it, address above, size (Devicetree
    Specification, 2.3.8). An empty "ranges" is for all, without change; none at all for nothing."""
    widths = (
        _cells(bus, "#address-cells", 2),
        _cells(above, "#address-cells", 2),
        _cells(bus, "#size-cells", 1),
    )
    ranges = bus.get("ranges")
    if ranges is None or None in widths:
        return
    if not ranges:
        yield 0, 0, 1 << 64
    own, other, size = (4 * (width or 0) for width in widths)
    row = own + other + size
    for start in range(0, len(ranges) - row + 1, row):
        middle, end = start + own, start + own + other
        numbers = ranges[start:middle], ranges[middle:end], ranges[end : end + size]
        first, second, third = (int.from_bytes(each) for each in numbers)
        yield first, second, third


def _cells(node: Properties, name: str, default: int) -> int | None:
    value = node.get(name, default.to_bytes(4))
    count = int.from_bytes(value)
    return count if len(value) == 4 and 1 <= count <= _CELLS_MAX else None
