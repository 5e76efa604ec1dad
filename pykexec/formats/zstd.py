"""zstd: what Python's own library unpacks since 3.14 (PEP 784), and the package zstandard before."""

from collections.abc import Callable
from typing import Any

from pykexec.formats.decompressor import Decompressor

PACKAGE = "zstandard"


def implementation() -> tuple[Callable[[], Decompressor], type[Exception]]:
    """What makes a decompressor, and its error for damaged data. Raises ImportError where there is none."""
    try:
        own: Any = __import__("compression.zstd").zstd
    except ImportError:
        import zstandard

        return _OfPackage, zstandard.ZstdError
    return own.ZstdDecompressor, own.ZstdError


class _OfPackage:
    """zstandard gives all that the input holds: so that this stays little, it is fed little.

    Four bytes can stand for a block of 128 KiB (RFC 8878, RLE_Block): 512 of them for 16 MiB.
    """

    _PIECE = 512

    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor().decompressobj()
        self._pending = memoryview(b"")

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def needs_input(self) -> bool:
        return not self._pending.nbytes

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data) + bytes(self._pending)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        self._pending = self._pending if self._pending.nbytes else memoryview(data)
        found = bytearray()
        while self._pending.nbytes and len(found) < max_length and not self.eof:
            found += self._inner.decompress(self._pending[: self._PIECE])
            self._pending = self._pending[self._PIECE :]
        return bytes(found)
