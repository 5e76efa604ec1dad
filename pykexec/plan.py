"""What the user asks for (`Request`) and what will be done (`LoadPlan`): plain values, no I/O."""

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
    from typing import TypedDict, Unpack

    from pykexec.initramfs import Addition
    from pykexec.options import Option

    class Settings(TypedDict, total=False):
        """The fields of a request that are no files, for `Request.from_paths`."""

        purpose: Purpose
        initrds: tuple[FileData, ...]
        additions: tuple[Addition, ...]
        entry_id: str | None
        reuse_kernel: bool
        profile: str | None
        append: str | None
        reuse_command_line: bool
        within: Range
        entry: int | None
        skip_checks: bool
        seed: bytes | None
        format: str | None
        entry_32bit: bool
        real_mode: bool
        modules: tuple[Module, ...]
        hotplug: bool
        hand_over_efi: bool
        preserve_context: bool
        jump_back: int | None
        atags: bool
        image_size: int | None
        page_offset: int | None
        core_header_bits: int | None
        memmap_parameters: bool
        console: Console
        debug: bool
        no_cma: bool
        force_dtb: bool


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
"""The bytes of randomness that a request may carry."""


@dataclass(frozen=True, slots=True)
class Module:
    """A file for a Multiboot kernel, and the text that comes with it (its name and arguments)."""

    data: FileData
    """The file."""
    text: str
    """The text."""


@dataclass(frozen=True, slots=True)
class Console:
    """Where purgatory's messages go: --serial, --serial-baud, --console-serial and --console-vga."""

    port: str | None = None
    """A terminal's name, or an I/O port as a hexadecimal number; None: the new kernel's serial console."""
    baud: int | None = None
    """The speed; None: it stays as it is."""
    vga: bool = False
    """Whether to write to the VGA text screen as well."""
    serial: bool = False
    """Whether to write to a serial port even where the new kernel has no console on one."""

    def __post_init__(self) -> None:
        if self.baud is None:
            return
        from pykexec.options import BAUD_MAX

        if not 2 <= self.baud <= BAUD_MAX:  # the divisor has 16 bits
            raise UsageError(f"a serial console has no {self.baud} baud, but {BAUD_MAX} at most")


_NOT_NAMED = FileData("", memoryview(b""))


@dataclass(frozen=True, slots=True)
class Request:
    """A kernel to load, and how. Addresses are physical, and have 64 bits.

    Raises UsageError for other addresses, and for fields that contradict each other.

    `resolve.resolve` first looks for files, opens containers and joins initrds. So the architectures'
    loaders get a kernel and at most one initrd.
    """

    kernel: FileData = _NOT_NAMED
    """A kernel, or a container with a kernel in it; empty where `entry_id` or `reuse_kernel` names it."""
    purpose: Purpose = Purpose.BOOT
    """What it is loaded for."""
    initrd: FileData | None = None
    """An initrd that replaces the one that comes with the kernel, if one does (--initrd)."""
    initrds: tuple[FileData, ...] = ()
    """Further initrds, after `initrd` or the one that comes with the kernel (--add-initrd)."""
    additions: tuple[Addition, ...] = ()
    """Files to put into the initramfs (--initrd-file)."""
    entry_id: str | None = None
    """A boot loader's entry: its ID, title or version, or "default" (--entry-id)."""
    reuse_kernel: bool = False
    """Whether to load the running kernel's own file and initrd (--reuse-kernel)."""
    profile: str | None = None
    """A unified kernel image's profile, or a FIT image's configuration (--profile); None: its default."""
    device_tree: FileData | None = None
    """A device tree that replaces the running kernel's (--dtb)."""
    append: str | None = None
    """The command line; with `reuse_command_line` the text to add to the running kernel's. Without both the
    kernel gets the command line that comes with it, if one does."""
    reuse_command_line: bool = False
    """Whether to start from the running kernel's command line, without what belongs to this boot only."""
    within: Range = ADDRESS_SPACE
    """The addresses that segments may have (--mem-min, --mem-max)."""
    entry: int | None = None
    """The physical address to enter instead of purgatory's (--entry)."""
    skip_checks: bool = False
    """Whether purgatory starts the kernel without comparing digests (-i)."""
    seed: bytes | None = None
    """Fresh random bytes (`SEED_SIZE`) for the new kernel's generator; None: it gets none. It is an input
    like any other, so that planning stays a pure function."""
    format: str | None = None
    """The only format to take the kernel for (--type), by the architecture's name for it."""
    entry_32bit: bool = False
    """Whether to enter a bzImage through its 32-bit entry (--entry-32bit)."""
    real_mode: bool = False
    """Whether to enter a bzImage through its 16-bit entry (--real-mode)."""
    modules: tuple[Module, ...] = ()
    """Modules for a Multiboot kernel (--module)."""
    hotplug: bool = False
    """Whether the running kernel rewrites the core headers when CPUs or memory come and go (--hotplug)."""
    hand_over_efi: bool = True
    """Whether to tell the new kernel about EFI's tables and services (false: --noefi)."""
    preserve_context: bool = False
    """Whether to lend the new kernel the memory in `within`, so that it can jump back
    (--load-preserve-context)."""
    jump_back: int | None = None
    """The physical address where another kernel waits: load the way back to it instead of a kernel
    (--load-jump-back-helper)."""
    atags: bool = False
    """Whether the kernel is told of the machine by tags instead of a device tree (--atags)."""
    image_size: int | None = None
    """The bytes of memory that a compressed kernel takes when it is unpacked (--image-size)."""
    page_offset: int | None = None
    """The virtual address at which the running kernel has its memory (--page-offset)."""
    core_header_bits: int | None = None
    """Of a crash kernel's core headers, where the architecture leaves a choice (--elf64-core-headers)."""
    memmap_parameters: bool = False
    """Whether a crash kernel gets its memory map on its command line, too (--pass-memmap-cmdline)."""
    console: Console = Console()
    """Settings of the console for purgatory's messages."""
    debug: bool = False
    """Whether the running kernel logs how it loads (kexec_file_load only)."""
    no_cma: bool = False
    """Whether the running kernel has to leave CMA memory alone (kexec_file_load; kexec_load always does)."""
    force_dtb: bool = False
    """Whether the running kernel hands its device tree on even if it usually does not (kexec_file_load)."""
    container: str = ""
    """The container that the kernel was taken out of ("EFI zboot, gzip"), set by `resolve.resolve`."""
    taken: tuple[str, ...] = ()
    """Notes for people on what came from where, set by `resolve.resolve`."""
    warnings: tuple[str, ...] = ()
    """Notes for people on what may be wrong with the request."""

    def asks(self, option: Option) -> bool:
        """Return whether the request differs from the default in what that option sets."""
        mine: object = self
        default: object = _DEFAULTS
        for name in option.request.split("."):
            mine, default = getattr(mine, name), getattr(default, name)
        return mine != default

    @property
    def files(self) -> tuple[FileData, ...]:
        """All files to load, as far as they are known."""
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
        **settings: Unpack[Settings],
    ) -> Request:
        """Return a request for files on disk; `settings` are the other fields.

        Raises FileError where a file cannot be read.
        """
        return cls(
            kernel=_NOT_NAMED if kernel is None else FileData.open(kernel, "kernel"),
            initrd=None if initrd is None else FileData.open(initrd, "initrd"),
            device_tree=None if device_tree is None else FileData.open(device_tree, "device tree"),
            **settings,
        )


_DEFAULTS = Request()


@dataclass(frozen=True, slots=True)
class Special:
    """The error for an option that only some architectures can honour, for the others."""

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
    "atags": Special("{option}: kernels for {arch} take no tags"),
    "image_size": Special("{option}: kernels for {arch} tell themselves what memory they take"),
    "page_offset": Special("{option}: on {arch} /proc/kcore tells where the kernel has its memory"),
    "force_dtb": Special(
        "{option}: on {arch} only kexec_file_load hands the running kernel's device tree on",
        "leave out -c and what needs it",
    ),
}
"""The errors, by the names of the options in `Arch.honours` and in the rows of `options`."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes for a place in physical memory, and the reason for that place."""

    name: str
    """What it is: kernel, initrd, purgatory, elfcorehdr, and others."""
    address: int
    """The physical address, page-aligned."""
    memsz: int
    """The bytes of memory it takes, whole pages; what is beyond `data` is zero."""
    data: memoryview = field(repr=False)
    """Its contents."""
    why: str
    """Why it is there, for people."""

    @property
    def range(self) -> Range:
        """The physical memory that it takes."""
        return Range.sized(self.address, self.memsz)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """All that kexec_load(2) needs, and what people want to know about it."""

    arch: str
    """The machine's architecture, by our name for it."""
    purpose: Purpose
    """What the kernel is loaded for."""
    image: str
    """The path of the kernel."""
    image_format: str
    """What that file is, for people."""
    initrd: str | None
    """The path of the initrd; None without one."""
    command_line: str
    """The new kernel's command line."""
    entry: int
    """The physical address to which the running kernel jumps."""
    flags: int
    """kexec_load's flags: KEXEC_ON_CRASH and the architecture in the high half."""
    segments: tuple[Segment, ...]
    """The segments, in ascending order of address."""
    memory_map: tuple[TypedRange, ...] = ()
    """The physical memory that the loaded kernel is told about."""
    warnings: tuple[str, ...] = ()
    """What may be wrong, for people."""
    losses: tuple[str, ...] = ()
    """What kexec_file_load(2) would hand on to the new kernel and this load does not, such as "IMA's list of
    measurements", as far as `warnings` do not say so."""
    tried_first: str | None = None
    """The system call that is tried before this plan is used; None if there is none."""
    taken: tuple[str, ...] = ()
    """Notes on what did not come from the files that were named."""
    files: tuple[FileData, ...] = field(default=(), repr=False, compare=False)
    """The files that the segments' contents were made from."""

    def segment(self, name: str) -> Segment:
        """Return the segment of that name. Raises KeyError when there is none."""
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class FileLoadPlan:
    """All that kexec_file_load(2) needs; the running kernel decides where things go."""

    arch: str
    """The machine as ``uname -m`` names it."""
    purpose: Purpose
    """What the kernel is loaded for."""
    kernel: FileData
    """The kernel as the running one gets it: without compression or container."""
    initrd: FileData | None
    """The initrd; None without one."""
    command_line: str
    """The new kernel's command line."""
    flags: int
    """KEXEC_FILE_* flags."""
    warnings: tuple[str, ...] = ()
    """What may be wrong, for people."""
    taken: tuple[str, ...] = ()
    """Notes on what did not come from the files that were named."""

    @property
    def files(self) -> tuple[FileData, ...]:
        """The files that the running kernel reads."""
        return (self.kernel,) if self.initrd is None else (self.kernel, self.initrd)


class Layout:
    """Places segments one after the other in free memory, then takes their contents.

    Placing and filling are two steps because contents contain addresses: the boot parameters point at the
    initrd, and purgatory holds the digest of everything else.
    """

    def __init__(self, free: RangeSet, *, page_size: int, end: int = ADDRESS_SPACE.end) -> None:
        """Start with `free`, physical memory that may be used; `page_size` (bytes) is the running kernel's.

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
        """Leave the first `leading` bytes (whole pages) of a place empty; no other segment gets them."""
        place, why = self._places[name]
        self._places[name] = Range(place.start + leading, place.end), why

    def fill(self, name: str, data: memoryview | bytes) -> None:
        """Set the contents of a placed segment; zeros follow if they are shorter than the place.

        Raises PlacementError where they are longer.
        """
        place, _ = self._places[name]
        view = memoryview(data).cast("B")
        if view.nbytes > place.size:
            raise PlacementError(f"segment {name}: {view.nbytes} bytes for a place of {place.size}")
        self._data[name] = view

    def range(self, name: str) -> Range:
        """Return where a segment lies (physical)."""
        return self._places[name][0]

    def data(self, name: str) -> memoryview:
        """Return the contents of a segment."""
        return self._data[name]

    def names(self) -> list[str]:
        """Return the segments placed so far, in ascending order of address."""
        return sorted(self._places, key=lambda name: self._places[name][0])

    def segments(self) -> tuple[Segment, ...]:
        """Return the finished segments, in ascending order of address."""
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
