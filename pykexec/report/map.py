"""A picture of a plan in a terminal: memory as bars, low addresses first."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from operator import attrgetter

from pykexec.errors import printable
from pykexec.memory import size_text
from pykexec.report.picture import ELLIPSIS, Role, boundaries, cut, magnitude
from pykexec.terminal import WIDTH, folded
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pykexec.report.picture import Block, Column, Picture

_BAR, _SIZE, _NAME_MAX = 8, 10, 20
"""Columns, of a bar, of a size, and of a name at most."""
_ROWS_MAX = 6


@dataclass(frozen=True, slots=True)
class Style:
    """How bars are drawn."""

    fills: Mapping[Role, str]
    """One row of a bar for each role; different ones beside each other."""
    edges: tuple[str, str, str, str, str]
    """Of boxes: the top, a row's left and right side, where two boxes meet, and the bottom."""
    colours: Mapping[Role, int]
    """Of the foreground, where there are some (ISO 6429, Select Graphic Rendition)."""
    end: str
    """What stands at the end of a name that is cut."""

    def bar(self, role: Role) -> str:
        """Return one row of a bar."""
        fill, colour = self.fills[role], self.colours.get(role)
        return fill if colour is None else f"\033[{colour}m{fill}\033[0m"


_FILLS = {
    Role.SEGMENT: "█" * _BAR,
    Role.FREE: " " * _BAR,
    Role.RESERVATION: "▓" * _BAR,
    Role.KERNEL: "▚" * _BAR,
    Role.RAM: "▒" * _BAR,
    Role.FIRMWARE: "░" * _BAR,
    Role.HOLE: "⋮".center(_BAR),
    Role.UNTOLD: " " * _BAR,
}
_EDGES = (f"┌{'─' * _BAR}┐", "│", "│", f"├{'─' * _BAR}┤", f"└{'─' * _BAR}┘")
_ASCII = dict(zip("█▓▚▒░⋮─│┌┐├┤└┘…", "#@%=.:-|++++++.", strict=True))
_COLOURS = {Role.SEGMENT: 36, Role.RESERVATION: 34, Role.KERNEL: 35, Role.RAM: 32, Role.FIRMWARE: 33}


def style(encoding: str = "utf-8", *, colour: bool = False) -> Style:
    """Return how to draw in that encoding, which may lack blocks and lines."""
    colours = _COLOURS if colour else {}
    try:
        "".join(_ASCII).encode(encoding)
    except UnicodeEncodeError:
        table = str.maketrans(_ASCII)
        fills = {role: fill.translate(table) for role, fill in _FILLS.items()}
        top, left, right, middle, bottom = (each.translate(table) for each in _EDGES)
        return Style(fills, (top, left, right, middle, bottom), colours, _ASCII[ELLIPSIS])
    return Style(_FILLS, _EDGES, colours, ELLIPSIS)


def as_map(picture: Picture, columns: int = WIDTH, how: Style | None = None) -> str:
    """Return the picture as lines of that width."""
    how = how or style()
    heads = (f"{picture.title}: {picture.summary}", *map(printable, picture.facts))
    lines = [line for head in heads for line in folded(head, columns, indent="    ")]
    for sides in _groups(picture, columns):
        lines += ("", *_side_by_side(sides, columns, how))
    for column in picture.loaded:
        lines += ("", *_boxes(column, columns, how))
    return "\n".join(line.rstrip(" ") for line in lines) + "\n"


def _rows(size: int) -> int:
    """Return the rows of a bar: one up to 1 MiB, and one more each time it is 16 times as large."""
    return min((magnitude(size) + 3) // 4 - 1, _ROWS_MAX) if magnitude(size) > 8 else 1


def _groups(picture: Picture, columns: int) -> list[list[Column]]:
    """Return the running kernel's memory and the loaded one's, together where they fit beside each other."""
    sides = picture.sides
    is_wide = max(len(side.title) for side in sides) < _cell_width(sides, columns)
    return [sides] if is_wide else [[side] for side in sides]


def _cell_width(sides: Sequence[Column], columns: int) -> int:
    room = columns - 2 - len(_address(boundaries(sides)[-1])) - 2 - _SIZE - 2
    return max(room // len(sides), _BAR + 2)


def _side_by_side(sides: Sequence[Column], columns: int, how: Style) -> Iterator[str]:
    """Yield columns beside each other, at the same addresses."""
    addresses = boundaries(sides)
    width = len(_address(addresses[-1]))
    cell = _cell_width(sides, columns)
    titles = "".join(f"{cut(side.title, cell, how.end):<{cell}}" for side in sides)
    yield f"  {'from':<{width}}  {'size':>{_SIZE}}  {titles}"
    for start, end in pairwise(addresses):
        blocks = [_block_at(side, start) for side in sides]
        is_empty = all(block is None or block.is_empty for block in blocks)
        head = f"  {_address(start):<{width}}  {size_text(end - start):>{_SIZE}}  "
        yield head + "".join(_cell(block, start, cell, how) for block in blocks)
        more = "".join(_cell(block, None, cell, how) for block in blocks)
        yield from [" " * len(head) + more] * (0 if is_empty else _rows(end - start) - 1)


def _block_at(column: Column, address: int) -> Block | None:
    index = bisect_right(column.blocks, address, key=attrgetter("range.start")) - 1
    found = column.blocks[index] if index >= 0 else None
    return found if found is not None and address in found.range else None


def _cell(block: Block | None, start: int | None, width: int, how: Style) -> str:
    """Return one row of a block, with its name where it begins at `start`."""
    if block is None:
        return " " * width
    name = cut(block.name, width - _BAR - 2, how.end) if block.range.start == start else ""
    return f"{how.bar(block.role)} {name:<{width - _BAR - 1}}"


def _boxes(column: Column, columns: int, how: Style) -> Iterator[str]:
    """Yield one column as boxes, with names, sizes and reasons at their right."""
    top, left, right, middle, bottom = how.edges
    yield from folded(f"{column.title}: {column.range}, {size_text(column.range.size)}", columns)
    width = len(_address(column.range.end))
    names = max(len(cut(block.name, _NAME_MAX, how.end)) for block in column.blocks)
    edge = top
    for block in column.blocks:
        yield f"  {_address(block.range.start):<{width}} {edge}"
        edge = middle
        label = _label(block, cut(block.name, names, how.end), names, columns - width - _BAR - 7)
        rows = max(_rows(block.range.size), len(label))
        for beside in (*label, *[""] * (rows - len(label))):
            yield f"  {'':<{width}} {left}{how.bar(block.role)}{right}  {beside}"
    yield f"  {_address(column.range.end):<{width}} {bottom}"


def _label(block: Block, name: str, names: int, columns: int) -> list[str]:
    start = f"{name:<{names}}  {size_text(block.range.size):>{_SIZE}}"
    why = printable(block.why) + ("" if block.entry is None else f" (entered at {block.entry:#x})")
    indent = len(start) + 2
    if not why:
        return [start]
    if columns - indent < columns // 3:
        return [start, *folded(why, columns)]
    first, *others = folded(why, columns - indent)
    return [f"{start}  {first}", *(" " * indent + each for each in others)]


def _address(address: int) -> str:
    return f"{address:08x}"
