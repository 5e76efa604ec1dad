"""The QEMU lab: real Debian kernels in emulated machines, for the demonstration (tools/run) and the tests.

Needs nothing but the standard library; packages, kernels and images are fetched and built on first use and
kept in the ignored folder .cache.
"""

from .arches import ARCHES, Arch
from .arches.arm64 import ARCH as ARM64
from .arches.x86_64 import ARCH as X86_64
from .host import LabError
from .kernels import Kernel
from .machine import Guest, Machine
from .qemu import PANIC, Result, Running, Stage, run

__all__ = [
    "ARCHES",
    "ARM64",
    "PANIC",
    "X86_64",
    "Arch",
    "Guest",
    "Kernel",
    "LabError",
    "Machine",
    "Result",
    "Running",
    "Stage",
    "run",
]
