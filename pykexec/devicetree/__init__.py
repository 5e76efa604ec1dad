"""Device trees of machines: read, changed and written back. A property keeps its bytes as they are.

`node` has the one node type, `flattened` the blobs that kernels and boot loaders hand on.
"""

from __future__ import annotations

from pykexec.devicetree import flattened
from pykexec.devicetree.node import Limits, Node, is_name
from pykexec.errors import DeviceTreeError
from pykexec.machine.sysfs import read
from pykexec.memory import MIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pykexec.machine.root import Root
    from pykexec.memory import Range

FIRMWARE_TREE = "sys/firmware/fdt"
"""What firmware, or the kernel before this one, gave to the running kernel."""
UNPACKED_TREE = "proc/device-tree"

_SIZE_MAX = 16 * MIB
_CELLS_MAX = 4


class DeviceTree:
    """A device tree that can be changed. Paths name nodes, as in "/chosen"."""

    def __init__(self, data: bytes | memoryview, where: str) -> None:
        """Read a blob; `where` names it in errors. Raises DeviceTreeError when it is damaged."""
        self._where = where
        blob = flattened.read(data, where, size_max=_SIZE_MAX)
        self._root, self._reservations, self.boot_cpu = blob.root, blob.reservations, blob.boot_cpu

    @classmethod
    def running(cls, root: Root) -> DeviceTree | None:
        """Return the running kernel's tree; None for a machine that has none. Raises MachineError."""
        data = read(root, FIRMWARE_TREE)
        if data is not None:
            return cls(data, f"/{FIRMWARE_TREE}")
        return cls.from_folder(root, UNPACKED_TREE) if root.names(UNPACKED_TREE) else None

    @classmethod
    def empty(cls) -> DeviceTree:
        """Return a tree of nothing but its root."""
        self = cls.__new__(cls)
        self._where, self.boot_cpu, self._reservations, self._root = "an empty tree", 0, (), Node("")
        return self

    @classmethod
    def from_folder(cls, root: Root, folder: str) -> DeviceTree:
        """Return the tree that the kernel shows unpacked, as in /proc/device-tree. Raises MachineError."""
        self = cls.__new__(cls)
        self._where, self.boot_cpu, self._reservations = f"/{folder}", 0, ()
        self._root = _read_folder(root, folder)
        return self

    def get(self, path: str, name: str) -> bytes | None:
        """A property's bytes, or None where the node or the property is missing."""
        node = self._node(path)
        value = None if node is None else node.properties.get(name)
        return None if value is None else bytes(value)

    def set(self, path: str, name: str, value: bytes) -> None:
        """Set a property; a node that is missing is made."""
        self.update(path, {name: value})

    def update(self, path: str, properties: Mapping[str, bytes | bytearray]) -> None:
        """Set properties of one node; a node that is missing is made, also for none."""
        node = self._make(path)
        node.properties.update((name, bytes(value)) for name, value in properties.items())

    def has(self, path: str) -> bool:
        """Whether there is that node."""
        return self._node(path) is not None

    def remove(self, path: str, name: str) -> None:
        """Take a property away, if it is there."""
        node = self._node(path)
        if node is not None:
            node.properties.pop(name, None)

    def unreserve(self, part: Range) -> None:
        """Take away the memory reservations that begin where `part` (physical) does and lie in it."""
        self._reservations = tuple(
            each for each in self._reservations if each.start != part.start or not part.covers(each)
        )

    def reserve(self, parts: Iterable[Range]) -> None:
        """Add memory reservations (physical), behind those that are there."""
        self._reservations = (*self._reservations, *parts)

    def nodes(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Every node's path and properties."""
        stack = [("", self._root)]
        while stack:
            path, node = stack.pop()
            yield path or "/", {name: bytes(value) for name, value in node.properties.items()}
            stack += [(f"{path}/{child.name}", child) for child in node.children]

    @property
    def cells(self) -> tuple[int, int]:
        """The root's #address-cells and #size-cells: how many 32-bit words an address and a size take.

        Raises DeviceTreeError when they are no such numbers.
        """
        return self._cell_count("#address-cells", 2), self._cell_count("#size-cells", 1)

    def ranges(self, values: Sequence[tuple[int, int]]) -> bytes:
        """(address, size) pairs as the root's cells spell them.

        Raises DeviceTreeError for one that does not fit.
        """
        data = b""
        address_cells, size_cells = self.cells
        for pair in values:
            for number, cells in zip(pair, (address_cells, size_cells), strict=True):
                if number >> (32 * cells):
                    raise DeviceTreeError(
                        f"{self._where}: {number:#x} does not fit the root's cells"
                        f" (#address-cells {address_cells}, #size-cells {size_cells})"
                    )
                data += number.to_bytes(4 * cells)
        return data

    def to_bytes(self, spare: int = 0) -> bytes:
        """Return the blob, version 17, with so many bytes for what is added later."""
        return flattened.write(self._root, self._reservations, self.boot_cpu, spare)

    def _cell_count(self, name: str, default: int) -> int:
        value = self.get("/", name)
        if value is None:
            return default
        count = int.from_bytes(value)
        if len(value) != 4 or not 1 <= count <= _CELLS_MAX:
            raise DeviceTreeError(
                f"{self._where}: the root's {name} is {value.hex()}, not a number from 1 to 4"
            )
        return count

    def _node(self, path: str) -> Node | None:
        node: Node | None = self._root
        for name in filter(None, path.split("/")):
            node = None if node is None else node.by_name.get(name)
        return node

    def _make(self, path: str) -> Node:
        node = self._root
        for name in filter(None, path.split("/")):
            below = node.by_name.get(name)
            if below is None:
                below = Node(name)
                node.add(below)
            node = below
        return node


def _read_folder(root: Root, top: str) -> Node:
    """Return the node that a folder shows, without links to folders, of which the kernel makes none.

    Kernels number CPUs and blocks of memory in the order in which their nodes stand: here by address.
    """
    limits = Limits(f"/{top}", DeviceTreeError)
    made = Node("")
    stack = [(made, top, 1)]
    while stack:
        node, folder, depth = stack.pop()
        for name, is_folder in sorted(root.entries(folder), key=_by_address):
            path = f"{folder}/{name}"
            if not is_name(name):
                raise DeviceTreeError(f"/{path}: no name of a node or property: {name[:32]!r}")
            if is_folder:
                limits.count_node(len(path) - len(top), depth + 1)
                below = Node(name)
                node.add(below)
                stack.append((below, path, depth + 1))
            elif name != "name" and (value := read(root, path)) is not None:  # which the kernel makes up
                limits.count_property()
                node.properties[name] = value
    return made


def _by_address(entry: tuple[str, bool]) -> tuple[str, int, str]:
    """Return what puts memory@f000000 before memory@10000000."""
    name, _, address = entry[0].partition("@")
    return name, len(address), address
