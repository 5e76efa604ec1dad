"""Flattened device trees: read strictly, edited with the `fdt` library, written back.

The library's own reader is not used: it drops empty strings from string lists, knows no NOP tags, which the
running kernel leaves in /sys/firmware/fdt, and trusts every offset. Here each property keeps its bytes as
they are (Devicetree Specification, chapter 5).
"""

import struct
from collections.abc import Iterator, Sequence

import fdt

from pykexec.errors import DeviceTreeError
from pykexec.machine.root import Root
from pykexec.machine.text import read
from pykexec.memory import MIB, Range

_MAGIC = 0xD00DFEED
_HEADER = struct.Struct(">10I")
_RESERVE_ENTRY = struct.Struct(">QQ")
_VERSION = 17
_COMPATIBLE_VERSION = 16
_BEGIN_NODE, _END_NODE, _PROP, _NOP, _END = 1, 2, 3, 4, 9
_SIZE_MAX = 16 * MIB
_DEPTH_MAX = 64
_CELLS_MAX = 4


class DeviceTree:
    """A device tree that can be changed. Paths name nodes, as in "/chosen"."""

    def __init__(self, data: bytes, where: str) -> None:
        """Read a blob; `where` names it in errors. Raises DeviceTreeError when it is damaged."""
        self._where = where
        self._tree, self.boot_cpu = _Reader(data, where).read()

    @classmethod
    def from_folder(cls, root: Root, folder: str) -> "DeviceTree":
        """The tree the kernel shows unpacked, as in /proc/device-tree. Raises MachineError."""
        self = cls.__new__(cls)
        self._where, self.boot_cpu = f"/{folder}", 0
        self._tree = fdt.FDT()
        self._tree.header.version = _VERSION
        self._tree.entries = []
        self._tree.root = _node("/", None)
        _read_folder(self._tree.root, root, folder, _DEPTH_MAX)
        return self

    def get(self, path: str, name: str) -> bytes | None:
        """A property's bytes, or None where the node or the property is missing."""
        node = self._node(path)
        found = node.get_property(name) if node is not None else None
        return None if found is None else _bytes_of(found)

    def set(self, path: str, name: str, value: bytes) -> None:
        """Set a property; a node that is missing is made."""
        self.make(path).set_property(name, value or None)

    def make(self, path: str) -> fdt.Node:
        """That node, made with those above it where they are missing."""
        node = self._tree.root
        for name in filter(None, path.split("/")):
            found = node.get_subnode(name)
            node = _node(name, node) if found is None else found
        return node

    def has(self, path: str) -> bool:
        """Whether there is that node."""
        return self._node(path) is not None

    def remove(self, path: str, name: str) -> None:
        """Take a property away, if it is there."""
        node = self._node(path)
        if node is not None:
            node.remove_property(name)

    def unreserve(self, part: Range) -> None:
        """Take away the memory reservations that begin where `part` (physical) does and lie in it."""
        self._tree.entries = [
            each
            for each in self._tree.entries
            if each["address"] != part.start or not part.covers(Range.sized(each["address"], each["size"]))
        ]

    def nodes(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Every node's path and properties."""
        stack = [("", self._tree.root)]
        while stack:
            path, node = stack.pop()
            yield path or "/", {each.name: _bytes_of(each) for each in node.props}
            stack += [(f"{path}/{child.name}", child) for child in node.nodes]

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

    def to_bytes(self) -> bytes:
        """The blob, version 17."""
        return bytes(self._tree.to_dtb(_VERSION, _COMPATIBLE_VERSION, self.boot_cpu))

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

    def _node(self, path: str) -> fdt.Node | None:
        node = self._tree.root
        for name in filter(None, path.split("/")):
            node = node.get_subnode(name)
            if node is None:
                return None
        return node


def _bytes_of(prop: fdt.Property) -> bytes:
    return bytes(getattr(prop, "data", b""))


def _read_folder(node: fdt.Node, root: Root, folder: str, depth: int) -> None:
    for name in root.names(folder):
        path = f"{folder}/{name}"
        if not _is_name(name):
            raise DeviceTreeError(f"/{path}: no name of a node or property: {name[:32]!r}")
        value = read(root, path)
        if value is None and depth:
            _read_folder(_node(name, node), root, path, depth - 1)
        elif value is not None and name != "name":  # which the kernel makes up
            _add_property(node, name, value)


def _add_property(node: fdt.Node, name: str, value: bytes) -> None:
    """Not node.append(): that looks for a twin of each, which takes quadratic time."""
    made = fdt.PropBytes(name, data=value) if value else fdt.Property(name)
    made.set_parent(node)
    node.props.append(made)


class _Reader:
    """Walks the structure block once, with every offset checked before it is used."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where

    def read(self) -> tuple[fdt.FDT, int]:
        """The tree, and the physical ID of the boot CPU."""
        if len(self._data) < _HEADER.size or int.from_bytes(self._data[:4]) != _MAGIC:
            raise self._damaged("no device tree (magic d00dfeed)")
        fields = _HEADER.unpack_from(self._data)
        (
            _,
            total,
            struct_at,
            strings_at,
            reserve_at,
            version,
            compatible,
            boot_cpu,
            strings_size,
            struct_size,
        ) = fields
        if not _HEADER.size <= total <= len(self._data):
            raise self._damaged(f"its header says {total} bytes, the file has {len(self._data)}")
        if total > _SIZE_MAX:
            raise self._damaged(f"{total} bytes; {_SIZE_MAX} at most are read")
        if compatible > _VERSION or version < _COMPATIBLE_VERSION:
            raise self._damaged(f"version {version}, compatible with {compatible}; 16 and 17 are known")
        if version < _VERSION:
            struct_size = total - struct_at
        self._strings = self._block(strings_at, strings_size, total, "strings")
        self._struct = self._block(struct_at, struct_size, total, "structure")
        tree = fdt.FDT()
        tree.header.version = _VERSION
        tree.entries = list(self._reservations(reserve_at, total))
        tree.root = self._root()
        return tree, boot_cpu

    def _block(self, start: int, size: int, total: int, what: str) -> bytes:
        if start < _HEADER.size or start + size > total:
            raise self._damaged(f"the {what} block at {start:#x} of {size:#x} bytes is outside of it")
        return self._data[start : start + size]

    def _reservations(self, position: int, total: int) -> Iterator[dict[str, int]]:
        while position + _RESERVE_ENTRY.size <= total:
            address, size = _RESERVE_ENTRY.unpack_from(self._data, position)
            if not address and not size:
                return
            yield {"address": address, "size": size}
            position += _RESERVE_ENTRY.size
        raise self._damaged("its memory reservations do not end")

    def _root(self) -> fdt.Node:
        position = 0
        open_nodes: list[fdt.Node] = []
        root: fdt.Node | None = None
        while True:
            tag = self._word(position)
            position += 4
            if tag == _BEGIN_NODE:
                name, position = self._node_name(position)
                if open_nodes and "/" in name:  # which would pass for a path
                    raise self._damaged(f"a node's name with a slash: {name[:32]!r}")
                node = _node(name or "/", open_nodes[-1] if open_nodes else None)
                if root is None:
                    root = node
                elif not open_nodes:
                    raise self._damaged("more than one root node")
                open_nodes.append(node)
                if len(open_nodes) > _DEPTH_MAX:
                    raise self._damaged(f"nodes nested more than {_DEPTH_MAX} deep")
            elif tag == _PROP and open_nodes:
                position = self._property(open_nodes[-1], position)
            elif tag == _END_NODE and open_nodes:
                open_nodes.pop()
            elif tag == _END and root is not None and not open_nodes:
                return root
            elif tag != _NOP:
                raise self._damaged(
                    f"tag {tag:#x} at {position - 4:#x} of the structure block is out of place"
                )

    def _word(self, position: int) -> int:
        if position + 4 > len(self._struct):
            raise self._damaged("its structure block is truncated")
        return int.from_bytes(self._struct[position : position + 4])

    def _node_name(self, position: int) -> tuple[str, int]:
        end = self._struct.find(b"\0", position)
        if end < 0:
            raise self._damaged("a node's name does not end")
        return self._text(self._struct[position:end]), (end + 4) & ~3

    def _property(self, node: fdt.Node, position: int) -> int:
        size, name_at = self._word(position), self._word(position + 4)
        start = position + 8
        end = self._strings.find(b"\0", name_at)
        if start + size > len(self._struct) or name_at >= len(self._strings) or end < 0:
            raise self._damaged(f"the property at {position - 4:#x} of the structure block is damaged")
        name = self._text(self._strings[name_at:end])
        value = self._struct[start : start + size]
        _add_property(node, name, value)
        return (start + size + 3) & ~3

    def _text(self, name: bytes) -> str:
        text = name.decode("latin-1")
        if not _is_name(text):
            raise self._damaged(f"a name with unprintable characters: {name[:32]!r}")
        return text

    def _damaged(self, what: str) -> DeviceTreeError:
        return DeviceTreeError(f"{self._where}: damaged device tree: {what}")


def _is_name(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _node(name: str, parent: fdt.Node | None) -> fdt.Node:
    node = fdt.Node(name)
    if parent is not None:
        node.set_parent(parent)
        parent.nodes.append(node)
    return node
