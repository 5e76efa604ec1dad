"""Flattened device trees: read strictly, held as nodes of the `fdt` library, written back.

The library's own reader is not used: it drops empty strings from string lists, knows no NOP tags, which the
running kernel leaves in /sys/firmware/fdt, and trusts every offset. Nor is its writer: it searches all names
for each property's, which takes quadratic time, and drops properties with some names. Here each property
keeps its bytes as they are (Devicetree Specification, chapter 5).
"""

import struct
from collections.abc import Iterator, Mapping, Sequence

import fdt

from pykexec.errors import DeviceTreeError
from pykexec.machine.root import Root
from pykexec.machine.sysfs import read
from pykexec.memory import MIB, Range

_MAGIC = 0xD00DFEED
_HEADER = struct.Struct(">10I")
_RESERVE_ENTRY = struct.Struct(">QQ")
_WORD, _PROPERTY = struct.Struct(">I"), struct.Struct(">III")
_VERSION = 17
_COMPATIBLE_VERSION = 16
_BEGIN_NODE, _END_NODE, _PROP, _NOP, _END = 1, 2, 3, 4, 9
_SIZE_MAX = 16 * MIB
_DEPTH_MAX = 64
_NODES_MAX, _PROPERTIES_MAX = 1 << 15, 1 << 17
"""Ten times as many as boards have."""
_NAME_MAX, _PATH_MAX = 128, 1024
"""The specification allows names of 31 characters; those of labels, in /__symbols__, are longer."""
_CELLS_MAX = 4


class DeviceTree:
    """A device tree that can be changed. Paths name nodes, as in "/chosen"."""

    def __init__(self, data: bytes, where: str) -> None:
        """Read a blob; `where` names it in errors. Raises DeviceTreeError when it is damaged."""
        self._where = where
        reader = _Reader(data, where)
        self._root, self._reservations, self.boot_cpu = reader.root, reader.reservations, reader.boot_cpu

    @classmethod
    def from_folder(cls, root: Root, folder: str) -> "DeviceTree":
        """The tree the kernel shows unpacked, as in /proc/device-tree. Raises MachineError."""
        self = cls.__new__(cls)
        self._where, self.boot_cpu, self._reservations = f"/{folder}", 0, []
        self._root = _read_folder(root, folder)
        return self

    def get(self, path: str, name: str) -> bytes | None:
        """A property's bytes, or None where the node or the property is missing."""
        node = self._node(path)
        return None if node is None else node.get(name)

    def set(self, path: str, name: str, value: bytes) -> None:
        """Set a property; a node that is missing is made."""
        self._make(path).put(name, value)

    def update(self, path: str, properties: Mapping[str, bytes | bytearray]) -> None:
        """Set properties of one node; a node that is missing is made, also for none."""
        node = self._make(path)
        for name, value in properties.items():
            node.put(name, value)

    def has(self, path: str) -> bool:
        """Whether there is that node."""
        return self._node(path) is not None

    def remove(self, path: str, name: str) -> None:
        """Take a property away, if it is there."""
        node = self._node(path)
        if node is not None:
            node.take_away(name)

    def unreserve(self, part: Range) -> None:
        """Take away the memory reservations that begin where `part` (physical) does and lie in it."""
        self._reservations = [
            each for each in self._reservations if each.start != part.start or not part.covers(each)
        ]

    def nodes(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Every node's path and properties."""
        stack = [("", self._root)]
        while stack:
            path, node = stack.pop()
            yield path or "/", {each.name: bytes(each.data) for each in node.props}
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
        header = fdt.Header()
        header.version, header.last_comp_version = _VERSION, _COMPATIBLE_VERSION
        reservations = [(each.start, each.size) for each in self._reservations]
        reserved = b"".join(_RESERVE_ENTRY.pack(*each) for each in (*reservations, (0, 0)))
        structure, strings = _flattened(self._root)
        header.boot_cpuid_phys = self.boot_cpu
        header.off_mem_rsvmap = header.size
        header.off_dt_struct = header.size + len(reserved)
        header.off_dt_strings = header.off_dt_struct + len(structure)
        header.size_dt_struct, header.size_dt_strings = len(structure), len(strings)
        header.total_size = header.off_dt_strings + len(strings)
        return b"".join((header.export(), reserved, structure, strings))

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

    def _node(self, path: str) -> "_Node | None":
        node: _Node | None = self._root
        for name in filter(None, path.split("/")):
            node = None if node is None else node.below.get(name)
        return node

    def _make(self, path: str) -> "_Node":
        node = self._root
        for name in filter(None, path.split("/")):
            node = node.below.get(name) or _Node(name, node)
        return node


class _Node(fdt.Node):  # type: ignore[misc]
    """A node that finds what is in it by name at once, the first of several with one name."""

    def __init__(self, name: str, parent: "_Node | None") -> None:
        super().__init__(name)
        self.below: dict[str, _Node] = {}
        self._by_name: dict[str, fdt.PropBytes] = {}
        if parent is not None:
            self.set_parent(parent)
            parent.nodes.append(self)
            parent.below.setdefault(name, self)

    def get(self, name: str) -> bytes | None:
        found = self._by_name.get(name)
        return None if found is None else bytes(found.data)

    def add(self, name: str, value: bytes | bytearray) -> None:
        made = fdt.PropBytes(name, data=value)
        made.set_parent(self)
        self.props.append(made)
        self._by_name.setdefault(name, made)

    def put(self, name: str, value: bytes | bytearray) -> None:
        if name in self._by_name:
            self._by_name[name].data = bytearray(value)
        else:
            self.add(name, value)

    def take_away(self, name: str) -> None:
        found = self._by_name.pop(name, None)
        if found is not None:
            self.props[:] = [each for each in self.props if each is not found]
            twin = next((each for each in self.props if each.name == name), None)
            if twin is not None:
                self._by_name[name] = twin


def _flattened(root: _Node) -> tuple[bytes, bytes]:
    """The structure block and the strings block."""
    structure, strings = bytearray(), bytearray()
    places: dict[str, int] = {}
    stack: list[_Node | None] = [root]  # None: a node ends
    while stack:
        node = stack.pop()
        if node is None:
            structure += _WORD.pack(_END_NODE)
            continue
        name = b"" if node is root else node.name.encode("ascii")
        structure += _WORD.pack(_BEGIN_NODE) + _padded(name + b"\0")
        for each in node.props:
            if each.name not in places:
                places[each.name] = len(strings)
                strings += each.name.encode("ascii") + b"\0"
            structure += _PROPERTY.pack(_PROP, len(each.data), places[each.name]) + _padded(each.data)
        stack += [None, *reversed(node.nodes)]
    return bytes(structure + _WORD.pack(_END)), bytes(strings)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _read_folder(root: Root, top: str) -> _Node:
    """The node that a folder shows; links to folders, of which the kernel makes none, are left out."""
    limits = _Limits(f"/{top}")
    made = _Node("/", None)
    stack = [(made, top, 0)]
    while stack:
        node, folder, depth = stack.pop()
        for name, is_folder in root.entries(folder):
            path = f"{folder}/{name}"
            if not _is_name(name):
                raise DeviceTreeError(f"/{path}: no name of a node or property: {name[:32]!r}")
            if is_folder:
                limits.node(len(path) - len(top), depth + 1)
                stack.append((_Node(name, node), path, depth + 1))
            elif name != "name" and (value := read(root, path)) is not None:  # which the kernel makes up
                limits.property()
                node.add(name, value)
    return made


class _Limits:
    """Counts what a tree is made of. Raises DeviceTreeError where no board's tree has so much."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._nodes = self._properties = 0

    def node(self, path_length: int, depth: int) -> None:
        self._nodes += 1
        if depth > _DEPTH_MAX or path_length > _PATH_MAX or self._nodes > _NODES_MAX:
            raise DeviceTreeError(
                f"{self._where}: damaged device tree: more than {_NODES_MAX} nodes, nodes nested more than"
                f" {_DEPTH_MAX} deep, or a path of more than {_PATH_MAX} characters"
            )

    def property(self) -> None:
        self._properties += 1
        if self._properties > _PROPERTIES_MAX:
            raise DeviceTreeError(
                f"{self._where}: damaged device tree: more than {_PROPERTIES_MAX} properties"
            )


class _Reader:
    """Walks the structure block once, with every offset checked before it is used."""

    root: _Node
    reservations: list[Range]
    boot_cpu: int
    """Its physical ID."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where
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
            self.boot_cpu,
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
        self.reservations = list(self._reservations(reserve_at, total))
        self.root = self._root()

    def _block(self, start: int, size: int, total: int, what: str) -> bytes:
        if start < _HEADER.size or start + size > total:
            raise self._damaged(f"the {what} block at {start:#x} of {size:#x} bytes is outside of it")
        return self._data[start : start + size]

    def _reservations(self, position: int, total: int) -> Iterator[Range]:
        while position + _RESERVE_ENTRY.size <= total:
            address, size = _RESERVE_ENTRY.unpack_from(self._data, position)
            if not address and not size:
                return
            yield Range.sized(address, size)
            position += _RESERVE_ENTRY.size
        raise self._damaged("its memory reservations do not end")

    def _root(self) -> _Node:
        position = 0
        limits = _Limits(self._where)
        open_nodes: list[_Node] = []
        lengths = [0]  # of their paths
        root: _Node | None = None
        while True:
            tag = self._word(position)
            position += 4
            if tag == _BEGIN_NODE:
                name, position = self._node_name(position)
                if open_nodes and "/" in name:  # which would pass for a path
                    raise self._damaged(f"a node's name with a slash: {name[:32]!r}")
                node = _Node(name or "/", open_nodes[-1] if open_nodes else None)
                if root is None:
                    root = node
                elif not open_nodes:
                    raise self._damaged("more than one root node")
                open_nodes.append(node)
                lengths.append(lengths[-1] + len(name) + 1)
                limits.node(lengths[-1], len(open_nodes))
            elif tag == _PROP and open_nodes:
                position = self._property(open_nodes[-1], position)
                limits.property()
            elif tag == _END_NODE and open_nodes:
                open_nodes.pop()
                lengths.pop()
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
        end = self._struct.find(b"\0", position, position + _NAME_MAX)
        if end < 0:
            raise self._damaged("a node's name does not end")
        return self._text(self._struct[position:end]), (end + 4) & ~3

    def _property(self, node: fdt.Node, position: int) -> int:
        size, name_at = self._word(position), self._word(position + 4)
        start = position + 8
        end = self._strings.find(b"\0", name_at, name_at + _NAME_MAX)
        if start + size > len(self._struct) or name_at >= len(self._strings) or end < 0:
            raise self._damaged(f"the property at {position - 4:#x} of the structure block is damaged")
        name = self._text(self._strings[name_at:end])
        value = self._struct[start : start + size]
        node.add(name, value)
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
