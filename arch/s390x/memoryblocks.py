"""Blocks of memory: those that are offline are in /proc/iomem, but cannot be used."""

import re

from pykexec.machine import Machine
from pykexec.machine.sysfs import read_number, read_text
from pykexec.memory import Range, RangeSet

_FOLDER = "sys/devices/system/memory"
_BLOCK = re.compile(r"memory([0-9]{1,16})")


def offline(machine: Machine) -> RangeSet:
    """Return the memory (physical) that is not online; none where the kernel has no CONFIG_MEMORY_HOTPLUG.

    Raises MachineError.
    """
    size = read_number(machine.root, f"{_FOLDER}/block_size_bytes", 16)
    if not size:
        return RangeSet()
    found = (_BLOCK.fullmatch(name) for name in machine.root.names(_FOLDER))
    return RangeSet(
        Range.sized(int(block[1]) * size, size)
        for block in found
        if block and read_text(machine.root, f"{_FOLDER}/{block[0]}/state") != "online"
    )
