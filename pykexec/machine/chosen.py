"""What the running kernel adds to /chosen of its unpacked device tree (arch/powerpc/kexec/core.c)."""

from pykexec.errors import MachineError
from pykexec.machine import sysfs
from pykexec.machine.root import Root
from pykexec.memory import Range

_CHOSEN = "proc/device-tree/chosen"
_SIZES = (4, 8)
"""The bytes of a phys_addr_t, which these properties have, big-endian."""


def crash_region(root: Root, size_now: int | None) -> Range | None:
    """Return the memory that crashkernel= reserved (physical); None where the tree tells of none.

    `size_now` is its size in bytes as /sys tells it, if it does: the tree keeps the size it had at first.
    Raises MachineError for properties that are no addresses.
    """
    base, size = (_number(root, f"{_CHOSEN}/linux,crashkernel-{name}") for name in ("base", "size"))
    if base is None or size is None:
        return None
    region = Range.sized(base, size if size_now is None else min(size, size_now))
    return region or None


def _number(root: Root, path: str) -> int | None:
    data = sysfs.read(root, path)
    if data is None:
        return None
    if len(data) not in _SIZES:
        raise MachineError(f"/{path} is {data[:16].hex()}, not an address of 4 or 8 bytes")
    return int.from_bytes(data)
