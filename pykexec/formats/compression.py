"""Compressed kernels: recognised by their first bytes, unpacked with bounded memory."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from pykexec.errors import ImageError
from pykexec.memory import MIB

_SIZE_MAX = 1024 * MIB
"""More than any kernel has; where a decompression bomb is stopped."""
_STEP = 4 * MIB


class _Decompressor(Protocol):
    """What bz2 and lzma have in common; zlib's is made to fit."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


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

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail or data, max_length)


_DECOMPRESSORS: Mapping[str, Callable[[], _Decompressor]] = {
    "gzip": _Gzip,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE),
    "bzip2": bz2.BZ2Decompressor,
}


def decompress(path: str, data: memoryview, name: str) -> bytes:
    """The contents. Raises ImageError when they are damaged, or nothing here can unpack them."""
    make = _DECOMPRESSORS.get(name)
    try:
        if make is not None:
            return b"".join(_pieces(path, data, make()))
        return _with_package(path, data, name)
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError) as error:
        raise ImageError(f"{path}: damaged {name} data: {error}") from error


def _pieces(path: str, data: memoryview, decompressor: _Decompressor) -> Iterator[bytes]:
    position = total = 0
    while not decompressor.eof:
        taken = b""
        if decompressor.needs_input:
            taken = bytes(data[position : position + _STEP])
            position += len(taken)
            if not taken:
                raise ImageError(f"{path}: truncated: its compressed data does not end")
        piece = decompressor.decompress(taken, _STEP)
        total += len(piece)
        if total > _SIZE_MAX:
            raise ImageError(f"{path}: unpacks to more than {_SIZE_MAX // MIB} MiB, which no kernel does")
        yield piece


def _with_package(path: str, data: memoryview, name: str) -> bytes:
    """zstd and lz4, which Python's own library does not have before 3.14, if at all."""
    try:
        module: Any = __import__({"zstd": "zstandard", "lz4": "lz4.frame"}[name])
    except ImportError:
        package = {"zstd": "zstandard", "lz4": "lz4"}[name]
        raise ImageError(
            f"{path}: compressed with {name}, which takes the Python package {package}",
            hint=f"pip install {package}, or unpack it: {name} -d",
        ) from None
    if name == "lz4":
        unpacked: bytes = module.frame.decompress(bytes(data[:]))
        return unpacked
    reader = module.ZstdDecompressor().stream_reader(data)
    content: bytes = reader.read(_SIZE_MAX + 1)
    if len(content) > _SIZE_MAX:
        raise ImageError(f"{path}: unpacks to more than {_SIZE_MAX // MIB} MiB, which no kernel does")
    return content
