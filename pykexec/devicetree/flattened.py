"""Device trees as blobs (Devicetree Specification, chapter 5): the one reader, and the one writer.

The reader checks every offset before it uses it. It copies no value: what it returns are parts of what it is
given. The `fdt` library's own reader is not used: it knows no NOP tags, which the running kernel leaves in
/sys/firmware/fdt, and trusts every offset. Of its writer the header is used. What it makes of nodes takes
quadratic time, and lacks properties with some names.
"""

from __future__ import annotations

import struct

from pykexec.devicetree.node import Limits, Node, is_name
from pykexec.errors import DeviceTreeError, PykexecError
from pykexec.formats.magic import DEVICE_TREE
from pykexec.memory import Range
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_HEADER = struct.Struct(">10I")
_RESERVATION = struct.Struct(">QQ")
_WORD, _SIZE_AND_NAME = struct.Struct(">I"), struct.Struct(">II")
_VERSION, _COMPATIBLE_VERSION = 17, 16
_BEGIN_NODE, _END_NODE, _PROPERTY, _NOP, _END = 1, 2, 3, 4, 9
_TAGS_MAX = 1 << 19
"""More than twice what so many nodes and properties take; others are NOPs."""
_RESERVATIONS_MAX = 1 << 12
_NAME_MAX = 128
"""The specification allows names of 31 characters; those of labels, in /__symbols__, are longer."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob's contents."""

    root: Node
    reservations: tuple[Range, ...]
    """Physical memory that the kernel must leave alone."""
    boot_cpu: int
    """Its physical ID."""
    size: int
    """In bytes; the file may go on behind it."""


def matches(data: bytes | memoryview) -> bool:
    """Return whether this begins like a blob."""
    return bytes(data[: len(DEVICE_TREE)]) == DEVICE_TREE


def read(
    data: bytes | memoryview,
    where: str,
    *,
    error: type[PykexecError] = DeviceTreeError,
    size_max: int | None = None,
) -> Blob:
    """Read a blob; values are slices of `data`. `where` names it in errors.

    Raises `error` when it is damaged, has more than `size_max` bytes, or more in it than any board's tree.
    """
    return _Reader(data, where, error).blob(size_max)


class _Reader:
    """Walks the structure block once."""

    def __init__(self, data: bytes | memoryview, where: str, error: type[PykexecError]) -> None:
        self._data, self._where, self._error = data, where, error
        self._names: dict[int, str] = {}  # of properties, by where they stand in the strings block

    def blob(self, size_max: int | None) -> Blob:
        start = bytes(self._data[: len(DEVICE_TREE)])
        if len(self._data) < _HEADER.size and DEVICE_TREE.startswith(start):
            raise self._damaged("no device tree, or one cut off within its header")
        if start != DEVICE_TREE:
            raise self._damaged("no device tree (magic d00dfeed)")
        _, total, struct_at, strings_at, reserved_at, *rest = _HEADER.unpack_from(self._data)
        version, compatible, boot_cpu, strings_size, size = rest
        self._require_known(total, version, compatible, size_max)
        if version < _VERSION:
            size = max(total - struct_at, 0)  # no field says where in the rest it ends
        elif max(struct_at, strings_at) < min(struct_at + size, strings_at + strings_size):
            raise self._damaged("its structure block and its strings block overlap")
        self._struct = self._block("structure", struct_at, size, total)
        self._strings = self._block("strings", strings_at, strings_size, total)
        reservations = tuple(self._reservations(reserved_at, total))
        try:
            root = self._root()
        except struct.error:
            raise self._damaged("its structure block is truncated") from None
        return Blob(root, reservations, boot_cpu, total)

    def _require_known(self, total: int, version: int, compatible: int, size_max: int | None) -> None:
        if total > len(self._data):
            raise self._damaged(f"truncated: its header says {total} bytes, the file has {len(self._data)}")
        if total < _HEADER.size:
            raise self._damaged(f"its header says {total} bytes, and takes {_HEADER.size} itself")
        if size_max is not None and total > size_max:
            raise self._damaged(f"{total} bytes; {size_max} at most are read")
        if compatible > _VERSION or version < _COMPATIBLE_VERSION:
            raise self._damaged(f"version {version}, compatible with {compatible}; 16 and 17 are known")

    def _block(self, what: str, start: int, size: int, total: int) -> bytes | memoryview:
        if start < _HEADER.size or start + size > total:
            raise self._damaged(f"the {what} block at {start:#x} of {size:#x} bytes is outside of it")
        return self._data[start : start + size]

    def _reservations(self, position: int, total: int) -> Iterator[Range]:
        for at in range(position, total - _RESERVATION.size + 1, _RESERVATION.size)[:_RESERVATIONS_MAX]:
            address, size = _RESERVATION.unpack_from(self._data, at)
            if not address and not size:
                return
            yield Range.sized(address, size)
        raise self._damaged("its memory reservations do not end")

    def _root(self) -> Node:
        """Return the root node. Raises struct.error where the structure block ends within."""
        limits = Limits(self._where, self._error)
        top = Node("")
        above, path_lengths = [top], [0]
        position = 0
        for _ in range(_TAGS_MAX):
            (tag,) = _WORD.unpack_from(self._struct, position)
            position += _WORD.size
            if tag == _PROPERTY and len(above) > 1:
                limits.count_property()
                position = self._read_property(above[-1], position)
            elif tag == _BEGIN_NODE:
                node, position = self._begin(above, position)
                above.append(node)
                path_lengths.append(path_lengths[-1] + len(node.name) + 1)
                limits.count_node(path_lengths[-1], len(above) - 1)
            elif tag == _END_NODE and len(above) > 1:
                above.pop()
                path_lengths.pop()
            elif tag == _END and len(above) == 1 and top.children:
                return top.children[0]
            elif tag != _NOP:
                at = position - _WORD.size
                raise self._damaged(f"tag {tag:#x} at {at:#x} of the structure block is out of place")
        raise self._damaged(f"more than {_TAGS_MAX} tags in its structure block")

    def _begin(self, above: Sequence[Node], position: int) -> tuple[Node, int]:
        name = self._name(self._struct, position)
        if name is None:
            raise self._damaged("a node's name does not end")
        if len(above) > 1 and "/" in name:  # which would pass for a path
            raise self._damaged(f"a node's name with a slash: {name[:32]!r}")
        if len(above) == 1 and above[0].children:
            raise self._damaged("more than one root node")
        node = Node(name)
        above[-1].add(node)
        return node, _aligned(position + len(name) + 1)

    def _read_property(self, node: Node, position: int) -> int:
        """Return where the next tag is. Of properties with one name the first counts, as in the kernel
        (drivers/of/base.c __of_find_property())."""
        size, name_at = _SIZE_AND_NAME.unpack_from(self._struct, position)
        start = position + _SIZE_AND_NAME.size
        name = self._names.get(name_at) or self._name(self._strings, name_at)
        if start + size > len(self._struct) or name is None:
            at = position - _WORD.size
            raise self._damaged(f"the property at {at:#x} of the structure block is damaged")
        self._names[name_at] = name
        node.properties.setdefault(name, self._struct[start : start + size])
        return _aligned(start + size)

    def _name(self, block: bytes | memoryview, at: int) -> str | None:
        """Return None for a name that does not end."""
        data, nul, _ = bytes(block[at : at + _NAME_MAX]).partition(b"\0")
        if not nul:
            return None
        name = data.decode("latin-1")
        if not is_name(name):
            raise self._damaged(f"a name with unprintable characters: {data[:32]!r}")
        return name

    def _damaged(self, what: str) -> PykexecError:
        return self._error(f"{self._where}: damaged device tree: {what}")


def write(root: Node, reservations: Iterable[Range], boot_cpu: int, spare: int = 0) -> bytes:
    """Return a blob of version 17, in time linear in the tree, that ends with so many unused bytes."""
    from fdt import Header  # not for those that only read

    header = Header()
    header.version, header.last_comp_version = _VERSION, _COMPATIBLE_VERSION
    ranges = [*((each.start, each.size) for each in reservations), (0, 0)]
    reserved = b"".join(_RESERVATION.pack(*each) for each in ranges)
    structure, strings = _blocks(root)
    header.boot_cpuid_phys = boot_cpu
    header.off_mem_rsvmap = header.size
    header.off_dt_struct = header.off_mem_rsvmap + len(reserved)
    header.off_dt_strings = header.off_dt_struct + len(structure)
    header.size_dt_struct, header.size_dt_strings = len(structure), len(strings)
    header.total_size = header.off_dt_strings + len(strings) + spare
    return b"".join((header.export(), reserved, structure, strings, bytes(spare)))


def _blocks(root: Node) -> tuple[bytes, bytes]:
    """Return the structure block and the strings block."""
    structure, strings = bytearray(), bytearray()
    places: dict[str, int] = {}
    stack: list[Node | None] = [root]  # None: a node ends
    while stack:
        node = stack.pop()
        if node is None:
            structure += _WORD.pack(_END_NODE)
            continue
        name = b"" if node is root else node.name.encode("ascii")
        structure += _WORD.pack(_BEGIN_NODE) + _padded(name + b"\0")
        for key, value in node.properties.items():
            if key not in places:
                places[key] = len(strings)
                strings += key.encode("ascii") + b"\0"
            structure += _WORD.pack(_PROPERTY) + _SIZE_AND_NAME.pack(len(value), places[key])
            structure += _padded(value)
        stack += [None, *reversed(node.children)]
    return bytes(structure + _WORD.pack(_END)), bytes(strings)


def _aligned(position: int) -> int:
    """Return where the next tag is."""
    return (position + 3) & ~3


def _padded(data: bytes | memoryview) -> bytes:
    return bytes(data) + bytes(-len(data) % 4)
