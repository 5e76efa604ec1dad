"""Compressed kernels: recognised by their first bytes, unpacked with bounded memory."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping

from pykexec.errors import ImageError
from pykexec.formats import magic, zstd
from pykexec.formats.decompressor import Decompressor
from pykexec.memory import KIB, MIB


class NoLibrary(ImageError):
    """No library is there that unpacks data of that kind."""


_SIZE_MAX = 1024 * MIB
_ALWAYS_ALLOWED, _RATIO_MAX = 64 * MIB, 20
"""Where a decompression bomb is stopped: kernels are not larger, and become a tenth at the very best."""
_STEP = 4 * MIB
_STEP_OF_MANY = 64 * KIB
_STREAMS_MAX = 16384
"""Pieces of 64 KiB, which is the least that tools make, of so much."""


class _Gzip:
    """zlib keeps what it had no room for in an attribute instead of inside."""

    def __init__(self) -> None:
        gzip_header = 16
        self._inner = zlib.decompressobj(zlib.MAX_WBITS | gzip_header)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail or data, max_length)


def _zstd() -> Decompressor:
    return zstd.implementation()[0]()


_LEGACY_LZ4 = b"\x02\x21\x4c\x18"
_LEGACY_BLOCK = 8 * MIB  # lz4's legacy frame: what each block but the last has in it
_LEGACY_BLOCK_MAX = _LEGACY_BLOCK + _LEGACY_BLOCK // 255 + 16  # its LZ4_COMPRESSBOUND


def _legacy_lz4(path: str, data: memoryview) -> Iterator[bytes]:
    """A size and a block, over and over to the end of the file, or to a size of zero.

    Kernels have four more bytes behind the last block, the size of it all (scripts/Makefile.lib).
    """
    import lz4.block

    at = 0
    while data.nbytes - at > 4:
        start = at + 4
        if bytes(data[at:start]) == _LEGACY_LZ4:
            at = start
            continue
        size = int.from_bytes(data[at:start], "little")
        if not size:
            return
        if size > _LEGACY_BLOCK_MAX:
            raise ImageError(f"{path}: damaged lz4 data: a block of {size} bytes at offset {at:#x}")
        if start + size > data.nbytes:
            raise _endless(path)
        yield lz4.block.decompress(data[start : start + size], uncompressed_size=_LEGACY_BLOCK)
        at = start + size


def _lz4() -> Decompressor:
    import lz4.frame

    return lz4.frame.LZ4FrameDecompressor()  # type: ignore[no-any-return]


_DECOMPRESSORS: Mapping[str, Callable[[], Decompressor]] = {
    "gzip": _Gzip,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE),
    "bzip2": bz2.BZ2Decompressor,
    "zstd": _zstd,
    "lz4": _lz4,
}
_PACKAGES: Mapping[str, str] = {"zstd": zstd.PACKAGE, "lz4": "lz4"}
"""What takes a package: Python's own library has no zstd before 3.14, and no lz4."""
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, MemoryError, zlib.error, lzma.LZMAError)


def decompress(path: str, data: memoryview, name: str) -> bytes:
    """The contents. Raises ImageError when they are damaged, or nothing here can unpack them."""
    return b"".join(pieces(path, data, name))


def pieces(path: str, data: memoryview, name: str, size_max: int | None = None) -> Iterator[bytes]:
    """The contents bit by bit, for who needs the beginning only; `name` is of `magic.COMPRESSIONS`.

    Raises ImageError when they are damaged or cut off, unpack to more than `size_max` bytes (by default more
    than a kernel can have), or nothing here can unpack them.
    """
    limit = size_max
    if limit is None:
        limit = min(_ALWAYS_ALLOWED + _RATIO_MAX * data.nbytes, _SIZE_MAX)
    total = 0
    try:
        for piece in _opened(path, data, name):
            total += len(piece)
            if total > limit:
                raise ImageError(f"{path}: unpacks to more than {limit // MIB} MiB, which nothing here does")
            yield piece
    except ImportError:
        if name not in _PACKAGES:
            raise
        package = _PACKAGES[name]
        raise NoLibrary(
            f"{path}: compressed with {name}, which takes the Python package {package}",
            hint=f"pip install {package}, or unpack it: {name} -d",
        ) from None
    except ImageError:
        raise
    except Exception as error:  # zstandard's and lz4's errors have no base of their own
        if name not in _PACKAGES and not isinstance(error, _DAMAGE):
            raise
        raise ImageError(f"{path}: damaged {name} data: {error}") from error


def _opened(path: str, data: memoryview, name: str) -> Iterator[bytes]:
    if name not in _DECOMPRESSORS:
        raise ImageError(
            f"{path}: compressed with {name}, which pykexec cannot unpack", hint=f"unpack it: {name} -d"
        )
    if name == "lz4" and bytes(data[:4]) == _LEGACY_LZ4:
        return _legacy_lz4(path, data)
    return _streams(path, data, name)


def _streams(path: str, data: memoryview, name: str) -> Iterator[bytes]:
    """One after the other, as tools that work in parallel write them (pbzip2, pzstd); others may follow."""
    for number in range(_STREAMS_MAX):
        decompressor = _DECOMPRESSORS[name]()
        data = magic.behind_skippable(data)
        # What is behind the end of a short one is copied in vain.
        step = _STEP if not number else _STEP_OF_MANY
        position = 0
        while not decompressor.eof:
            taken = b""
            if decompressor.needs_input:
                taken = bytes(data[position : position + step])
                position += len(taken)
                if not taken:
                    raise _endless(path)
            yield decompressor.decompress(taken, _STEP)
        data = data[position - len(decompressor.unused_data or b"") :]
        if magic.compression(data) != name:
            return
    raise ImageError(f"{path}: more than {_STREAMS_MAX} pieces of {name} data, which no kernel is made of")


def _endless(path: str) -> ImageError:
    return ImageError(f"{path}: truncated: its compressed data does not end")
