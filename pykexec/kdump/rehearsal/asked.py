"""What is to be rehearsed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pykexec.emulation import Accelerator


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What is rehearsed, and on what machine."""

    arch: str
    kernel: Path
    """The first kernel: the one that crashes."""
    release: str
    """Its release; its modules are below `root`."""
    capture_kernel: Path
    image: Path
    """The capture image."""
    command_line: str
    """The capture kernel's."""
    crashkernel: str
    """The value of the first kernel's crashkernel=."""
    memory: int
    """The machine's, in bytes."""
    cpus: int = 1
    arguments: tuple[str, ...] = ()
    """Further options of pykexec for the load (KEXEC_ARGS)."""
    parameters: str = ""
    """What else the first kernel has in its command line."""
    root: Path = Path("/")
    """Where that machine's /lib/modules is."""
    controllers: tuple[str, ...] = ()
    """The modules that drive the target's disk on that machine; the image's where that is not known."""
    uuid: str = ""
    """The target's UUID, where that is known; else it is the one that the image looks for."""
    room: int | None = None
    """The bytes that are free on the target; None: enough for all of memory."""
    accelerated: Accelerator | None = None
    """How the processors are made; None: by KVM, where that works."""
    seconds: float = 900.0
    """How long a boot and a crash may take."""
