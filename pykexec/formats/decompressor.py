"""What unpacks one compressed stream, whatever it is compressed with."""

from typing import Protocol


class Decompressor(Protocol):
    """Of one stream, bit by bit: as bz2, lzma, lz4 and Python's own zstd have it; others are made to fit."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...
