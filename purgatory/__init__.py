"""Purgatory: the code that runs between the two kernels. This is its Python half.

The machine code is a prebuilt ELF file for each architecture (``prebuilt/``, built by
``tools/build-purgatory``), position-independent and without relocations. It is copied to where it runs,
after its parameter block has been filled in. It compares every region with its digest and then starts the
kernel, or says on the console which region is damaged and resets the machine.
"""

from __future__ import annotations

import enum
import os
import struct
import threading
from collections.abc import Callable, Mapping, Sequence

from pykexec import names
from pykexec.errors import PurgatoryError
from pykexec.formats import elfheader
from pykexec.formats.elfheader import Encoding
from pykexec.memory import KIB, MIB, align_up
from pykexec.purgatory.compiled import PARAMS, REGION
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.names import ByteOrder

_PREBUILT = os.path.join(os.path.dirname(__file__), "prebuilt")

# The layout of struct params in common/params.h.
_MAGIC = 0x47525550
_VERSION = 3
_REGIONS_MAX = 64
_NAME_SIZE = 16
_ARGUMENTS = 4
_FLAG_VGA = 1 << 1
_FLAG_CALLED = 1 << 2
_SIZE = PARAMS.sizeof() + _REGIONS_MAX * REGION.sizeof()

_INSTRUCTION = 4
"""The bytes of the first one, where purgatory begins with the kernel's own bytes."""
_PAGE = 4 * KIB  # purgatory hashes aligned data faster
_PART_SIZE = 4 * MIB
"""The least size of a part: smaller ones are not worth dividing."""


class ConsoleKind(enum.IntEnum):
    """The devices to which purgatory can write (the enum in common/params.h)."""

    NONE = 0
    UART_8250_PORT = 1
    PL011 = 2
    UART_8250_MMIO = 3
    UART_8250_MMIO32 = 4
    FIRMWARE = 5
    """The firmware's own console, called as the architecture does it."""
    SCIF = 6
    """Of SuperH CPUs."""


@dataclass(frozen=True, slots=True)
class Console:
    """The console to which purgatory writes."""

    kind: ConsoleKind = ConsoleKind.NONE
    base: int = 0
    """An I/O port, or a physical address."""
    shift: int = 0
    """Registers are 1 << shift bytes apart."""
    divisor: int = 0
    """The divisor of an 8250's clock, which sets its speed; 0: the speed stays."""
    vga: bool = False
    """Whether to write to the VGA text screen as well (x86)."""


NO_CONSOLE = Console()
"""Purgatory then writes nothing."""


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes to verify: where they lie (physical) and their contents at load time."""

    name: str
    address: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class Digest:
    """A row of purgatory's table: a region, or a part of one, and its SHA-256."""

    name: str
    address: int
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Backup:
    """Memory to copy away before the kernel starts; addresses are physical, the size in bytes."""

    source: int
    destination: int
    size: int


@dataclass(frozen=True, slots=True)
class Blob:
    """The machine code of one architecture, ready to be copied."""

    encoding: Encoding
    """The word size and byte order."""
    image: bytes
    memsz: int
    """The bytes it takes in memory, including its stack."""
    alignment: int
    entry_offset: int
    params_offset: int


def load_blob(arch_name: str) -> Blob:
    """Return the purgatory of that architecture.

    Raises PurgatoryError when it is missing, damaged, or of another version.
    """
    path = os.path.join(_PREBUILT, f"{arch_name}.elf")
    elf = names.named(arch_name).elf
    encoding = Encoding.of(elf)
    try:
        with open(path, "rb") as blob:
            file = blob.read()
    except OSError as error:
        raise _unusable(path, error.strerror or "unreadable") from error
    try:
        header = encoding.header(file)
        segments = [
            each for each in encoding.program_headers(file, header) if each.type == elfheader.PT_LOAD
        ]
    except struct.error as error:
        raise _unusable(path, f"truncated within its headers: {len(file)} bytes") from error
    if not segments:
        raise _unusable(path, "it has no segment to load")
    segment = segments[0]
    image = file[segment.offset : segment.offset + segment.file_size]
    if len(image) < segment.file_size:
        raise _unusable(path, f"truncated: {len(image)} of {segment.file_size} bytes to load")
    # The block begins with numbers that occur nowhere else, in every purgatory that this version can fill
    # in.
    start = b"".join(number.to_bytes(4, encoding.order) for number in (_MAGIC, _VERSION, _SIZE))
    params = image.find(start)
    if (elfheader.encoding(file), header.machine) != (encoding, elf.machine) or params < 0:
        raise PurgatoryError(
            f"{path} is not a purgatory of version {_VERSION}",
            hint="run tools/build-purgatory, or install pykexec again",
        )
    return Blob(encoding, image, segment.memory_size, segment.alignment, header.entry, params)


def _unusable(path: str, why: str) -> PurgatoryError:
    return PurgatoryError(f"cannot load purgatory from {path}: {why}", hint="install pykexec again")


def digest_regions(regions: Sequence[Region]) -> tuple[Digest, ...]:
    """Hash the regions' data, on all cores. Raises PurgatoryError when the table cannot hold them."""
    import hashlib  # imported late: loading a blob does not need it

    parts = _parts(regions)
    found: dict[int, bytes] = {}
    # Large parts first, so that no core has one left at the end.
    rest = iter(sorted(range(len(parts)), key=lambda index: -parts[index].data.nbytes))

    def work() -> None:
        for index in rest:  # next() of a list's iterator is atomic
            found[index] = hashlib.sha256(parts[index].data).digest()

    # The interpreter lock is released while data is hashed.
    others = _start(work, min(_cores(), len(parts)) - 1)
    work()
    for thread in others:
        thread.join()
    return tuple(
        Digest(part.name, part.address, part.data.nbytes, found[index]) for index, part in enumerate(parts)
    )


def _start(work: Callable[[], None], count: int) -> list[threading.Thread]:
    """Start so many threads, or as many as the limits on processes allow."""
    threads: list[threading.Thread] = []
    for _ in range(count):
        thread = threading.Thread(target=work)
        try:
            thread.start()
        except RuntimeError:
            break
        threads.append(thread)
    return threads


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _parts(regions: Sequence[Region]) -> list[Region]:
    """Return the rows of purgatory's table. Large regions get several rows, as work for all cores.

    Raises PurgatoryError for too many regions.
    """
    if len(regions) > _REGIONS_MAX:
        raise PurgatoryError(f"{len(regions)} regions to verify; purgatory's table holds {_REGIONS_MAX}")
    # Each region's last part may be smaller.
    whole_parts = max(1, _REGIONS_MAX - len(regions))
    total = sum(region.data.nbytes for region in regions)
    size = max(_PART_SIZE, align_up(-(-total // whole_parts), _PAGE))
    return [
        Region(region.name, region.address + offset, region.data[offset : offset + size])
        for region in regions
        for offset in range(0, region.data.nbytes, size)
    ]


def build(
    blob: Blob,
    *,
    jump_to: int,
    arguments: Sequence[int],
    digests: Sequence[Digest],
    console: Console = NO_CONSOLE,
    backup: Backup | None = None,
    called: bool = False,
    jump_back_digits: int = 0,
    reset: int = 0,
    head: bytes = b"",
) -> bytes:
    """Return the blob's image with its parameter block filled in.

    `jump_to` is the physical address of the kernel's entry point. `arguments` are the values of registers
    there, by the architecture's boot protocol (RSI, x0). Without `digests` nothing is verified.

    `called` says that the new kernel can jump back to the old one (kexec jump), which has left the address
    on its stack. Purgatory writes that address at `jump_back_digits` (physical; 0: nowhere) as 16
    hexadecimal digits. `reset` is how to reset the machine, as the architecture's own number, where it has a
    choice. `head` is what a kernel begins with, on architectures where a running kernel gives the beginning
    of what it enters to the other CPUs: behind its first instruction purgatory has room for that.

    Raises PurgatoryError when a region's name is too long, or an address has more bits than the blob's
    addresses.
    """
    saved = backup or Backup(0, 0, 0)
    _require_words(
        blob,
        {
            "the kernel's entry point": jump_to,
            "what the kernel is told of": max(arguments, default=0),
            "the console": console.base,
            "the place for the way back": jump_back_digits,
            "the end of what is saved": saved.size and max(saved.source, saved.destination) + saved.size - 1,
            **{f"the end of {each.name}": each.address + each.size - 1 for each in digests if each.size},
        },
    )
    flags = {
        _FLAG_VGA: console.vga,
        _FLAG_CALLED: called,
    }
    params = PARAMS.build(
        {
            "magic": _MAGIC,
            "version": _VERSION,
            "size": _SIZE,
            "flags": sum(flag for flag, wanted in flags.items() if wanted),
            "jump_to": jump_to,
            "arguments": [*arguments, *[0] * (_ARGUMENTS - len(arguments))],
            "console": console.kind,
            "console_shift": console.shift,
            "console_base": console.base,
            "console_divisor": console.divisor,
            "unused": 0,
            "backup_source": saved.source,
            "backup_destination": saved.destination,
            "backup_size": saved.size,
            "jump_back_digits": jump_back_digits,
            "jump_back_entry": 0,
            "region_count": len(digests),
            "reset": reset,
        },
        blob.encoding.order,
    )
    image = bytearray(blob.image)
    block = b"".join([params, *(_row(each, blob.encoding.order) for each in digests)])
    image[blob.params_offset : blob.params_offset + len(block)] = block
    image[_INSTRUCTION : len(head)] = head[_INSTRUCTION:]
    return bytes(image)


def _require_words(blob: Blob, numbers: Mapping[str, int]) -> None:
    """Raise PurgatoryError for a number that purgatory would cut to a word: its fields have 64 bits."""
    bits = blob.encoding.bits
    for what, number in numbers.items():
        if number >> bits:
            raise PurgatoryError(f"{what} is at {number:#x}, which does not fit this machine's {bits} bits")


def _row(digest: Digest, order: ByteOrder) -> bytes:
    name = digest.name.encode("ascii")
    if len(name) >= _NAME_SIZE:
        raise PurgatoryError(f"region name {digest.name} is longer than {_NAME_SIZE - 1} characters")
    row = {
        "address": digest.address,
        "size": digest.size,
        "name": name.ljust(_NAME_SIZE, b"\0"),
        "digest": digest.sha256,
    }
    return bytes(REGION.build(row, order))
