"""The archives that the new kernel unpacks as its first root: join them, add files, tell their sizes.

An initramfs is a chain of cpio archives, each compressed or not
(Documentation/driver-api/early-userspace/buffer-format.rst). Later files replace earlier ones.
"""

import enum
import mmap
import os
import re
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence

from pykexec.errors import FileError, ImageError, UsageError
from pykexec.files import FileData
from pykexec.formats import magic
from pykexec.memory import GIB, KIB, MIB, align_up
from pykexec.values import dataclass

PADDING = 512
"""The alignment of each archive, in bytes. The kernel needs multiples of 4 only (init/initramfs.c
write_buffer, lib/earlycpio.c). But cpio(1) pads its archives to this block and reads in such blocks, so that
repeated calls find every archive in the chain."""

_HEADER = 110
_ENTRIES_MAX = 1 << 18
_ZEROS_MAX = 64 * MIB
_NAME_MAX = 4096  # PATH_MAX
_NESTING_MAX = 4
"""The most compressed parts that may follow, each the next one's beginning."""
_TRAILER = b"TRAILER!!!"
_EARLY = (b"kernel/x86/microcode/", b"kernel/firmware/acpi/")
"""Files that the kernel looks for before it unpacks anything, in uncompressed archives at the very beginning
(Documentation/arch/x86/microcode.rst, Documentation/admin-guide/acpi/initrd_table_override.rst)."""
_EARLY_COMPANIONS = (b".", b"early_cpio", b"kernel")  # dracut marks its archive with a file of that name
_MAY_BE_LINKS = frozenset(
    (
        *("bin", "lib", "lib32", "lib64", "libx32", "sbin"),
        *("usr/bin", "usr/lib", "usr/lib32", "usr/lib64", "usr/libx32", "usr/sbin"),
        *("run", "var/lock", "var/log", "var/run", "var/tmp"),
    )
)
_FOLDER_MODES = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777}
"""Modes other than 0755. The last entry of a folder sets its mode (init/initramfs.c do_name)."""
_SAMPLE = 64 * KIB


class Kind(enum.Enum):
    """What an initramfs begins with."""

    CPIO = "a cpio archive"
    COMPRESSED = "compressed"
    EMPTY = "empty"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Contents:
    """What an initramfs tells without being unpacked."""

    kind: Kind
    description: str
    """A text such as "cpio archive, then zstd"."""
    compression: str | None
    """The compression of what follows the uncompressed archives; None where nothing compressed follows."""
    unpacked: int | None
    """The bytes it takes in memory, roughly; None where it does not tell."""
    has_early_files: bool
    """Whether it begins with microcode or ACPI tables for the kernel."""
    warning: str | None = None
    """Why the kernel will most likely not unpack it; None if nothing speaks against it."""


@dataclass(frozen=True, slots=True)
class Addition:
    """A file to put into an initramfs."""

    path: str
    """Its path in the initramfs, without a leading slash."""
    data: memoryview
    """Its contents."""
    mode: int = 0o644
    """The permissions."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file, folder or link that is in an initramfs."""

    path: str
    """Its path, without a slash at either end."""
    mode: int
    """Its type and permissions, as in st_mode."""
    data: memoryview
    """Its contents; of a symbolic link the target."""


def assemble(parts: Sequence[memoryview], additions: Sequence[Addition] = ()) -> memoryview:
    """Join several initramfs in their order; early files come first, wherever they were.

    A single one without additions is returned as it is. Additions come last, so that they replace files of
    the same name. Raises UsageError for an addition with an impossible path.
    """
    if len(parts) == 1 and not additions:
        return parts[0]
    early: list[memoryview] = []
    rest: list[memoryview] = []
    for part in parts:
        end = _early_end(part)
        early.append(part[:end])
        rest.append(part[end:])
    if additions:
        rest.append(memoryview(newc(additions, alone=not any(each.nbytes for each in parts))))
    return _concatenated([each for each in (*early, *rest) if each.nbytes])


def members(name: str, data: memoryview) -> Iterator[Member]:
    """Yield all files of an initramfs, those of its compressed part, too, in the order of unpacking.

    `name` is the image's, for errors. Raises ImageError for a damaged image, and for one that nothing here
    can unpack.
    """
    for _ in range(_NESTING_MAX):
        at = yield from _members(data)
        data = data[_behind_zeros(data, at) :]
        packed = magic.compression(data)
        if packed is None:
            break
        from pykexec.formats import compression

        data = memoryview(compression.decompress(name, data, packed))
    if data.nbytes:
        raise ImageError(f"{name}: no initramfs: neither a cpio archive nor compressed")


def _members(data: memoryview) -> Generator[Member, None, int]:
    """Yield the files of the uncompressed archives at the beginning; return where they end."""
    at = 0
    while bytes(data[(at := _behind_zeros(data, at)) :][:6]) in magic.CPIO:
        entry = _entry(data, at)
        if entry.name != _TRAILER:
            path = os.fsdecode(entry.name).removeprefix("./").strip("/")
            yield Member(path, entry.mode, data[entry.start :][: entry.size])
        at = entry.end
    return at


def empty() -> bytes:
    """Return an initramfs without any file."""
    return newc(())


def newc(additions: Iterable[Addition], *, alone: bool = True) -> bytes:
    """Return a cpio archive of these files and their folders; the same files always make the same bytes.

    With `alone` false the archive follows another one. Then it leaves out folders that are symbolic links in
    many an initramfs (/lib to usr/lib), because the kernel would replace the link by an empty folder
    (init/initramfs.c clean_path). Raises UsageError for an impossible path.
    """
    files = {_checked_path(each.path): each for each in additions}
    folders = {"/".join(parts[:end]) for parts in map(_split, files) for end in range(1, len(parts))}
    if clash := sorted(folders & files.keys()):
        raise UsageError(f"/{clash[0]} cannot be both a file and a folder of the initramfs")
    if not alone:
        folders -= _MAY_BE_LINKS
    output = bytearray()
    for inode, path in enumerate(sorted(folders | files.keys()), start=1):
        if path in files:
            file = files[path]
            _write_entry(output, inode, path, stat.S_IFREG | file.mode & 0o7777, file.data)
        else:
            mode = stat.S_IFDIR | _FOLDER_MODES.get(path, 0o755)
            _write_entry(output, inode, path, mode, memoryview(b""))
    _write_entry(output, 0, _TRAILER.decode(), 0, memoryview(b""))
    output += bytes(-len(output) % PADDING)
    return bytes(output)


def read_addition(text: str) -> Addition:
    """Read the file that SOURCE:DESTINATION names: its path here and its path in the initramfs.

    Raises UsageError for a text of another form, FileError when the file cannot be read.
    """
    source, colon, destination = text.rpartition(":")
    if not colon or not source:
        raise UsageError(f"{text}: not SOURCE:DESTINATION, a file and where it goes in the initramfs")
    if destination.endswith("/"):
        destination += source.rpartition("/")[2]
    try:
        mode = os.stat(source).st_mode  # noqa: PTH116 (pathlib takes longer to import than all else here)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot read {source}: {getattr(error, 'strerror', error)}") from error
    if not stat.S_ISREG(mode):
        raise FileError(f"cannot put {source} into the initramfs: it is no file")
    file = FileData.open(source, "file for the initramfs")
    return Addition(_checked_path(destination), file.data, stat.S_IMODE(mode))


def inspect(data: memoryview) -> Contents:
    """Look at an initramfs: its archives' headers, and the beginning and end of its compressed part.

    Never raises: what is not understood is `Kind.UNKNOWN`, with a warning.
    """
    if not data.nbytes:
        return Contents(Kind.EMPTY, "empty", None, 0, False)
    try:
        chain = _walk(data)
    except ImageError as error:
        return Contents(Kind.UNKNOWN, "a damaged cpio archive", None, None, False, error.what)
    packed = magic.compression(data[chain.end :])
    names = ["cpio archive"] if chain.archives else []
    if packed:
        names.append(packed)
    if chain.end < data.nbytes and not packed:
        return _unknown(data, chain)
    size = _packed_size(data[chain.end :], packed) if packed else 0
    unpacked = None if size is None else chain.size + size
    if not chain.files and not packed:
        return Contents(Kind.EMPTY, "empty", None, 0, False)
    kind = Kind.CPIO if chain.archives else Kind.COMPRESSED
    warning = None if chain.is_whole else "its last archive has no end mark: the file may be truncated"
    return Contents(kind, ", then ".join(names), packed, unpacked, bool(_early_end(data)), warning)


def _unknown(data: memoryview, chain: "_Chain") -> Contents:
    from pykexec.formats import identify

    what = identify.describe(data[chain.end :]) or f"{bytes(data[chain.end :][:8]).hex(' ')} ..."
    where = f" behind its archives, at offset {chain.end:#x}" if chain.archives else ""
    warning = f"no initramfs{where}: {what}; a kernel takes that for the image of a RAM disk, or ignores it"
    return Contents(Kind.UNKNOWN, what, None, None, bool(_early_end(data)), warning)


@dataclass(frozen=True, slots=True)
class _Chain:
    """The uncompressed archives at the beginning."""

    end: int
    archives: int
    files: int
    size: int
    is_whole: bool
    """Whether the last archive has the entry that ends it."""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes
    mode: int
    start: int
    """The offset of its content."""
    size: int
    end: int
    """The offset of the next entry."""


def _walk(data: memoryview) -> _Chain:
    archives = files = size = at = 0
    in_archive = False
    while (at := _behind_zeros(data, at)) < data.nbytes:
        if bytes(data[at : at + 6]) not in magic.CPIO:
            if in_archive:
                raise ImageError(f"damaged initramfs: no cpio header at offset {at:#x}")
            break
        entry = _entry(data, at)
        at = entry.end
        archives += not in_archive
        in_archive = entry.name != _TRAILER
        files += in_archive
        size += align_up(entry.size, 4 * KIB)
        if files > _ENTRIES_MAX:
            raise ImageError(f"an initramfs of more than {_ENTRIES_MAX} files")
    return _Chain(min(at, data.nbytes), archives, files, size, is_whole=not in_archive)


def _entry(data: memoryview, at: int) -> _Entry:
    """Return the file whose header is at that offset. Raises ImageError."""
    header = bytes(data[at : at + _HEADER])
    if not re.fullmatch(rb"07070[12][0-9A-Fa-f]{104}", header):
        raise ImageError(f"damaged or truncated initramfs: no cpio header at offset {at:#x}")
    mode, size, name_size = (int(header[start : start + 8], 16) for start in (14, 54, 94))
    name_at = at + _HEADER
    body = align_up(name_at + name_size, 4)
    if name_size > _NAME_MAX or body + size > data.nbytes:
        raise ImageError(f"truncated initramfs: the file at offset {at:#x} does not end in it")
    name = bytes(data[name_at : name_at + name_size]).rstrip(b"\0")
    return _Entry(name, mode, body, size, align_up(body + size, 4))


def _behind_zeros(data: memoryview, at: int) -> int:
    """Return where the next archive may begin, after zeros; at most `_ZEROS_MAX` of them are skipped."""
    limit = at + _ZEROS_MAX
    while at < min(data.nbytes, limit):
        if data[at]:
            return at
        piece = bytes(data[at : at + _SAMPLE])
        if piece != bytes(len(piece)):  # hundreds of times as fast as to strip them
            return at + len(piece) - len(piece.lstrip(b"\0"))
        at += len(piece)
    return at


def _early_end(data: memoryview) -> int:
    """Return the end of the uncompressed archives that hold only early files; 0 where there are none."""
    end = at = 0
    found = False
    try:
        while bytes(data[at : at + 6]) in magic.CPIO:
            entry = _entry(data, at)
            at = entry.end
            if entry.name == _TRAILER:
                at = end = _behind_zeros(data, at)
                continue
            found = found or entry.name.startswith(_EARLY)
            if not entry.name.startswith(b"kernel/") and entry.name not in _EARLY_COMPANIONS:
                break
    except ImageError:
        pass  # inspect() reports the damage
    return min(end, data.nbytes) if found else 0


def _concatenated(pieces: Sequence[memoryview]) -> memoryview:
    places: list[int] = []
    end = 0
    for piece in pieces:
        start = align_up(end, PADDING)
        places.append(start)
        end = start + piece.nbytes
    if not end:
        return memoryview(b"")
    # Joining bytes would hold everything twice, and this may be hundreds of MiB.
    joined = memoryview(mmap.mmap(-1, end))
    for start, piece in zip(places, pieces, strict=True):
        joined[start : start + piece.nbytes] = piece
    return joined


def _write_entry(output: bytearray, inode: int, path: str, mode: int, data: memoryview) -> None:
    name = os.fsencode(path) + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, data.nbytes, 0, 0, 0, 0, len(name), 0)
    if data.nbytes >= 4 * GIB:
        raise UsageError(
            f"/{path}: a file of an initramfs has less than 4 GiB, this has {data.nbytes} bytes"
        )
    for part in (b"070701" + b"".join(b"%08X" % each for each in fields) + name, data):
        output += part
        output += bytes(-len(output) % 4)


def _checked_path(path: str) -> str:
    parts = _split(path)
    try:
        encoded = os.fsencode("/".join(parts))
    except UnicodeEncodeError:
        parts, encoded = [], b""
    if not parts or ".." in parts or b"\0" in encoded or len(encoded) >= _NAME_MAX:
        raise UsageError(f"{path!r} is no path for a file of an initramfs")
    if encoded == _TRAILER:
        raise UsageError(f"{path} cannot be in an initramfs: the name marks the end of an archive")
    return "/".join(parts)


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _packed_size(data: memoryview, name: str) -> int | None:
    """Return the unpacked size that compressed data states, in bytes; None where it states none."""
    tell = {"gzip": _gzip_size, "xz": _xz_size, "lzma": _lzma_size, "zstd": _zstd_size, "lz4": _lz4_size}
    return tell[name](data) if name in tell else None


def _gzip_size(data: memoryview) -> int | None:
    """Return the last four bytes (ISIZE, RFC 1952); wrong for several members, or with padding behind."""
    size = int.from_bytes(data[-4:], "little")
    # Deflate cannot do better than 1:1032, and hardly worse than 1:1.
    return size if data.nbytes * 9 // 10 - 64 <= size <= data.nbytes * 1032 else None


def _xz_size(data: memoryview) -> int | None:
    """Add the blocks' sizes from the index, whose size is in the footer (.xz file format, 2.1.2 and 4)."""
    end = data.nbytes - len(data[-_SAMPLE:]) + len(bytes(data[-_SAMPLE:]).rstrip(b"\0"))
    footer = bytes(data[end - 12 : end]) if end >= 32 else b""
    if footer[10:] != b"YZ":
        return None
    index_size = 4 * (int.from_bytes(footer[4:8], "little") + 1)
    index = bytes(data[max(end - 12 - index_size, 0) : end - 12][:_SAMPLE])
    numbers = _multibyte_integers(index[1:])
    count = next(numbers, 0)
    sizes = [size for size, _ in zip(numbers, range(2 * count), strict=False)]
    if index[:1] != b"\0" or not count or len(sizes) < 2 * count:
        return None
    return sum(sizes[1::2])


def _multibyte_integers(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80 or shift > 63:
            yield value
            value = shift = 0


def _lzma_size(data: memoryview) -> int | None:
    """Return the eight bytes at offset 5 (lzma-file-format.txt); all ones mean that the size is unknown."""
    size = int.from_bytes(data[5:13], "little")
    return size if size < 1 << 48 else None


def _zstd_size(data: memoryview) -> int | None:
    """Return Frame_Content_Size (RFC 8878, 3.1.1.1), if the first frame has one."""
    descriptor = data[4] if data.nbytes > 4 else 0
    is_single_segment = bool(descriptor & 0x20)
    width = (int(is_single_segment), 2, 4, 8)[descriptor >> 6]
    at = 5 + (not is_single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if not width or data.nbytes < at + width:
        return None
    return int.from_bytes(data[at : at + width], "little") + (256 if width == 2 else 0)


def _lz4_size(data: memoryview) -> int | None:
    """Return Content Size (lz4_Frame_format.md), if FLG says that there is one; legacy frames have none."""
    if bytes(data[:4]) != b"\x04\x22\x4d\x18" or data.nbytes < 15 or not data[4] & 0x08:
        return None
    return int.from_bytes(data[6:14], "little")
