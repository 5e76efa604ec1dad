"""A picture of a plan as SVG 1.1: one file that needs no other, for a browser, a document or a slide.

In the middle is what is loaded, on the left the running kernel's memory, on the right the loaded kernel's;
these two have their addresses in common. Low addresses are at the top.
"""

from __future__ import annotations

import textwrap
from bisect import bisect_right
from itertools import pairwise

from pykexec.errors import printable
from pykexec.memory import size_text
from pykexec.report.picture import Role, boundaries, cut, magnitude
from pykexec.values import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pykexec.report.picture import Block, Column, Picture

_WIDTH = 1280
_MARGIN = 28
_TOP = 144
_GAP = 40
"""Between two places in the middle column: room for a title."""
_SIDE, _MIDDLE = 190, 430
_LEFT_X, _MIDDLE_X, _RIGHT_X = 120, 442, 970
_STRETCH_MAX = 1.8
_LINE = 16
"""From one line of a text to the next."""
_SPLIT = 2
"""Between blocks, which stay apart without lines around them."""
_NEARLY = 16
"""A segment is said to end with zeros where they take more than this part of it, not at a page's rest."""
_CHARACTERS = {_SIDE: 27, _MIDDLE: 62}
"""The characters that fit into a column, by its width: at 12 px one takes 7 px on average, or less."""

_STYLE = """
text { font: 12px system-ui, "DejaVu Sans", Verdana, sans-serif; fill: #1b1f24; }
.title { font-size: 22px; font-weight: 600; }
.heading { font-size: 13px; font-weight: 600; }
.name { font-weight: 600; }
.quiet { fill: #57606a; }
.address { font: 11px ui-monospace, "DejaVu Sans Mono", Menlo, monospace; fill: #57606a; }
.right { text-anchor: end; }
.paper { fill: #ffffff; }
.zoom { fill: #0969da; fill-opacity: 0.08; }
.segment { fill: #b6d9ff; }
.segment.odd { fill: #bfe6e6; }
.loaded { fill: #0969da; }
.odd.loaded { fill: #17808a; }
.free { fill: #f3f5f7; stroke: #c4cbd3; stroke-dasharray: 4 3; }
.reservation { fill: #8ec1fb; }
.kernel { fill: #d9c2f5; }
.ram { fill: #d3ecd9; }
.firmware { fill: #f9dfa8; }
.hole, .untold { fill: none; stroke: #d0d7de; stroke-dasharray: 2 4; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .quiet, .address { fill: #b1bac4; }
  .paper { fill: #0d1117; }
  .zoom { fill: #58a6ff; fill-opacity: 0.12; }
  .segment { fill: #124078; }
  .segment.odd { fill: #0d4a52; }
  .loaded { fill: #58a6ff; }
  .odd.loaded { fill: #39c5cf; }
  .free { fill: #161b22; stroke: #3d444d; }
  .reservation { fill: #1b5396; }
  .kernel { fill: #4e3380; }
  .ram { fill: #1c4428; }
  .firmware { fill: #5c4309; }
  .hole, .untold { stroke: #3d444d; }
}
"""


@dataclass(frozen=True, slots=True)
class Box:
    """A block's place in the picture, in user units; y grows downwards."""

    block: Block
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Scale:
    """Where addresses are from top to bottom."""

    addresses: tuple[int, ...]
    places: tuple[float, ...]

    def place(self, address: int) -> float:
        """Return the place of an address; one between two that have a place is between these."""
        index = min(max(bisect_right(self.addresses, address) - 1, 0), len(self.addresses) - 2)
        start, end = self.addresses[index : index + 2]
        top, bottom = self.places[index : index + 2]
        part = min(max((address - start) / (end - start), 0.0), 1.0)
        return top + (bottom - top) * part

    def stretched(self, bottom: float) -> Scale:
        """Return the scale that ends there, if it now ends higher up."""
        top = self.places[0]
        factor = max((bottom - top) / (self.places[-1] - top), 1)
        return Scale(self.addresses, tuple(top + (each - top) * factor for each in self.places))

    def moved(self, down: float) -> Scale:
        """Return the scale in another place."""
        return Scale(self.addresses, tuple(each + down for each in self.places))


def as_svg(picture: Picture) -> str:
    """Return the picture as an XML document."""
    sides = picture.sides
    scale, middles = _side_scale(sides), _middle(picture.loaded)
    scale = scale.stretched(min(_bottom(middles), _TOP + (scale.places[-1] - _TOP) * _STRETCH_MAX))
    bottom = max(scale.places[-1], _bottom(middles))
    scale = scale.moved((bottom - scale.places[-1]) / 2)
    lower = (bottom - _bottom(middles)) / 2
    middles = [[replace(box, y=box.y + lower) for box in boxes] for boxes in middles]
    description = (*picture.facts, *(_sentence(block) for each in picture.loaded for block in each.blocks))
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 56:.0f}" width="{_WIDTH}"'
        f' height="{bottom + 56:.0f}" role="img" aria-labelledby="title description">',
        f'<title id="title">{_escaped(f"{picture.title}: {picture.summary}")}</title>',
        f'<desc id="description">{_escaped("; ".join(description))}</desc>',
        f"<style>{_STYLE}</style>",
        '<rect class="paper" width="100%" height="100%"/>',
        *_head(picture),
        *_zooms(picture, scale, middles),
    ]
    for side, x in zip(sides, (_LEFT_X, _RIGHT_X), strict=False):
        lines.append(_text(x, scale.places[0] - 12, side.title, "heading"))
        lines += _side(_boxes(side, scale, x), is_left=x == _LEFT_X)
    for column, boxes in zip(picture.loaded, middles, strict=True):
        lines += _loaded(column, boxes)
    lines.append(_text(_MARGIN, bottom + 40, _FOOT, "quiet"))
    return "\n".join((*lines, "</svg>", ""))


_FOOT = "Low addresses are at the top. Heights grow with the logarithm of sizes; what is empty is cut short."


def _head(picture: Picture) -> Iterator[str]:
    yield _text(_MARGIN, 40, picture.title, "title")
    yield _text(_MARGIN, 62, picture.summary)
    for y, fact in zip((80, 97), picture.facts, strict=False):
        yield _text(_MARGIN, y, cut(fact, 170), "quiet")


def _bottom(middles: Sequence[Sequence[Box]]) -> float:
    return max(boxes[-1].y + boxes[-1].height + _SPLIT for boxes in middles)


def _side_scale(sides: Sequence[Column]) -> Scale:
    """Return the scale of the outer columns, which have their addresses in common."""
    addresses = boundaries(sides)
    places = [float(_TOP)]
    for start, end in pairwise(addresses):
        places.append(places[-1] + _height(end - start, is_empty=_is_empty(sides, start)))
    return Scale(tuple(addresses), tuple(places))


def _is_empty(sides: Sequence[Column], address: int) -> bool:
    return all(block.is_empty for side in sides for block in side.blocks if address in block.range)


def _height(size: int, *, is_empty: bool) -> float:
    return 22 if is_empty else 20 + 2.5 * max(magnitude(size) - 8, 0)


def _boxes(column: Column, scale: Scale, x: float) -> list[Box]:
    return [
        Box(each, x, top, _SIDE, scale.place(each.range.end) - top - _SPLIT)
        for each in column.blocks
        for top in (scale.place(each.range.start),)
    ]


def _middle(columns: Sequence[Column]) -> list[list[Box]]:
    """Return the boxes of what is loaded, place after place."""
    result, top = [], float(_TOP)
    for column in columns:
        boxes = []
        for block in column.blocks:
            text = 14 + _LINE * (1 + len(_reason(block)))
            height = max(6 + 5.5 * magnitude(block.range.size), text)
            boxes.append(Box(block, _MIDDLE_X, top, _MIDDLE, height - _SPLIT))
            top += height
        result.append(boxes)
        top += _GAP
    return result


def _reason(block: Block) -> list[str]:
    """Return the lines below a segment's name."""
    if block.role is not Role.SEGMENT:
        return []
    facts = []
    if block.loaded * _NEARLY < block.range.size * (_NEARLY - 1):
        facts.append(f"{size_text(block.loaded)} loaded, then zeros" if block.loaded else "nothing loaded")
    if block.entry is not None:
        facts.append(f"entered at {block.entry:#x}")
    lines = [printable(block.why), "; ".join(facts)]
    return [line for text in lines for line in textwrap.wrap(text, _CHARACTERS[_MIDDLE])]


def _zooms(picture: Picture, scale: Scale, middles: Sequence[Sequence[Box]]) -> Iterator[str]:
    """Yield what joins each place in the middle with the same addresses at both sides."""
    for column, boxes in zip(picture.loaded, middles, strict=True):
        top, bottom = boxes[0].y, boxes[-1].y + boxes[-1].height
        near, far = scale.place(column.range.start), scale.place(column.range.end) - _SPLIT
        yield _polygon(
            (_LEFT_X + _SIDE, near), (_MIDDLE_X, top), (_MIDDLE_X, bottom), (_LEFT_X + _SIDE, far)
        )
        if picture.told is not None:
            right = _MIDDLE_X + _MIDDLE
            yield _polygon((_RIGHT_X, near), (right, top), (right, bottom), (_RIGHT_X, far))


def _side(boxes: Sequence[Box], *, is_left: bool) -> Iterator[str]:
    x = _LEFT_X - 8 if is_left else _RIGHT_X + _SIDE + 8
    yield from _addresses(boxes, x, "address right" if is_left else "address")
    for box in boxes:
        block = box.block
        yield f"<g><title>{_escaped(_sentence(block))}</title>"
        yield _rectangle(box, block.role.value)
        if block.name:
            size = size_text(block.range.size)
            y = box.y + box.height / 2 + 4
            yield _text(box.x + 10, y, cut(block.name, _CHARACTERS[_SIDE] - len(size) - 1))
            yield _text(box.x + box.width - 8, y, size, "quiet right")
        yield "</g>"


def _addresses(boxes: Sequence[Box], x: float, kind: str) -> Iterator[str]:
    """Yield the address at which each box begins, and the one behind the last."""
    for box in boxes:
        yield _text(x, box.y + 9, f"{box.block.range.start:08x}", kind)
    last = boxes[-1]
    yield _text(x, last.y + last.height + 11, f"{last.block.range.end:08x}", kind)


def _loaded(column: Column, boxes: Sequence[Box]) -> Iterator[str]:
    title = f"{column.title}: {column.range}, {size_text(column.range.size)}"
    yield _text(_MIDDLE_X, boxes[0].y - 12, title, "heading")
    yield from _addresses(boxes, _MIDDLE_X - 8, "address right")
    segments = 0
    for box in boxes:
        block, kind = box.block, box.block.role.value
        if block.role is Role.SEGMENT:
            segments += 1
            kind += " odd" * (segments % 2)
        yield f"<g><title>{_escaped(_sentence(block))}</title>"
        yield _rectangle(box, kind)
        if block.loaded:
            height = box.height * min(block.loaded / block.range.size, 1)
            yield _rectangle(Box(block, box.x, box.y, 6, max(height, 1)), f"{kind} loaded")
        size = size_text(block.range.size)
        y = box.y + 20
        yield _text(box.x + 16, y, cut(block.name, _CHARACTERS[_MIDDLE] - len(size) - 4), "name")
        yield _text(box.x + box.width - 10, y, size, "quiet right")
        for line in _reason(block):
            y += _LINE
            yield _text(box.x + 16, y, line)
        yield "</g>"


def _sentence(block: Block) -> str:
    """Return all that there is to say of a block."""
    said = f"{block.name or 'nothing'} at {block.range}, {size_text(block.range.size)}"
    return f"{said}: {block.why}" if block.why else said


def _rectangle(box: Box, kind: str) -> str:
    return (
        f'<rect class="{kind}" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}"'
        f' height="{box.height:.1f}" rx="3"/>'
    )


def _polygon(*corners: tuple[float, float]) -> str:
    return f'<polygon class="zoom" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}"/>'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{_escaped(text)}</text>'


_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def _escaped(text: str) -> str:
    """Return a text as an element's content."""
    return printable(text).translate(_ESCAPES)
