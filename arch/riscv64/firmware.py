"""The memory that the firmware (SBI) runs in: it protects that, and kernels fault where they touch it."""

from collections.abc import Sequence

from pykexec.devicetree import DeviceTree
from pykexec.memory import KIB, Range

_NODES = "/reserved-memory/mmode_resv"
"""How OpenSBI names it (lib/utils/fdt/fdt_fixup.c). Without "no-map", which it does not set since it leaves
the mapping to the kernel: then /proc/iomem has it among all that the kernel itself reserved."""
_PAGE = 4 * KIB


def memory(tree: DeviceTree) -> Sequence[Range]:
    """Return it, by a device tree with the reservations, whose cells are those of the root
    (drivers/of/of_reserved_mem.c). Raises DeviceTreeError."""
    address_size, size_size = (4 * cells for cells in tree.cells)
    found = []
    for path, properties in tree.nodes():
        if path.startswith(_NODES):
            reg = properties.get("reg", b"")
            for at in range(0, len(reg) - address_size - size_size + 1, address_size + size_size):
                middle, end = at + address_size, at + address_size + size_size
                part = Range.sized(int.from_bytes(reg[at:middle]), int.from_bytes(reg[middle:end]))
                found.append(part.aligned_outwards(_PAGE))
    return found
