"""The one node type of device trees, and the limits on what is made of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.errors import PykexecError

_DEPTH_MAX = 64
_NODES_MAX, _PROPERTIES_MAX = 1 << 15, 1 << 17
"""Ten times as many as boards have."""
_PATH_MAX = 1024


class Node:
    """A node: its properties by name, and the nodes below it.

    Some of those may have the same name (Open Firmware's do): `by_name` has the first.
    """

    __slots__ = ("by_name", "children", "name", "properties")

    def __init__(self, name: str) -> None:
        self.name = name
        self.properties: dict[str, bytes | memoryview] = {}
        self.children: list[Node] = []
        self.by_name: dict[str, Node] = {}

    def add(self, child: Node) -> None:
        """Put a node below this one, behind those that are there."""
        self.children.append(child)
        self.by_name.setdefault(child.name, child)


class Limits:
    """Counts what a tree is made of. Raises an error where no board's tree has so much."""

    def __init__(self, where: str, error: type[PykexecError]) -> None:
        self._where, self._error = where, error
        self._nodes = self._properties = 0

    def count_node(self, path_length: int, depth: int) -> None:
        """Count a node by the length of its path in characters, and its depth, which is 1 for the root."""
        self._nodes += 1
        if depth > _DEPTH_MAX or path_length > _PATH_MAX or self._nodes > _NODES_MAX:
            raise self._error(
                f"{self._where}: damaged device tree: more than {_NODES_MAX} nodes, nodes nested more than"
                f" {_DEPTH_MAX} deep, or a path of more than {_PATH_MAX} characters"
            )

    def count_property(self) -> None:
        """Count a property."""
        self._properties += 1
        if self._properties > _PROPERTIES_MAX:
            raise self._error(f"{self._where}: damaged device tree: more than {_PROPERTIES_MAX} properties")


def is_name(text: str) -> bool:
    """Return whether a node or a property may be called so."""
    return text.isascii() and text.isprintable() and " " not in text
