"""Flattened device trees as containers: read in place, without a copy of what is in them.

`pykexec.devicetree` is for trees that describe machines and are changed; it keeps copies, and refuses the
tens of MiB that a FIT image with a kernel and an initrd has. The layout is that of the Devicetree
Specification, chapter 5.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from pykexec.errors import ImageError
from pykexec.formats import magic
from pykexec.memory import KIB

_HEADER = struct.Struct(">10I")
_VERSION, _COMPATIBLE_VERSION = 17, 16
_BEGIN_NODE, _END_NODE, _PROP, _NOP, _END = 1, 2, 3, 4, 9
_DEPTH_MAX = 16
_TAGS_MAX = 1 << 16
_NAME_MAX = 256
_TEXT_MAX = 64 * KIB
"""Longer than any command line or list of machines."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node; property values are views of the blob."""

    path: str
    """The file's."""
    properties: Mapping[str, memoryview]
    children: Mapping[str, "Node"]

    def text(self, name: str) -> str | None:
        """The first string of a property, None without it. Raises ImageError for a very long one."""
        value = self._text(name)
        return None if value is None else value.partition("\0")[0]

    def texts(self, name: str) -> list[str]:
        """All strings of a property. Raises ImageError when they are very long."""
        return [each for each in (self._text(name) or "").split("\0") if each]

    def _text(self, name: str) -> str | None:
        value = self.properties.get(name)
        if value is None:
            return None
        if value.nbytes > _TEXT_MAX:
            raise ImageError(f"{self.path}: damaged: {value.nbytes} bytes of text in a property {name}")
        return bytes(value).decode("utf-8", "surrogateescape")

    def number(self, name: str) -> int | None:
        """A property of 32 bits, None where there is none."""
        value = self.properties.get(name)
        return int.from_bytes(value) if value is not None and value.nbytes == 4 else None


def matches(data: memoryview) -> bool:
    """Whether this begins like a flattened device tree."""
    return bytes(data[:4]) == magic.DEVICE_TREE


def total_size(path: str, data: memoryview) -> int:
    """The blob's own size in bytes; a file may go on behind it. Raises ImageError when it is cut off."""
    if not matches(data) or data.nbytes < _HEADER.size:
        raise ImageError(f"{path}: no flattened device tree, or one cut off within its header")
    total = int.from_bytes(data[4:8])
    if not _HEADER.size <= total <= data.nbytes:
        raise ImageError(f"{path}: truncated: its header says {total} bytes, the file has {data.nbytes}")
    return total


def parse(path: str, data: memoryview) -> Node:
    """The root node. Raises ImageError when the blob is damaged."""
    return _Reader(path, data).root()


def is_overlay(path: str, data: memoryview) -> bool:
    """Whether this is no tree, but changes to one. Raises ImageError when the blob is damaged."""
    return any("__overlay__" in each.children for each in parse(path, data).children.values())


class _Reader:
    def __init__(self, path: str, data: memoryview) -> None:
        self._path = path
        total = total_size(path, data)
        _, _, at, strings_at, _, version, compatible, _, strings_size, size = _HEADER.unpack_from(data)
        if compatible > _VERSION or version < _COMPATIBLE_VERSION:
            raise self._damaged(f"version {version}, compatible with {compatible}; 16 and 17 are known")
        if version < _VERSION:
            size = total - at
        if at < _HEADER.size or at + size > total or strings_at + strings_size > total:
            raise self._damaged("a block lies outside of it")
        self._struct = data[at : at + size]
        self._strings = data[strings_at : strings_at + strings_size]

    def root(self) -> Node:
        position = 0
        above: list[tuple[dict[str, memoryview], dict[str, Node], str]] = []
        for _ in range(_TAGS_MAX):
            tag = self._word(position)
            position += 4
            if tag == _BEGIN_NODE and len(above) < _DEPTH_MAX:
                name = self._name(self._struct, position)
                position = (position + len(name) + 4) & ~3
                above.append(({}, {}, name))
            elif tag == _PROP and above:
                name, value, position = self._property(position)
                above[-1][0][name] = value
            elif tag == _END_NODE and above:
                properties, children, name = above.pop()
                if not above:
                    return Node(self._path, properties, children)
                above[-1][1][name] = Node(self._path, properties, children)
            elif tag != _NOP:
                raise self._damaged(f"tag {tag:#x} at {position - 4:#x} of the structure is out of place")
        raise self._damaged(f"more than {_TAGS_MAX} nodes and properties")

    def _word(self, position: int) -> int:
        if position + 4 > self._struct.nbytes:
            raise self._damaged("its structure does not end")
        return int.from_bytes(self._struct[position : position + 4])

    def _property(self, position: int) -> tuple[str, memoryview, int]:
        size, name_at = self._word(position), self._word(position + 4)
        start = position + 8
        if start + size > self._struct.nbytes:
            raise self._damaged(f"the property at {position - 4:#x} of the structure is cut off")
        return (
            self._name(self._strings, name_at),
            self._struct[start : start + size],
            (start + size + 3) & ~3,
        )

    def _name(self, block: memoryview, at: int) -> str:
        name, nul, _ = bytes(block[at : at + _NAME_MAX]).partition(b"\0")
        if not nul or not name.isascii():
            raise self._damaged(f"no name at {at:#x}")
        return name.decode()

    def _damaged(self, what: str) -> ImageError:
        return ImageError(f"{self._path}: damaged flattened tree: {what}")
