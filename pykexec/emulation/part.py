"""The part of an architecture that says how QEMU makes its machines (arch/<name>/emulation.py)."""

from __future__ import annotations

from dataclasses import dataclass

from pykexec import arch
from pykexec.emulation.errors import EmulationError


@dataclass(frozen=True, slots=True)
class Packages:
    """What distributions call the package of a program or file."""

    debian: str
    fedora: str
    suse: str


@dataclass(frozen=True, slots=True)
class Firmware:
    """Firmware that is a package of its own."""

    paths: tuple[str, ...]
    """Where distributions have it; the first that exists counts."""
    packages: Packages


@dataclass(frozen=True, slots=True)
class Kvm:
    """How machines run on a processor of the host's, and not on an emulated one."""

    hosts: tuple[str, ...]
    """The architectures of hosts that can do that."""
    machine: tuple[str, ...]
    """QEMU options that make the machine then."""


@dataclass(frozen=True, slots=True)
class Emulation:
    """What QEMU has to be told for an architecture's machines, and their kernels for QEMU."""

    command: str
    """The program that emulates it."""
    packages: Packages
    """Those of the program."""
    machine: tuple[str, ...]
    """QEMU options that make the machine, without memory, processors and devices."""
    console: str
    """The serial console's name in a kernel command line."""
    ram_start: int
    """The physical address at which the machine's memory begins."""
    early_console: str = ""
    """What makes a kernel write as soon as it runs, in its command line."""
    serial: tuple[str, ...] = ("-serial", "chardev:console")
    """QEMU options that put the console, chardev `console`, where the kernel expects it."""
    virtio: tuple[str, str] = ("pci", "virtio_pci")
    """How the names of QEMU's virtio devices end, and the kernel's module for their bus."""
    parameters: str = ""
    """What its kernels need in their command lines where the host is busy."""
    firmware: Firmware | None = None
    """What its machines start with, where that is not QEMU's own."""
    kvm: Kvm | None = None
    """How they run on the host's processor; None: there is no such way."""
    parallel: bool = False
    """Whether emulated processors must run side by side: with one thread for all they wait for ever, or
    keep the one that runs from most of that thread's time."""
    translations: int = 96
    """The MiB that QEMU has for translated code.

    When there is no room for more, all of it is thrown away. In the room that QEMU takes by default what the
    first kernel left behind stays, and slows the second one down, which writes to those pages: arm64's boots
    took twice as long.
    """

    def software(self, *, parallel: bool = False) -> str:
        """Return the value of -accel for emulated processors, which run side by side if that is wanted.

        Otherwise all share a thread. With one each, QEMU 7.2 was seen to run text that the kernel had just
        patched as it was before (an int3 that nobody expected: a panic), or to die itself; and two machines
        at a time are no faster on two processors.
        """
        threads = "multi" if parallel or self.parallel else "single"
        return f"tcg,thread={threads},tb-size={self.translations}"


def find(name: str) -> Emulation:
    """Return how machines of that architecture are emulated. Raises EmulationError."""
    unknown: Emulation | None = None
    found = arch.part_of(name, "emulation", unknown)
    if found is None:
        raise EmulationError(f"it is not known how QEMU emulates machines of {name}")
    return found
