"""The part of an architecture that reading dumps uses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pykexec import arch, names
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

ReadEntry = Callable[[int], int]
"""Returns the table entry at a physical address. Raises DumpError when it is not in the dump."""


class Place(NamedTuple):
    """A physical address, and how many bytes are mapped in one piece from there."""

    physical: int
    size: int


class Tables(Protocol):
    """The kernel's own page tables."""

    @property
    def entry_size(self) -> int:
        """The bytes of an entry."""

    def translate(self, virtual: int, read_entry: ReadEntry) -> Place | None:
        """Return where a virtual address is; None where nothing is mapped. Raises DumpError."""


@dataclass(frozen=True, slots=True)
class Registers:
    """The registers of a struct elf_prstatus (arch/*/include/asm/elf.h), a long each."""

    names: str
    """In the note's order, separated by blanks."""
    pc: str
    """The name of the program counter."""
    sp: str
    """The name of the stack pointer."""


@dataclass(frozen=True, slots=True)
class VmcorePart:
    """The properties of an architecture's dumps (arch/<name>/vmcore.py). None: not known."""

    registers: Registers | None = None
    image: Callable[[VmcoreInfo, int], Place | None] | None = None
    """Returns where an address of the kernel's own image is, by VMCOREINFO alone."""
    is_image_bounded: bool = True
    """Whether `image` returns None after the image's end. If not, it is asked last."""
    linear_start: Callable[[VmcoreInfo], int | None] | None = None
    """Returns the first address of the linear map where VMCOREINFO has no PAGE_OFFSET."""
    linear_end: int | None = None
    """The address from which on nothing is in the linear map, for linear maps that begin where memory does.
    The physical address of that is not in their VMCOREINFO."""
    counts_from_memory: bool = False
    """Whether makedumpfile gives the first page of memory the number 0 (makedumpfile.h, ARCH_PFN_OFFSET)."""
    tables: Callable[[VmcoreInfo, int], Tables | None] | None = None
    """Returns the page tables whose root is at that physical address; None where VMCOREINFO is too short."""
    needed_lines: tuple[str, ...] | None = None
    """The lines that makedumpfile and crash need from VMCOREINFO on this architecture only."""
    unreadable_by_makedumpfile: Callable[[VmcoreInfo], str | None] | None = None
    """Returns another reason in VMCOREINFO why makedumpfile cannot read a dump; None if there is none."""
    unreadable_by_crash: Callable[[VmcoreInfo], str | None] | None = None
    """Returns another reason in VMCOREINFO why crash cannot read a dump; None if there is none."""
    char_is_signed: bool | None = None
    """Whether C's char is signed in programs."""
    marks_incomplete: bool | None = None
    """Whether e_flags is used only by makedumpfile, to mark incomplete dumps."""


UNKNOWN = VmcorePart()


def part_of(name: str) -> VmcorePart:
    """Return the facts about dumps of that architecture, or of its sibling of the other byte order.

    `name` may also be an unknown machine's name from a dump.
    """
    found = (arch.part_of(row.name, "vmcore", UNKNOWN) for row in names.of_either_order(name))
    return next((each for each in found if each is not UNKNOWN), UNKNOWN)
