"""Unpack pages of the kdump-compressed format: one page at a time, of known size."""

import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from pykexec.formats import zstd
from pykexec.vmcore.errors import DumpError


class DamagedPageError(ValueError):
    """The data is not of that compression, or does not make one page."""


def unpack(name: str, data: bytes, size: int) -> bytes:
    """Return the page of `size` bytes. Raises DamagedPageError, or DumpError when a package is missing."""
    page = _UNPACK[name](data, size)
    if len(page) != size:
        raise DamagedPageError(f"{len(page)} bytes instead of {size}")
    return page


def looks_right(name: str, data: bytes, size: int) -> bool:
    """Return whether packed data begins and ends as its compressor's output for one page does.

    `size` is the page's, in bytes.
    """
    return _LOOKS[name](data, size)


def _like_zlib(data: bytes, size: int) -> bool:
    """Check the header (RFC 1950, 2.2)."""
    return data[:1] != b"" and data[0] & 0xF == 8 and int.from_bytes(data[:2]) % 31 == 0


def _like_lzo(data: bytes, size: int) -> bool:
    """Check the end mark of LZO1X (Documentation/staging/lzo.rst)."""
    return data.endswith(b"\x11\0\0")


def _like_snappy(data: bytes, size: int) -> bool:
    """Check the unpacked size, which comes first, seven bits a byte (format_description.txt, 1)."""
    head = b""
    while size > 0x7F:
        head += bytes([size & 0x7F | 0x80])
        size >>= 7
    return data.startswith(head + bytes([size]))


def _like_zstd(data: bytes, size: int) -> bool:
    """Check the magic (RFC 8878, 3.1.1)."""
    return data.startswith(b"\x28\xb5\x2f\xfd")


_LOOKS: Mapping[str, Callable[[bytes, int], bool]] = MappingProxyType(
    {"zlib": _like_zlib, "lzo": _like_lzo, "snappy": _like_snappy, "zstd": _like_zstd}
)


def _unzlib(data: bytes, size: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        page = unpacker.decompress(data, size + 1)
    except zlib.error as error:
        raise DamagedPageError(str(error)) from error
    if not unpacker.eof:  # zlib compares the checksum only at the end
        raise DamagedPageError("it does not end with the page")
    return page


def _unzstd(data: bytes, size: int) -> bytes:
    try:
        new, damage = zstd.implementation()
    except ImportError:
        raise DumpError(
            f"the dump's pages are compressed with zstd, which takes the Python package {zstd.PACKAGE}",
            hint=f"pip install {zstd.PACKAGE} (or Debian's python3-{zstd.PACKAGE})",
        ) from None
    try:
        return new().decompress(data, size + 1)
    except (damage, ValueError, RuntimeError, EOFError, OSError, MemoryError) as error:
        raise DamagedPageError(str(error)) from error


class _Output:
    """The data unpacked so far; copies refer back into it."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self._limit = limit

    def literal(self, data: bytes, position: int, length: int) -> int:
        """Take `length` bytes of the input; return the position after them."""
        end = position + length
        if end > len(data):
            raise DamagedPageError("truncated")
        self._check(length)
        self.data += data[position:end]
        return end

    def copy(self, distance: int, length: int) -> None:
        """Repeat the data from `distance` bytes before the end; source and copy may overlap."""
        start = len(self.data) - distance
        if start < 0 or distance == 0:
            raise DamagedPageError("a reference to before the start")
        self._check(length)
        if distance >= length:
            self.data += self.data[start : start + length]
        else:
            pattern = bytes(self.data[start:])
            self.data += (pattern * (length // distance + 1))[:length]

    def _check(self, length: int) -> None:
        if len(self.data) + length > self._limit:
            raise DamagedPageError("more than a page")


def _unsnappy(data: bytes, size: int) -> bytes:
    """Unpack Snappy's raw format (format_description.txt of the snappy sources)."""
    length, position = _snappy_length(data)
    if length != size:
        raise DamagedPageError(f"{length} bytes instead of {size}")
    output = _Output(size)
    while position < len(data):
        tag = data[position]
        position += 1
        kind, upper = tag & 3, tag >> 2
        if kind == 0:
            count = upper + 1
            if upper >= 60:  # the length is in the following 1 to 4 bytes
                extra = upper - 59
                count = _little(data, position, extra) + 1
                position += extra
            position = output.literal(data, position, count)
        elif kind == 1:
            low = _little(data, position, 1)
            output.copy((tag >> 5) << 8 | low, (upper & 7) + 4)
            position += 1
        else:
            width = 2 if kind == 2 else 4
            output.copy(_little(data, position, width), upper + 1)
            position += width
    return bytes(output.data)


def _snappy_length(data: bytes) -> tuple[int, int]:
    value = 0
    for index in range(5):
        if index == len(data):
            break
        value |= (data[index] & 0x7F) << (7 * index)
        if not data[index] & 0x80:
            return value, index + 1
    raise DamagedPageError("its length does not end")


def _little(data: bytes, position: int, size: int) -> int:
    if position + size > len(data):
        raise DamagedPageError("truncated")
    return int.from_bytes(data[position : position + size], "little")


_AFTER_LONG_LITERAL = 4


def _unlzo(data: bytes, size: int) -> bytes:
    """Unpack LZO1X (Documentation/staging/lzo.rst of the kernel sources)."""
    output, position, state = _Output(size), 0, 0
    if data and data[0] > 17:
        length = data[0] - 17
        position = output.literal(data, 1, length)
        state = min(length, _AFTER_LONG_LITERAL)
    while True:
        code = _little(data, position, 1)
        position += 1
        if code < 16 and state == 0:
            length, position = _lzo_length(data, position, code & 15, 15)
            position = output.literal(data, position, length + 3)
            state = _AFTER_LONG_LITERAL
            continue
        if code < 16:
            near = state != _AFTER_LONG_LITERAL
            distance = (_little(data, position, 1) << 2) + (code >> 2) + (1 if near else 2049)
            length, trailing, position = (2 if near else 3), code & 3, position + 1
        elif code < 64:
            mask = 7 if code < 32 else 31
            length, position = _lzo_length(data, position, code & mask, mask)
            word = _little(data, position, 2)
            length, trailing, position = length + 2, word & 3, position + 2
            distance = (word >> 2) + (16384 + ((code & 8) << 11) if code < 32 else 1)
            if code < 32 and distance == 16384:  # the end mark
                return bytes(output.data)
        else:
            distance = (_little(data, position, 1) << 3) + ((code >> 2) & 7) + 1
            length = 3 + ((code >> 5) & 1) if code < 128 else 5 + ((code >> 5) & 3)
            trailing, position = code & 3, position + 1
        output.copy(distance, length)
        position = output.literal(data, position, trailing)
        state = trailing


def _lzo_length(data: bytes, position: int, bits: int, mask: int) -> tuple[int, int]:
    """Return a length and the position after it.

    A length that does not fit its bits goes on in bytes: each zero counts 255.
    """
    if bits:
        return bits, position
    end = position
    while end < len(data) and data[end] == 0:
        end += 1
    return mask + 255 * (end - position) + _little(data, end, 1), end + 1


_UNPACK: dict[str, Callable[[bytes, int], bytes]] = {
    "zlib": _unzlib,
    "lzo": _unlzo,
    "snappy": _unsnappy,
    "zstd": _unzstd,
}
