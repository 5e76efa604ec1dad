"""An estimate of a dump's size, and whether there is room for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pykexec.kdump import makedumpfile
from pykexec.kdump.config.settings import Settings
from pykexec.kdump.makedumpfile import CACHE, FREE, PRIVATE_CACHE, USER_DATA, Fit
from pykexec.memory import KIB, MIB

_LEFT_OUT = {FREE: "MemFree", PRIVATE_CACHE: "Buffers", CACHE: "Cached", USER_DATA: "AnonPages"}
"""The fields of /proc/meminfo that count, roughly, the pages a bit of makedumpfile's -d leaves out."""


@dataclass(frozen=True, slots=True)
class Room:
    """The room on a target, in bytes."""

    free: int
    wanted: int
    """What a dump may take, before compression, and what shall stay free."""

    @property
    def is_enough(self) -> bool:
        return self.free >= self.wanted

    def __str__(self) -> str:
        return f"{self.free // MIB}M free, a dump may take {self.wanted // MIB}M"


def expected_size(settings: Settings, meminfo: str, fit: Fit) -> int | None:
    """Return roughly the bytes of a dump: all of memory minus what makedumpfile's filters leave out.

    `fit` says which filters work. None where /proc/meminfo does not say how much memory there is.
    """
    sizes = {name: int(kib) * KIB for name, kib in re.findall(r"^(\w+): +(\d{1,15}) kB$", meminfo, re.M)}
    total = sizes.get("MemTotal")
    if total is None:
        return None
    if not settings.save_dump:
        return 0
    level = fit.filters(makedumpfile.safe(settings.collector, fit).dump_level or 0)
    left_out = sum(sizes.get(name, 0) for bit, name in _LEFT_OUT.items() if level & bit)
    return max(total - left_out, sizes.get("Slab", 0))
