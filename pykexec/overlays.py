"""Device tree overlays: changes to a tree, with references that are resolved in it.

The format: Documentation/devicetree/dynamic-resolution-notes.rst and overlay-notes.rst. An overlay's
fragments each name a node, and what becomes of it (`__overlay__`); `__fixups__` lists where the phandles of
the tree's labels go (`__symbols__` has their paths), `__local_fixups__` where its own phandles are used.
"""

from collections.abc import Iterator

from pykexec.devicetree import DeviceTree
from pykexec.errors import DeviceTreeError

_Nodes = dict[str, dict[str, bytearray]]
"""Paths to properties, which are changed in place: a copy for each reference would take quadratic time."""
_PHANDLES = ("phandle", "linux,phandle")
_NO_PHANDLE = 0xFFFFFFFF
_CELL = 4
_FIXUPS, _LOCAL_FIXUPS = "/__fixups__", "/__local_fixups__"
_SYMBOLS, _OVERLAY = "/__symbols__", "/__overlay__"


def apply(tree: DeviceTree, overlay: DeviceTree, where: str) -> None:
    """Change `tree` as `overlay` has it; `where` names that in errors.

    Raises DeviceTreeError where it is damaged, or refers to what the tree does not have, which may then be
    changed in part.
    """
    nodes: _Nodes = {
        path: {name: bytearray(value) for name, value in properties.items()}
        for path, properties in overlay.nodes()
    }
    _shift_phandles(nodes, max(_by_phandle(tree), default=0), where)
    _resolve(nodes, tree, where)
    targets = dict(_targets(nodes, tree, where))
    if not targets:
        raise DeviceTreeError(f"{where}: no device tree overlay: it has no fragment with {_OVERLAY[1:]}")
    for path, properties in nodes.items():
        if (place := _place(path, targets)) is not None:
            tree.update(place, properties)
    for label, value in nodes.get(_SYMBOLS, {}).items():
        place = _place(_text(value), targets)
        if place is not None:
            tree.set(_SYMBOLS, label, place.encode("latin-1") + b"\0")


def _shift_phandles(nodes: _Nodes, by: int, where: str) -> None:
    """Those the overlay defines must not be those the tree has."""
    for path, properties in list(nodes.items()):
        for name in _PHANDLES:
            if name in properties:
                _add(properties, name, 0, by, where)
        if path.startswith(f"{_LOCAL_FIXUPS}/"):
            users = nodes.get(path.removeprefix(_LOCAL_FIXUPS), {})
            for name, offsets in properties.items():
                for at in range(0, len(offsets) - _CELL + 1, _CELL):
                    _add(users, name, int.from_bytes(offsets[at : at + _CELL]), by, where)


def _resolve(nodes: _Nodes, tree: DeviceTree, where: str) -> None:
    for label, uses in nodes.get(_FIXUPS, {}).items():
        symbol = tree.get(_SYMBOLS, label)
        phandle = None if symbol is None else tree.get(_text(symbol), "phandle")
        if phandle is None or len(phandle) != _CELL:
            raise DeviceTreeError(
                f"{where}: it refers to {label}, which the device tree does not have in {_SYMBOLS}",
                hint="trees that overlays are for are compiled with dtc -@",
            )
        for use in filter(None, uses.decode("latin-1").split("\0")):
            path, _, rest = use.partition(":")
            name, _, offset = rest.partition(":")
            users = nodes.get(path, {})
            at = int(offset) if offset.isascii() and offset.isdigit() and len(offset) < 10 else -1
            _replace(users, name, at, int.from_bytes(phandle), where)


def _targets(nodes: _Nodes, tree: DeviceTree, where: str) -> Iterator[tuple[str, str]]:
    """The paths of the fragments' contents, and of the nodes that they change."""
    paths = _by_phandle(tree)
    for path in nodes:
        if not path.endswith(_OVERLAY) or path.count("/") != 2:
            continue
        fragment = nodes[path.removesuffix(_OVERLAY)]
        target = fragment.get("target")
        name = _text(fragment.get("target-path", bytearray()))
        place = paths.get(int.from_bytes(target)) if target is not None else name
        if not place or (target is None and not tree.has(place)):
            raise DeviceTreeError(
                f"{where}: {path.removesuffix(_OVERLAY)} is for {name or 'a node'}, which the tree has not"
            )
        yield path, place


def _place(path: str, targets: dict[str, str]) -> str | None:
    """Where in the tree it goes; None for what does not."""
    root = "/".join(path.split("/", 3)[:3])
    return None if root not in targets else (targets[root].rstrip("/") + path.removeprefix(root)) or "/"


def _by_phandle(tree: DeviceTree) -> dict[int, str]:
    found = {}
    for path, properties in tree.nodes():
        for name in _PHANDLES:
            value = int.from_bytes(properties.get(name, b""))
            if 0 < value < _NO_PHANDLE:
                found[value] = path
    return found


def _add(properties: dict[str, bytearray], name: str, at: int, number: int, where: str) -> None:
    value = properties.get(name, bytearray())[max(at, 0) : max(at, 0) + _CELL]
    _replace(properties, name, at, int.from_bytes(value) + number, where)


def _replace(properties: dict[str, bytearray], name: str, at: int, number: int, where: str) -> None:
    value = properties.get(name, bytearray())
    if not 0 <= at <= len(value) - _CELL or number >= _NO_PHANDLE:
        raise DeviceTreeError(f"{where}: damaged device tree overlay: no reference at {at} of {name}")
    value[at : at + _CELL] = number.to_bytes(_CELL)


def _text(value: bytes | bytearray) -> str:
    return value.partition(b"\0")[0].decode("latin-1")
