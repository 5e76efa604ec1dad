"""A map from address ranges that may overlap to places in a file."""

import bisect
import heapq
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple


class Piece(NamedTuple):
    """The addresses from `start` to `end` (exclusive) are at `target` and after it."""

    start: int
    end: int
    target: int


class Pieces:
    """Finds the place of an address; where ranges overlap, the last of them holds.

    Kept in arrays, 24 bytes a piece: a dump may have millions.
    """

    def __init__(self, starts: Sequence[int], ends: Sequence[int], targets: Sequence[int]) -> None:
        """Build the map from three sequences of one length: numbers below 2^64, no start above its end."""
        self._starts, self._ends, self._targets = array("Q"), array("Q"), array("Q")
        for start, end, which in _flatten(starts, ends):
            self._starts.append(start)
            self._ends.append(end)
            self._targets.append(targets[which] + start - starts[which])

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def end(self) -> int:
        """The end of the last piece; 0 where there is none."""
        return self._ends[-1] if self._ends else 0

    def at(self, address: int) -> Piece | None:
        """Return the piece that holds the address; None where none does."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._ends[index]:
            return None
        return Piece(self._starts[index], self._ends[index], self._targets[index])

    def next_start(self, address: int) -> int | None:
        """Return where the first piece above the address starts; None where there is none."""
        index = bisect.bisect_right(self._starts, address)
        return self._starts[index] if index < len(self._starts) else None

    def read(self, address: int, size: int, read_at: Callable[[int, int], bytes]) -> Iterator[bytes | int]:
        """Yield the contents piece by piece: bytes (fewer where the file ends), or the length of a gap."""
        end = address + size
        while address < end:
            piece = self.at(address)
            if piece is None:
                following = self.next_start(address)
                stop = end if following is None else min(following, end)
                yield stop - address
            else:
                stop = min(piece.end, end)
                yield read_at(piece.target + address - piece.start, stop - address)
            address = stop

    def __iter__(self) -> Iterator[Piece]:
        return map(Piece, self._starts, self._ends, self._targets)


def _flatten(starts: Sequence[int], ends: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, index of the range) without overlaps, ascending."""
    order = sorted(range(len(starts)), key=starts.__getitem__)
    waiting, position = 0, 0
    alive: list[int] = []  # a heap of negated indices: the last range is on top
    while waiting < len(order) or alive:
        if not alive:
            position = max(position, starts[order[waiting]])
        while waiting < len(order) and starts[order[waiting]] <= position:
            heapq.heappush(alive, -order[waiting])
            waiting += 1
        top = -alive[0]
        if ends[top] <= position:
            heapq.heappop(alive)
            continue
        # Only the start of a later range can cut this one short.
        stop = ends[top]
        if waiting < len(order):
            stop = min(stop, starts[order[waiting]])
        yield position, stop, top
        position = stop
