"""How large a dump will be."""

from __future__ import annotations

import re

from pykexec.kdump.config.settings import Settings
from pykexec.memory import KIB

_FILTERS = 1 | 2 | 4 | 8 | 16  # makedumpfile(8), -d


def expected_size(settings: Settings, meminfo: str) -> int | None:
    """Bytes of a dump, about: all of memory, or what makedumpfile's filters leave of it."""
    sizes = {name: int(kib) * KIB for name, kib in re.findall(r"^(\w+): +(\d{1,15}) kB$", meminfo, re.M)}
    total = sizes.get("MemTotal")
    if total is None:
        return None
    level = settings.collector.dump_level
    if not settings.save_dump:
        return 0
    if level is None or level & _FILTERS != _FILTERS:
        return total
    left_out = ("MemFree", "Buffers", "Cached", "AnonPages")
    return max(total - sum(sizes.get(name, 0) for name in left_out), sizes.get("Slab", 0))
