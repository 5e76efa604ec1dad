"""Read bzImages: a real-mode setup part that contains the setup header, then the kernel proper.

Numbers without a source are from Documentation/arch/x86/boot.rst, as are the versions that introduced
fields.
"""

from pykexec.arch.x86 import layouts
from pykexec.arch.x86.kernel import Entry, LinuxKernel
from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.memory import GIB, KIB, MIB, Range, align_up
from pykexec.values import dataclass

_SECTOR = 512
_SETUP_SECTS_DEFAULT = 4
_ENTRY_64 = 0x200
"""The offset of startup_64 in the kernel proper ("64-bit boot protocol")."""
_ADDRESS_SPACE_END = 1 << 64

_LOAD_ADDRESS = 1 * MIB
"""The load address of a kernel that cannot be moved; it moves itself from there."""
_LOW_MEMORY_32BIT = 896 * MIB
"""A 32-bit kernel runs where it was loaded, in memory that it maps for good (MAXMEM, usual 3:1 split)."""
_INITRD_END_DEFAULT = 0x38000000
_COMMAND_LINE_LIMIT_DEFAULT = 255

_RELEASE_MAX = 256

_WITH_SYSSIZE, _WITH_RELOCATION, _WITH_COMMAND_LINE_SIZE = 0x0204, 0x0205, 0x0206
_WITH_INITRD_LIMIT, _WITH_INIT_SIZE, _WITH_XLOADFLAGS = 0x0203, 0x020A, 0x020C


def matches(data: memoryview) -> bool:
    """Return whether this is a bzImage, sound or not."""
    return bytes(data[0x202:0x206]) == b"HdrS" and bytes(data[0x1FE:0x200]) == b"\x55\xaa"


def has_64bit_entry(data: memoryview) -> bool:
    """Return whether a bzImage can be entered in long mode, wherever it and its data lie."""
    return _lacks_64bit_entry(layouts.SETUP_HEADER.parse(_header_bytes(data))) is None


def release(data: memoryview) -> str | None:
    """Return the first word of the version string ("kernel_version", less 0x200); None without one."""
    offset = int.from_bytes(data[0x20E:0x210], "little")
    if not offset:
        return None
    words = bytes(data[offset + 0x200 : offset + 0x200 + _RELEASE_MAX]).partition(b"\0")[0].split()
    return words[0].decode("latin-1") if words else None


def parse(file: FileData, entry: Entry | None = None, machine: str = "") -> LinuxKernel:
    """Read and check a bzImage for that entry; None means the best it has.

    `machine` names the architecture that it is for, in messages. Raises ImageError, which names file, offset
    and remedy.
    """
    path, data = file.path, file.data
    _require_signature(path, data, machine)
    header = layouts.SETUP_HEADER.parse(_header_bytes(data))
    _require_high(path, header)
    lack = _lacks_64bit_entry(header)
    if entry is Entry.LONG and lack:
        raise ImageError(f"{path}: {lack}", hint="load it through its 32-bit entry: --entry-32bit")
    entry = entry or (Entry.PROTECTED if lack else Entry.LONG)
    image = _kernel_part(path, data, header)
    _check_sizes(path, header, image)
    room = _room(header, image, entry)
    xloadflags = _xloadflags(header)
    version = f"boot protocol {header.version >> 8}.{header.version & 0xFF:02}"
    return LinuxKernel(
        path=path,
        description=f"bzImage, {version}" + ("" if entry is Entry.LONG else f", {entry.value} entry"),
        setup_header=_header_bytes(data),
        protocol=header.version,
        image=image,
        memory_size=room.size,
        alignment=room.alignment,
        window=room.window,
        relocatable=room.relocatable,
        entry=entry,
        entry_offset=_ENTRY_64 if entry is Entry.LONG else 0,
        command_line_limit=(
            header.cmdline_size if header.version >= _WITH_COMMAND_LINE_SIZE else _COMMAND_LINE_LIMIT_DEFAULT
        ),
        initrd_window=Range(0, _initrd_end(header, entry)),
        takes_efi=bool(xloadflags & layouts.XLF_EFI_KEXEC),
        takes_5level_paging=bool(xloadflags & layouts.XLF_5LEVEL),
        setup=data[: data.nbytes - image.nbytes],
        bits=_bits(header),
    )


def _require_signature(path: str, data: memoryview, machine: str) -> None:
    if data.nbytes == 0:
        raise ImageError(f"{path}: the file is empty")
    is_short = data.nbytes < 2 * _SECTOR
    short = f"{data.nbytes} bytes are less than a bzImage's boot sector and header"
    if not matches(data):
        from pykexec.formats import identify

        lack = "no bzImage signature (0x55aa at offset 0x1fe, HdrS at 0x202)"
        raise identify.unknown(path, data, f"not a kernel: {short}" if is_short else lack, machine)
    if is_short:
        raise ImageError(f"{path}: truncated: {short}", hint="copy or install the kernel again")


def _require_high(path: str, header: layouts.Parsed) -> None:
    if not header.loadflags & layouts.LOADED_HIGH:
        raise ImageError(
            f"{path}: a zImage (LOADED_HIGH is clear at offset 0x211); only a bzImage can be loaded"
        )


def _xloadflags(header: layouts.Parsed) -> int:
    return int(header.xloadflags) if header.version >= _WITH_XLOADFLAGS else 0


def _bits(header: layouts.Parsed) -> int | None:
    if header.version < _WITH_XLOADFLAGS:
        return None
    return 64 if header.xloadflags & layouts.XLF_KERNEL_64 else 32


def _lacks_64bit_entry(header: layouts.Parsed) -> str | None:
    """Return why it cannot be entered in long mode; None if it can."""
    if header.version < _WITH_XLOADFLAGS:
        return (
            f"boot protocol {header.version >> 8}.{header.version & 0xFF:02} at offset 0x206"
            " has no 64-bit entry; 2.12 (Linux 3.8) is the oldest that has"
        )
    if not header.xloadflags & layouts.XLF_KERNEL_64:
        return f"a 32-bit kernel (xloadflags {header.xloadflags:#x} at offset 0x236) has no 64-bit entry"
    if not header.xloadflags & layouts.XLF_CAN_BE_LOADED_ABOVE_4G:
        return f"cannot be loaded above 4 GiB (xloadflags {header.xloadflags:#x} at offset 0x236)"
    return None


def _kernel_part(path: str, data: memoryview, header: layouts.Parsed) -> memoryview:
    start = ((header.setup_sects or _SETUP_SECTS_DEFAULT) + 1) * _SECTOR
    # Before 2.04 the field had 16 bits, too few for a bzImage's size.
    size = header.syssize * 16 if header.version >= _WITH_SYSSIZE else 1
    if size == 0:
        raise _damaged(path, 0x1F4, "syssize is 0, there is no kernel behind the setup part")
    if start + size > data.nbytes:
        raise ImageError(
            f"{path}: truncated: {data.nbytes} bytes, but the setup header says {start + size}",
            hint="copy or install the kernel again",
        )
    return data[start:]


def _check_sizes(path: str, header: layouts.Parsed, image: memoryview) -> None:
    alignment = header.kernel_alignment
    if header.version >= _WITH_RELOCATION and (alignment < 4 * KIB or alignment & (alignment - 1)):
        raise _damaged(path, 0x230, f"kernel_alignment {alignment:#x} is no power of two of pages")
    if header.version >= _WITH_INIT_SIZE and header.init_size < image.nbytes:
        raise _damaged(path, 0x260, f"init_size {header.init_size:#x} is smaller than the kernel itself")


@dataclass(frozen=True, slots=True)
class _Room:
    window: Range
    size: int
    alignment: int
    relocatable: bool


def _room(header: layouts.Parsed, image: memoryview, entry: Entry) -> _Room:
    tells_size = header.version >= _WITH_INIT_SIZE
    relocatable = header.version >= _WITH_RELOCATION and bool(header.relocatable_kernel)
    size = align_up(header.init_size if tells_size else _unpacked_size(image), 4 * KIB)
    preferred = header.pref_address if tells_size else 0
    if relocatable:
        # Below its preferred address the decompressor would first move itself up, over whatever lies there.
        lowest = max(_LOAD_ADDRESS, preferred)
        end = max(lowest, _kernel_end(header, entry))
        return _Room(Range(lowest, end), size, header.kernel_alignment, relocatable=True)
    if entry is Entry.LONG:
        return _Room(Range.sized(preferred, size), size, header.kernel_alignment, relocatable=False)
    # It moves itself from there to its preferred address: nothing else may lie in either place.
    moved = Range.sized(max(preferred, _LOAD_ADDRESS), size)
    window = Range(_LOAD_ADDRESS, max(moved.end, align_up(_LOAD_ADDRESS + image.nbytes, 4 * KIB)))
    return _Room(window, window.size, 4 * KIB, relocatable=False)


def _unpacked_size(image: memoryview) -> int:
    """Return a generous guess where the header does not tell the size.

    Old kernels unpack to four times their size at most, and need their .bss and the compressed kernel, too.
    """
    return 5 * image.nbytes + 16 * MIB


def _kernel_end(header: layouts.Parsed, entry: Entry) -> int:
    if entry is Entry.LONG:
        return _ADDRESS_SPACE_END
    if _xloadflags(header) & layouts.XLF_KERNEL_64:
        return 4 * GIB
    return min(_initrd_end(header, entry), _LOW_MEMORY_32BIT)


def _initrd_end(header: layouts.Parsed, entry: Entry) -> int:
    # initrd_addr_max applies only to kernels without XLF_CAN_BE_LOADED_ABOVE_4G, and to 32-bit entries
    # (ramdisk_image and ext_ramdisk_image).
    if entry is Entry.LONG:
        return _ADDRESS_SPACE_END
    return int(header.initrd_addr_max) + 1 if header.version >= _WITH_INITRD_LIMIT else _INITRD_END_DEFAULT


def _header_bytes(data: memoryview) -> bytes:
    """Return the setup header, which ends where the jump at 0x200 lands ("the real-mode kernel header")."""
    end = 0x202 + data[0x201] if data.nbytes > 0x201 else 0
    raw = bytes(data[layouts.SETUP_HEADER_OFFSET : end])
    size: int = layouts.SETUP_HEADER.sizeof()
    return raw[:size].ljust(size, b"\0")


def _damaged(path: str, offset: int, what: str) -> ImageError:
    return ImageError(
        f"{path}: damaged bzImage: {what} (offset {offset:#x})", hint="install the kernel again"
    )
