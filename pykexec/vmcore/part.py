"""What reading dumps asks of an architecture."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pykexec import arch, names
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

ReadEntry = Callable[[int], int]
"""Returns the 64-bit table entry at a physical address. Raises DumpError when it is not in the dump."""


class Place(NamedTuple):
    """A physical address, and how many bytes from there are mapped in one piece."""

    physical: int
    size: int


class Tables(Protocol):
    """The kernel's own page tables."""

    def translate(self, virtual: int, read_entry: ReadEntry) -> Place | None:
        """Return where a virtual address is; None where nothing is mapped. Raises DumpError."""


@dataclass(frozen=True, slots=True)
class Registers:
    """The registers of a struct elf_prstatus (arch/*/include/asm/elf.h), a long each."""

    names: str
    """In the note's order, a blank between two."""
    pc: str
    """Which of them is the program counter."""
    sp: str
    """Which of them is the stack pointer."""


@dataclass(frozen=True, slots=True)
class VmcorePart:
    """What an architecture's dumps are like (arch/<name>/vmcore.py). None: that is not known."""

    registers: Registers | None = None
    image: Callable[[VmcoreInfo, int], Place | None] | None = None
    """Returns where an address of the kernel's own image is, by VMCOREINFO alone."""
    is_image_bounded: bool = True
    """Whether `image` returns None behind the image's end. If not, it is asked last."""
    linear_start: Callable[[VmcoreInfo], int | None] | None = None
    """Returns the first address of the linear map where VMCOREINFO has no PAGE_OFFSET."""
    tables: Callable[[VmcoreInfo, int], Tables | None] | None = None
    """Returns the page tables whose root is at that physical address; None where VMCOREINFO is too short."""
    needed_lines: tuple[str, ...] | None = None
    """What makedumpfile and crash take from VMCOREINFO on this architecture alone."""
    keeps_crash: Callable[[VmcoreInfo], str | None] | None = None
    """Returns what else in VMCOREINFO keeps crash from reading a dump."""
    char_is_signed: bool | None = None
    """Whether C's char is, in programs."""
    marks_incomplete: bool | None = None
    """Whether e_flags means nothing but what makedumpfile marks incomplete dumps with."""


UNKNOWN = VmcorePart()


def part_of(name: str) -> VmcorePart:
    """Return what is known of dumps of that architecture, or of its sibling of the other byte order.

    `name` may be what an unknown machine's dump says.
    """
    found = (arch.part_of(row.name, "vmcore", UNKNOWN) for row in names.of_either_order(name))
    return next((each for each in found if each is not UNKNOWN), UNKNOWN)
