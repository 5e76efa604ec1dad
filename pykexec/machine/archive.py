"""A snapshot as a root: the files of another machine in a .tar.

Snapshots come from strangers, and tarfile is not made for those: it believes the sizes and names in headers,
follows headers that announce headers by recursion, and keeps each member in memory. Here the archive is read
once, in one direction, and every number is checked before it is used. The format: pax(1p), "ustar
Interchange Format" and "pax Header Block", and tar(5) for GNU's long names.
"""

import bisect
import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pykexec.errors import MachineError
from pykexec.machine.root import Root, unreadable
from pykexec.memory import MIB

_TOTAL_MAX = 32 * MIB
"""The largest unpacked archive, in bytes: snapshots of large machines have a few MiB."""
_MEMBERS_MAX = 1 << 15
_NAME_MAX = 4096  # PATH_MAX
_RECORDS_MAX = 64
_BLOCK = 512
_PIECE = 64 << 10
_OPENERS: Mapping[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZ": bz2.open,
    b"\xfd7": lzma.open,
}
_DAMAGE = (EOFError, ValueError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
"""What the reader below and the decompressors raise for damaged data."""

_FILES = (b"0", b"\0", b"7")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # whatever their size says
_SPARSE, _PAX, _GNU_NAME = b"S", b"x", b"L"


class Archive(Root):
    """A snapshot in a .tar, compressed or not; read into memory, never unpacked.

    Only plain files count: links and devices are ignored. Names are compared as they are, so that nothing
    outside the archive can be reached.
    """

    def __init__(self, archive: Path) -> None:
        """Read the archive. Raises MachineError when it is none, or an absurdly large one."""
        try:
            with archive.open("rb") as file:
                head = file.read(2)
            with _OPENERS.get(head, open)(archive, "rb") as file:
                self._files = {name.removeprefix("./"): data for name, data in _Reader(file).files()}
        except _TooLargeError:
            raise MachineError(
                f"cannot read the snapshot {archive}: more than {_TOTAL_MAX // MIB} MiB or"
                f" {_MEMBERS_MAX} files",
                hint="pykexec --snapshot makes one",
            ) from None
        except _DAMAGE as error:
            raise MachineError(
                f"cannot read the snapshot {archive}: no tar archive, or a damaged one ({error})",
                hint="pykexec --snapshot makes one",
            ) from error
        except OSError as error:
            raise unreadable(archive, error) from error
        self._names = sorted(self._files)

    def open(self, path: str) -> IO[bytes] | None:
        data = self._files.get(path)
        return None if data is None else io.BytesIO(data)

    def names(self, path: str) -> list[str]:
        return [name for name, _ in self.entries(path)]

    def entries(self, path: str) -> list[tuple[str, bool]]:
        # Search all names: a table of folders is larger than the archive where the names are deep.
        prefix = f"{path}/" if path else ""
        found: dict[str, bool] = {}
        at = bisect.bisect_left(self._names, prefix)
        while at < len(self._names) and self._names[at].startswith(prefix):
            name, slash, _ = self._names[at][len(prefix) :].partition("/")
            found[name] = bool(slash)
            behind = chr(ord("/") + 1)
            at = bisect.bisect_left(self._names, prefix + name + behind, at) if slash else at + 1
        return sorted(found.items())


class _TooLargeError(Exception):
    """The archive holds more than any snapshot does."""


class _Reader:
    """Reads a stream once. Raises ValueError for what is no tar archive, and _TooLargeError."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = _TOTAL_MAX

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of the plain files."""
        told: dict[str, bytes] = {}  # from headers that describe the next member
        for _ in range(_MEMBERS_MAX):
            header = self._take(_BLOCK)
            if not header.strip(b"\0"):
                if told:
                    raise ValueError("a header announces a member that is not there")
                return
            kind, size = _kind(header), _number(header[124:136])
            if kind == _SPARSE:
                raise ValueError("a sparse file")
            if kind in (_PAX, _GNU_NAME):
                data = self._contents(size)
                told |= _records(data) if kind == _PAX else {"path": data.rstrip(b"\0")}
                continue
            name = told.get("path") or _name(header)
            if "size" in told:
                size = int(told["size"]) if told["size"].isdigit() else -1
            if kind in _WITHOUT_DATA:
                size = 0
            if len(name) > _NAME_MAX or size < 0:
                raise ValueError("a name or a size that makes no sense")
            told = {}
            data = self._contents(size)
            if kind in _FILES and not name.endswith(b"/"):
                yield name.decode("utf-8", "surrogateescape"), data
        raise _TooLargeError

    def _contents(self, size: int) -> bytes:
        if size > self._left:
            raise _TooLargeError
        data = self._take(size)
        self._take(-size % _BLOCK)
        return data

    def _take(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise _TooLargeError
        data = bytearray()
        while piece := self._stream.read(min(size - len(data), _PIECE)):
            data += piece
        if len(data) < size:
            raise EOFError("truncated")
        return bytes(data)


def _kind(header: bytes) -> bytes:
    """Return the type of a header. Raises ValueError where its checksum is wrong."""
    if _number(header[148:156]) != sum(header[:148]) + sum(b" " * 8) + sum(header[156:]):
        raise ValueError("a header's checksum is wrong")
    return header[156:157]


def _number(field: bytes) -> int:
    """Return a number: octal digits or, as GNU tar writes larger ones, base 256 after a byte of 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    digits = field.partition(b"\0")[0].strip()
    if not digits.isdigit() and digits:
        raise ValueError("a header has no number where one belongs")
    return int(digits or b"0", 8)


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _records(data: bytes) -> dict[str, bytes]:
    """Read lines of the form LENGTH NAME=VALUE, of which path and size matter."""
    found: dict[str, bytes] = {}
    at = 0
    for _ in range(_RECORDS_MAX):
        if at >= len(data):
            return found
        digits, blank, _ = data[at : at + 20].partition(b" ")
        end = at + int(digits) if blank and digits.isdigit() else at
        name, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not equals or data[end - 1 : end] != b"\n":
            raise ValueError("a damaged pax header")
        if name in (b"path", b"size"):
            found[name.decode()] = value
        at = end
    raise ValueError(f"more than {_RECORDS_MAX} records in a pax header")
