"""Purgatory: the code that runs between the two kernels. This is its Python half.

The machine code is a prebuilt ELF file for each architecture (``prebuilt/``, built by
``tools/build-purgatory``), position-independent and without relocations: it is copied to where it shall run,
after its parameter block has been filled in. It compares every region with its digest and then starts the
kernel, or says on the console which region is damaged and resets the machine.
"""

import enum
import os
import struct
import threading
from collections.abc import Callable, Mapping, Sequence

from pykexec.errors import PurgatoryError
from pykexec.machine.serial import Registers, SerialPort
from pykexec.memory import KIB, MIB, align_up
from pykexec.purgatory.compiled import PARAMS, REGION
from pykexec.values import dataclass

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
_BLOCK_START = struct.pack("<III", _MAGIC, _VERSION, _SIZE)

# ELF64 headers (elf(5)): what of them is needed to copy the one loadable segment.
_EHDR = struct.Struct("<6s18xQQ14xHH")
_PHDR = struct.Struct("<I4xQQQQQQ")
_ELF64_LSB = b"\x7fELF\x02\x01"
_PT_LOAD = 1

_PAGE = 4 * KIB  # purgatory hashes aligned data faster
_PART_SIZE = 4 * MIB
"""At least: what is smaller is not worth dividing."""


class ConsoleKind(enum.IntEnum):
    """How purgatory reaches a serial port (the enum in common/params.h)."""

    NONE = 0
    UART_8250_PORT = 1
    PL011 = 2
    UART_8250_MMIO = 3
    UART_8250_MMIO32 = 4


class ResetMethod(enum.IntEnum):
    """How purgatory resets, where the architecture leaves a choice (common/params.h)."""

    DEFAULT = 0
    PSCI_HVC = 1
    PSCI_SMC = 2


@dataclass(frozen=True, slots=True)
class Console:
    """Where purgatory writes."""

    kind: ConsoleKind = ConsoleKind.NONE
    base: int = 0
    """I/O port, or physical address."""
    shift: int = 0
    """Registers lie 1 << shift bytes apart."""
    divisor: int = 0
    """Of an 8250's clock, to set its speed; 0: it stays as it is."""
    vga: bool = False
    """Whether to write to the VGA text screen as well (x86)."""


NO_CONSOLE = Console()
"""Purgatory then says nothing."""


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes to verify: where they lie (physical) and what they were when they were loaded."""

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
    """Memory to copy away before the kernel is started; physical addresses, size in bytes."""

    source: int
    destination: int
    size: int


@dataclass(frozen=True, slots=True)
class Blob:
    """The machine code of one architecture, ready to be copied."""

    image: bytes
    memsz: int
    """Bytes it takes in memory, its stack included."""
    alignment: int
    entry_offset: int
    params_offset: int


def load_blob(arch_name: str) -> Blob:
    """The purgatory of that architecture. Raises PurgatoryError when it is missing or of another version."""
    path = os.path.join(_PREBUILT, f"{arch_name}.elf")
    try:
        with open(path, "rb") as blob:
            file = blob.read()
        kind, entry, headers, header_size, count = _EHDR.unpack_from(file)
        load = _load_segment(file, headers, header_size, count)
    except OSError as error:
        raise _unusable(path, error.strerror or "unreadable") from error
    except struct.error as error:
        raise _unusable(path, f"truncated within its headers: {len(file)} bytes") from error
    if load is None:
        raise _unusable(path, "it has no segment to load")
    memsz, filesz, alignment, image = load
    if len(image) < filesz:
        raise _unusable(path, f"truncated: {len(image)} of {filesz} bytes to load")
    # The block begins with numbers that occur nowhere else, in purgatories this version can fill in.
    params = image.find(_BLOCK_START)
    if kind != _ELF64_LSB or params < 0:
        raise PurgatoryError(
            f"{path} is not a purgatory of version {_VERSION}",
            hint="run tools/build-purgatory, or install pykexec again",
        )
    return Blob(image, memsz, alignment, entry_offset=entry, params_offset=params)


def _unusable(path: str, why: str) -> PurgatoryError:
    return PurgatoryError(f"cannot load purgatory from {path}: {why}", hint="install pykexec again")


def _load_segment(
    file: bytes, headers: int, header_size: int, count: int
) -> tuple[int, int, int, bytes] | None:
    """Size in memory and in the file, alignment and contents of the segment to load; None without one."""
    for index in range(count):
        kind, offset, _, _, filesz, memsz, alignment = _PHDR.unpack_from(file, headers + index * header_size)
        if kind == _PT_LOAD:
            return memsz, filesz, alignment, file[offset : offset + filesz]
    return None


def digest_regions(regions: Sequence[Region]) -> tuple[Digest, ...]:
    """Hash the regions' data, on all cores. Raises PurgatoryError when the table cannot hold them."""
    import hashlib  # not for those that only load a blob

    parts = _parts(regions)
    found: dict[int, bytes] = {}
    # The large ones first, so that no core is left with one of them in the end.
    rest = iter(sorted(range(len(parts)), key=lambda index: -parts[index].data.nbytes))

    def work() -> None:
        for index in rest:  # next() of a list's iterator is atomic
            found[index] = hashlib.sha256(parts[index].data).digest()

    # The interpreter lock is released while something is hashed.
    others = _start(work, min(_cores(), len(parts)) - 1)
    work()
    for thread in others:
        thread.join()
    return tuple(
        Digest(part.name, part.address, part.data.nbytes, found[index]) for index, part in enumerate(parts)
    )


def _start(work: Callable[[], None], count: int) -> list[threading.Thread]:
    """So many threads, or as many as the limits on processes leave room for."""
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
    """Rows of purgatory's table: large regions get several, so that there is work for all cores."""
    if len(regions) > _REGIONS_MAX:
        raise PurgatoryError(f"{len(regions)} regions to verify; purgatory's table holds {_REGIONS_MAX}")
    # Each region's last part may be a smaller one.
    whole_parts = max(1, _REGIONS_MAX - len(regions))
    total = sum(region.data.nbytes for region in regions)
    size = max(_PART_SIZE, align_up(-(-total // whole_parts), _PAGE))
    return [
        Region(region.name, region.address + offset, region.data[offset : offset + size])
        for region in regions
        for offset in range(0, region.data.nbytes, size)
    ]


_UART_CLOCK = 115200  # baud at divisor 1, on a PC


def io_port_console(port: SerialPort | None, baud: int | None = None, *, vga: bool = False) -> Console:
    """The console of that UART if it is behind x86 I/O ports, else none; `baud` sets its speed."""
    if port is None or not port.io_port:
        return Console(vga=vga)
    divisor = _UART_CLOCK // baud if baud else 0
    return Console(ConsoleKind.UART_8250_PORT, port.io_port, port.reg_shift, divisor, vga)


_BY_REGISTERS: Mapping[Registers, ConsoleKind] = {
    Registers.PL011: ConsoleKind.PL011,
    Registers.UART_8250: ConsoleKind.UART_8250_MMIO,
    Registers.UART_8250_WORDS: ConsoleKind.UART_8250_MMIO32,
}


def mmio_console(port: SerialPort | None) -> Console:
    """The console of that UART if it is a PL011 or an 8250 with registers in memory, else none.

    Purgatory is not told of others: what it reads and writes there may reset or stop the CPU.
    """
    if port is None or not port.iomem_base or port.registers not in _BY_REGISTERS:
        return Console()
    return Console(_BY_REGISTERS[port.registers], port.iomem_base, port.reg_shift)


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
    reset: ResetMethod = ResetMethod.DEFAULT,
) -> bytes:
    """The blob's image with its parameter block filled in.

    `jump_to` is the physical address of the kernel's entry point, `arguments` what the architecture's boot
    protocol wants in registers there (RSI, x0). Without `digests` nothing is verified.

    `called` says that the old kernel can be gone back to (kexec jump): it has left on its stack where. At
    `jump_back_digits` (physical; 0: nowhere) that is written as 16 hexadecimal digits. Raises PurgatoryError
    when a region's name is too long.
    """
    flags = {
        _FLAG_VGA: console.vga,
        _FLAG_CALLED: called,
    }
    rows = [_row(digest) for digest in digests]
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
            "backup_source": backup.source if backup else 0,
            "backup_destination": backup.destination if backup else 0,
            "backup_size": backup.size if backup else 0,
            "jump_back_digits": jump_back_digits,
            "jump_back_entry": 0,
            "region_count": len(rows),
            "reset": reset,
        }
    )
    image = bytearray(blob.image)
    block = params + b"".join(rows)
    image[blob.params_offset : blob.params_offset + len(block)] = block
    return bytes(image)


def _row(digest: Digest) -> bytes:
    name = digest.name.encode("ascii")
    if len(name) >= _NAME_SIZE:
        raise PurgatoryError(f"region name {digest.name} is longer than {_NAME_SIZE - 1} characters")
    row = {
        "address": digest.address,
        "size": digest.size,
        "name": name.ljust(_NAME_SIZE, b"\0"),
        "digest": digest.sha256,
    }
    return bytes(REGION.build(row))
