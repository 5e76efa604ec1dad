"""Read a crashed machine's memory, whatever the format of the file it was saved in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property, lru_cache
from os import PathLike
from typing import NamedTuple, Protocol, Self

from pykexec.formats import elfheader
from pykexec.memory import Range
from pykexec.vmcore import diskdump, elf, flattened, library, others, paging
from pykexec.vmcore.diskdump import Checked
from pykexec.vmcore.errors import DumpError, NotInDumpError
from pykexec.vmcore.notes import ByteOrder, Note, Processor, processors
from pykexec.vmcore.part import Tables, VmcorePart, part_of
from pykexec.vmcore.source import PlainFile, Source
from pykexec.vmcore.vmcoreinfo import VmcoreInfo

_PARTS_MAX = 1024
_KEPT_PLACES = 1 << 12


class Format(Protocol):
    """The interface of a file format. Addresses are physical."""

    @property
    def name(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def arch(self) -> str: ...
    @property
    def word_size(self) -> int: ...
    @property
    def byte_order(self) -> ByteOrder: ...
    @property
    def dump_level(self) -> int | None: ...
    @property
    def compression(self) -> str: ...
    @property
    def is_part(self) -> bool: ...
    @property
    def tells_extent(self) -> bool:
        """Whether the format tells `damage`, `memory` and `saved_bytes`."""

    @property
    def details(self) -> Mapping[str, object]: ...
    @property
    def release(self) -> str | None: ...
    @property
    def time(self) -> int | None: ...
    @property
    def damage(self) -> tuple[str, ...]: ...
    def read(self, address: int, size: int) -> bytes: ...
    def physical_of(self, virtual: int) -> tuple[int, int] | None: ...
    def memory(self) -> Iterator[Range]: ...
    def saved_bytes(self) -> int: ...
    def check(self, *, everything: bool) -> "Checked | None":
        """Look for damaged pages; return None where the format has no means to tell."""

    def was_left_out(self, address: int) -> bool | None:
        """Return whether the dump lacks memory that the machine has there; None where that is not known."""

    def notes(self) -> Iterator[Note]: ...
    def vmcoreinfo(self) -> bytes | None: ...


class Gap(NamedTuple):
    """Memory that could not be read: its virtual address, its size in bytes, and the reason."""

    address: int
    size: int
    why: str


class Dump:
    """A crash dump. It reads only what is asked for, and keeps little of it.

    Its files stay open until `close`, or the end of a with block.
    """

    def __init__(self, contents: Format, files: ExitStack | None = None) -> None:
        """Wrap the contents of a dump; `files` is closed with it."""
        self.contents = contents
        self._files = files or ExitStack()
        self._translated = lru_cache(_KEPT_PLACES)(self._translate)

    @classmethod
    def open(cls, *paths: str | PathLike[str]) -> "Dump":
        """Open /proc/vmcore or a saved dump; several paths are the parts of a split one.

        Raises DumpError for a file that is no dump, or whose headers are damaged.
        """
        if not 1 <= len(paths) <= _PARTS_MAX:
            raise DumpError(f"{len(paths)} files; a dump has at least one, and {_PARTS_MAX} parts at most")
        with ExitStack() as files:
            contents = _recognise([files.enter_context(PlainFile(str(path))) for path in paths])
            return cls(contents, files.pop_all())

    def close(self) -> None:
        """Close the dump's files; what was read stays."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        return self.contents.name

    @property
    def arch(self) -> str:
        """Our name of the architecture (`pykexec.names`); for an unknown one the file's name of it."""
        return self.contents.arch

    @cached_property
    def part(self) -> VmcorePart:
        """The facts about dumps of its architecture."""
        return part_of(self.arch)

    @property
    def word_size(self) -> int:
        """The size of a pointer, in bytes."""
        return self.contents.word_size

    @property
    def byte_order(self) -> ByteOrder:
        return self.contents.byte_order

    @cached_property
    def vmcoreinfo(self) -> VmcoreInfo:
        """The kernel's VMCOREINFO; empty where the dump does not have it."""
        return VmcoreInfo.parse(self.contents.vmcoreinfo() or b"")

    @cached_property
    def notes(self) -> tuple[Note, ...]:
        """The ELF notes. Raises DumpError for an absurd number of them."""
        return tuple(self.contents.notes())

    @cached_property
    def processors(self) -> tuple[Processor, ...]:
        """The state of each processor that left a note."""
        return tuple(processors(self.notes, self.part.registers, self.word_size, self.byte_order))

    @cached_property
    def memory(self) -> tuple[Range, ...]:
        """The machine's physical memory that the dump covers, whether saved or left out."""
        return tuple(self.contents.memory())

    def read_physical(self, address: int, size: int) -> bytes:
        """Return `size` bytes of memory.

        Raises NotInDumpError for an address not in the dump, DumpError for damage.
        """
        return self.contents.read(address, size)

    def read_virtual(self, address: int, size: int) -> bytes:
        """Return `size` bytes at a virtual address of the kernel. Raises NotInDumpError, DumpError."""
        found = bytearray()
        while len(found) < size:
            found += self._read_piece(address + len(found), size - len(found))
        return bytes(found)

    def read_what_is_there(self, address: int, size: int) -> tuple[bytes, list[Gap]]:
        """Read as `read_virtual` does, with zeros for pages that cannot be read; return these gaps, too."""
        with suppress(DumpError):
            return self.read_virtual(address, size), []
        found, gaps = bytearray(), list[Gap]()
        while len(found) < size:
            start = address + len(found)
            # Read page by page, so that a missing page costs no other.
            step = min(self._page_size - start % self._page_size, size - len(found))
            try:
                found += self.read_virtual(start, step)
            except DumpError as error:
                found += bytes(step)
                if gaps and gaps[-1].address + gaps[-1].size == start:
                    gaps[-1] = gaps[-1]._replace(size=gaps[-1].size + step)
                else:
                    gaps.append(Gap(start, step, error.what))
        return bytes(found), gaps

    def physical_of(self, virtual: int) -> int:
        """Return the physical address. Raises NotInDumpError where it is not known."""
        return self._place(virtual)[0]

    @cached_property
    def _page_size(self) -> int:
        stated = self.vmcoreinfo.page_size
        return stated if stated and 1 << 10 <= stated <= 1 << 20 else 1 << 12

    @cached_property
    def _tables(self) -> Tables | None:
        return paging.tables(self.part, self.vmcoreinfo, self._first_memory)

    @cached_property
    def _first_memory(self) -> Range | None:
        """The first of the machine's memory, where the linear map begins with it."""
        return None if self.part.linear_end is None else next(self.contents.memory(), None)

    def _read_piece(self, virtual: int, size: int) -> bytes:
        physical, available = self._place(virtual)
        return self.contents.read(physical, min(size, available))

    def _place(self, virtual: int) -> tuple[int, int]:
        """Return a physical address that is in the dump, and how many bytes are mapped from there."""
        start = virtual - virtual % self._page_size
        physical, available = self._translated(start)
        offset = virtual - start
        if offset < available:
            return physical + offset, available - offset
        return self._translate(virtual)

    def _translate(self, virtual: int) -> tuple[int, int]:
        error: DumpError | None = None
        for find in self._ways:
            try:
                place = find(virtual)
                if place is not None:
                    self.contents.read(place[0], 1)
                    return place
            except DumpError as problem:
                error = error or problem
        if error is not None:
            raise NotInDumpError(
                f"virtual address {virtual:#x}: {error.what}", address=virtual, hint=error.hint
            ) from error
        raise NotInDumpError(
            f"{self.name}: nothing says where virtual address {virtual:#x} is",
            address=virtual,
            hint=self._why_not,
        )

    @property
    def _ways(self) -> Sequence[Callable[[int], tuple[int, int] | None]]:
        """The ways to translate an address: first those that are certain and quick, last a guess."""
        if self.part.is_image_bounded:
            return self.contents.physical_of, self._in_image, self._by_tables, self._in_linear_map
        return self.contents.physical_of, self._by_tables, self._in_linear_map, self._in_image

    def _in_image(self, virtual: int) -> tuple[int, int] | None:
        return paging.kernel_image(self.part, self.vmcoreinfo, virtual)

    def _in_linear_map(self, virtual: int) -> tuple[int, int] | None:
        return paging.linear_map(self.part, self.vmcoreinfo, virtual, self._first_memory)

    def _by_tables(self, virtual: int) -> tuple[int, int] | None:
        return None if self._tables is None else self._tables.translate(virtual, self._entry)

    def _entry(self, address: int) -> int:
        size = self._tables.entry_size if self._tables else self.word_size
        return int.from_bytes(self.contents.read(address, size), self.byte_order)

    @property
    def _why_not(self) -> str | None:
        if not self.vmcoreinfo:
            return "the dump has no VMCOREINFO"
        if self._tables is None and self.part.tables is not None:
            return "VMCOREINFO does not say enough to find the kernel's page tables"
        return None


def _recognise(sources: Sequence[PlainFile]) -> Format:
    unpacked: list[Source] = []
    for source in sources:
        flat = source.read_at(0, 16).startswith(flattened.SIGNATURE)
        unpacked.append(flattened.FlattenedFile(source) if flat else source)
    first = unpacked[0]
    head = first.read_at(0, 16)
    if len(unpacked) > 1:
        if not all(each.read_at(0, 8) == diskdump.SIGNATURE for each in unpacked):
            raise DumpError("several files, but not all are parts of a dump made with makedumpfile --split")
        return diskdump.SplitDump(unpacked)
    if head.startswith(elfheader.MAGIC):
        return elf.ElfDump(first)
    if head.startswith(diskdump.SIGNATURE):
        return diskdump.CompressedDump(first)
    other = others.recognise(sources[0])
    if head and (other is None or other.remedy is None):
        with suppress(ImportError):
            return library.LibraryDump(sources[0].name)
    what = "the file is empty" if not head else other.what if other else "not a crash dump"
    raise DumpError(f"{first.name}: {what}", hint=(other and other.remedy) or _READ_HERE, status=4)


_READ_HERE = "ELF core files and makedumpfile's formats are read; libkdumpfile's with its Python binding"
