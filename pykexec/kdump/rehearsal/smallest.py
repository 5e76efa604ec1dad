"""The smallest reservation that a dump comes of, found by trying."""

from __future__ import annotations

from collections.abc import Callable

from pykexec.memory import MIB, align_down, align_up

STEP = 16 * MIB
"""Sizes are tried in multiples of this."""


def smallest(works: Callable[[int], bool], top: int, bottom: int) -> int | None:
    """Return the smallest multiple of `STEP` up to `top` that works; None where not even `top` does.

    It is taken for granted that more memory does no harm, and that less than `bottom` bytes do not work:
    then it is asked as often as halving takes.
    """
    high = align_down(top, STEP)
    if not works(high):
        return None
    low = min(align_up(bottom, STEP), high) - STEP
    while high - low > STEP:
        middle = align_down((low + high) // 2, STEP)
        if works(middle):
            high = middle
        else:
            low = middle
    return high
