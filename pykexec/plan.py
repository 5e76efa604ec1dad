"""What is asked for (`Request`) and what shall be done (`LoadPlan`): plain values, no I/O."""

from __future__ import annotations

import os

from pykexec import log
from pykexec.errors import PlacementError, UsageError
from pykexec.files import FileData
from pykexec.memory import Placement, Range, RangeSet, TypedRange, align_up, find_hole
from pykexec.purpose import Purpose
from pykexec.uapi import KEXEC_ON_CRASH, KEXEC_SEGMENT_MAX
from pykexec.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pykexec.initramfs import Addition
    from pykexec.options import Option

__all__ = [
    "ADDRESS_SPACE",
    "KEXEC_ON_CRASH",
    "KEXEC_SEGMENT_MAX",
    "SEED_SIZE",
    "SPECIAL",
    "Console",
    "FileLoadPlan",
    "Layout",
    "LoadPlan",
    "Module",
    "Purpose",
    "Request",
    "Segment",
    "Special",
]

ADDRESS_SPACE = Range(0, 1 << 64)

SEED_SIZE = 64
"""Bytes of randomness a request may carry."""


@dataclass(frozen=True, slots=True)
class Module:
    """A file for a Multiboot kernel, and the text that comes with it (its name and arguments)."""

    data: FileData
    text: str


_BAUD_MAX = 115200  # of a 16550, whose divisor has 16 bits


@dataclass(frozen=True, slots=True)
class Console:
    """What --serial, --serial-baud, --console-serial and --console-vga say of purgatory's messages."""

    port: str | None = None
    """A terminal's name or an I/O port as a hexadecimal number; None: the new kernel's serial console."""
    baud: int | None = None
    """None: the speed is left as it is."""
    vga: bool = False
    """To the VGA text screen as well."""
    serial: bool = False
    """To a serial port, also where the new kernel has no console on one."""

    def __post_init__(self) -> None:
        if self.baud is not None and not 2 <= self.baud <= _BAUD_MAX:
            raise UsageError(f"a serial console has no {self.baud} baud, but {_BAUD_MAX} at most")


_NOT_NAMED = FileData("", memoryview(b""))


@dataclass(frozen=True, slots=True)
class Request:
    """A kernel to load, and how. Addresses are physical, and of 64 bits.

    Raises UsageError for others, and for fields that contradict each other.

    What is to be looked for, taken out of something, or put together, `resolve.resolve` does first; the
    architectures' loaders see a kernel and at most one initrd.
    """

    kernel: FileData = _NOT_NAMED
    """A kernel, or something with a kernel in it; empty where `entry_id` or `reuse_kernel` says which."""
    purpose: Purpose = Purpose.BOOT
    initrd: FileData | None = None
    """Instead of the one that comes with the kernel, if one does (--initrd)."""
    initrds: tuple[FileData, ...] = ()
    """Further ones, behind `initrd` or what comes with the kernel (--add-initrd)."""
    additions: tuple[Addition, ...] = ()
    """Files to put into the initramfs (--initrd-file)."""
    entry_id: str | None = None
    """A boot loader's entry, by its ID, title or version, or "default" (--entry-id)."""
    reuse_kernel: bool = False
    """The running kernel's own file and initrd (--reuse-kernel)."""
    profile: str | None = None
    """Of a unified kernel image a profile, of a FIT image a configuration (--profile); None: its default."""
    device_tree: FileData | None = None
    """Instead of the running kernel's (--dtb)."""
    append: str | None = None
    """The command line, or with `reuse_command_line` what is added to it. Without both the kernel gets the
    one that comes with it, if one does."""
    reuse_command_line: bool = False
    """Start from the running kernel's command line, less what belongs to this boot only."""
    within: Range = ADDRESS_SPACE
    """No segment may lie outside (--mem-min, --mem-max)."""
    entry: int | None = None
    """Physical address to enter instead of purgatory's (--entry)."""
    skip_checks: bool = False
    """Purgatory starts the kernel without comparing digests (-i)."""
    seed: bytes | None = None
    """Fresh random bytes (`SEED_SIZE`) for the new kernel's generator; None gives it none. An input like any
    other, so that planning stays a pure function."""
    format: str | None = None
    """Take the kernel for this format and no other (--type); the names are the architecture's."""
    entry_32bit: bool = False
    """Enter a bzImage through its 32-bit entry (--entry-32bit)."""
    real_mode: bool = False
    """Enter a bzImage through its 16-bit entry (--real-mode)."""
    modules: tuple[Module, ...] = ()
    """For a Multiboot kernel (--module)."""
    hotplug: bool = False
    """Let the running kernel rewrite the core headers when CPUs or memory come and go (--hotplug)."""
    hand_over_efi: bool = True
    """Tell the new kernel of EFI's tables and services (without --noefi)."""
    preserve_context: bool = False
    """Lend the new kernel the memory in `within`, from where it can come back (--load-preserve-context)."""
    jump_back: int | None = None
    """Load no kernel, but the way back to the one that waits at this physical address
    (--load-jump-back-helper)."""
    core_header_bits: int | None = None
    """Of a crash kernel's core headers, where the architecture leaves a choice (--elf64-core-headers)."""
    memmap_parameters: bool = False
    """A crash kernel finds its memory map on its command line too (--pass-memmap-cmdline)."""
    console: Console = Console()
    """Where purgatory writes its messages."""
    debug: bool = False
    """Let the running kernel log how it loads (kexec_file_load only)."""
    no_cma: bool = False
    """Let the running kernel not put segments into CMA memory (kexec_file_load; kexec_load never does)."""
    force_dtb: bool = False
    """Let the running kernel hand its device tree on where it does not do so by itself (kexec_file_load)."""
    container: str = ""
    """What the kernel was taken out of ("EFI zboot, gzip"), as `resolve.resolve` leaves it."""
    taken: tuple[str, ...] = ()
    """What came from where, for people, as `resolve.resolve` leaves it."""
    warnings: tuple[str, ...] = ()
    """What may be wrong with that."""

    def asks(self, option: Option) -> bool:
        """Return whether what that option sets is not as it is without it."""
        mine: object = self
        default: object = _DEFAULTS
        for name in option.request.split("."):
            mine, default = getattr(mine, name), getattr(default, name)
        return mine != default

    @property
    def files(self) -> tuple[FileData, ...]:
        """All that is to be loaded, as far as it has been looked for."""
        named = (self.kernel, self.initrd, *self.initrds, self.device_tree)
        return (*(each for each in named if each is not None), *(each.data for each in self.modules))

    def __post_init__(self) -> None:
        if not ADDRESS_SPACE.covers(self.within) or (self.entry or 0) not in ADDRESS_SPACE:
            raise UsageError("addresses to load to, and to enter at, have 64 bits")
        if self.purpose is Purpose.CRASH and (self.preserve_context or self.jump_back is not None):
            raise UsageError("from a crash there is no way back")

    @classmethod
    def from_paths(
        cls,
        kernel: str | os.PathLike[str] | None,
        *,
        initrd: str | os.PathLike[str] | None = None,
        device_tree: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> Request:
        """A request for files on disk; `settings` are the other fields.

        Raises FileError where a file cannot be read.
        """
        if kernel is not None:
            settings["kernel"] = FileData.open(kernel, "kernel")
        return cls(
            initrd=None if initrd is None else FileData.open(initrd, "initrd"),
            device_tree=None if device_tree is None else FileData.open(device_tree, "device tree"),
            **settings,
        )


_DEFAULTS = Request()


@dataclass(frozen=True, slots=True)
class Special:
    """What is said of an option that only some architectures can honour, where it cannot be."""

    refusal: str = "{option} is for x86; this machine is {arch}"
    """{option} stands for its name, {arch} for the machine's architecture."""
    hint: str | None = None


SPECIAL: Mapping[str, Special] = {
    "entry_32bit": Special(),
    "real_mode": Special(),
    "modules": Special(),
    "hand_over_efi": Special(),
    "memmap_parameters": Special(),
    "console_vga": Special(),
    "preserve_context": Special(),
    "jump_back": Special(),
    "console_baud": Special(),
    "device_tree": Special(
        "{option}: a device tree is for architectures that boot with one, which {arch} does not"
    ),
    "force_dtb": Special(
        "{option}: on {arch} only kexec_file_load hands the running kernel's device tree on",
        "leave out -c and what needs it",
    ),
}
"""By the names that `Arch.honours` and the rows of `options` have for them."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes for a place in physical memory, and why that place."""

    name: str
    address: int
    """Physical, page-aligned."""
    memsz: int
    """Bytes of memory it takes, whole pages; what is beyond `data` is zero."""
    data: memoryview = field(repr=False)
    why: str

    @property
    def range(self) -> Range:
        """The physical memory it takes."""
        return Range.sized(self.address, self.memsz)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """All that kexec_load(2) needs, and all a reader wants to know about it."""

    arch: str
    purpose: Purpose
    image: str
    """Path of the kernel."""
    image_format: str
    initrd: str | None
    command_line: str
    entry: int
    """Physical address at which the running kernel jumps."""
    flags: int
    """kexec_load's flags: KEXEC_ON_CRASH and the architecture in the high half."""
    segments: tuple[Segment, ...]
    """In ascending order of address."""
    memory_map: tuple[TypedRange, ...] = ()
    """What the loaded kernel is told about memory (physical)."""
    warnings: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    """What kexec_file_load(2) would hand on to the new kernel and this does not, where `warnings` do not say
    it: "IMA's list of measurements"."""
    tried_first: str | None = None
    """The system call that is tried before this plan is used, if any."""
    taken: tuple[str, ...] = ()
    """What came from where, if not from the files that were named."""
    files: tuple[FileData, ...] = field(default=(), repr=False, compare=False)
    """What the segments' contents were made of."""

    def segment(self, name: str) -> Segment:
        """The segment of that name. Raises KeyError when there is none."""
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class FileLoadPlan:
    """All that kexec_file_load(2) needs; where things go is then the running kernel's business."""

    arch: str
    """What ``uname -m`` says."""
    purpose: Purpose
    kernel: FileData
    """As the kernel shall see it: out of its compression or container."""
    initrd: FileData | None
    command_line: str
    flags: int
    """KEXEC_FILE_*."""
    warnings: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    """What came from where, if not from the files that were named."""

    @property
    def files(self) -> tuple[FileData, ...]:
        """What the running kernel reads."""
        return (self.kernel,) if self.initrd is None else (self.kernel, self.initrd)


class Layout:
    """Places segments one after the other in free memory, then takes their contents.

    Placing and filling are two steps because contents name addresses: the boot parameters point at the
    initrd, and purgatory holds the digest of everything else.
    """

    def __init__(self, free: RangeSet, *, page_size: int, end: int = ADDRESS_SPACE.end) -> None:
        """`free` is the memory that may be used (physical); `page_size`, in bytes, the running kernel's.

        `end` is the first address that no segment can have (`Arch.address_end`), nor end at: in the running
        kernel's words that is 0.
        """
        self._free = free.intersect([Range(0, end - 1)]).aligned_inwards(page_size)
        self._page_size = page_size
        self._places: dict[str, tuple[Range, str]] = {}
        self._data: dict[str, memoryview] = {}

    def place(
        self,
        name: str,
        size: int,
        *,
        alignment: int = 1,
        within: Range = ADDRESS_SPACE,
        placement: Placement = Placement.HIGHEST,
        why: str,
    ) -> int:
        """Reserve whole pages for `size` bytes and return their physical address.

        Raises PlacementError when no free range is large enough.
        """
        memsz = align_up(max(size, 1), self._page_size)
        alignment = max(alignment, self._page_size)
        address = find_hole(self._free, memsz, alignment, within=within, placement=placement)
        if address is None:
            raise self._no_room(name, memsz, alignment, within)
        place = Range.sized(address, memsz)
        log.debug("%-12s %s (%s): %s", name, place, placement.value, why)
        self._places[name] = (place, why)
        self._free = self._free.minus([place])
        return address

    def shrink(self, name: str, leading: int) -> None:
        """Leave the first `leading` bytes (whole pages) of a place empty; nothing else goes there."""
        place, why = self._places[name]
        self._places[name] = Range(place.start + leading, place.end), why

    def fill(self, name: str, data: memoryview | bytes) -> None:
        """Give the contents of a placed segment; shorter than its place means zeros follow."""
        place, _ = self._places[name]
        view = memoryview(data).cast("B")
        if view.nbytes > place.size:
            raise PlacementError(f"segment {name}: {view.nbytes} bytes for a place of {place.size}")
        self._data[name] = view

    def range(self, name: str) -> Range:
        """Where a segment lies (physical)."""
        return self._places[name][0]

    def data(self, name: str) -> memoryview:
        """What a segment was filled with."""
        return self._data[name]

    def names(self) -> list[str]:
        """The segments placed so far, in ascending order of address."""
        return sorted(self._places, key=lambda name: self._places[name][0])

    def segments(self) -> tuple[Segment, ...]:
        """The finished segments, in ascending order of address."""
        return tuple(
            Segment(name, place.start, place.size, self._data[name], why)
            for name in self.names()
            for place, why in [self._places[name]]
        )

    def _no_room(self, name: str, memsz: int, alignment: int, within: Range) -> PlacementError:
        usable = self._free.intersect([within])
        largest = max((each.size for each in usable), default=0)
        bounds = "" if within == ADDRESS_SPACE else f" within {within}"
        return PlacementError(
            f"Could not find a free area of memory of {memsz:#x} bytes for the {name}, aligned to"
            f" {alignment:#x}{bounds}; {usable.size:#x} bytes are free, the largest piece is {largest:#x}",
            missing=max(memsz - largest, 0),
        )
