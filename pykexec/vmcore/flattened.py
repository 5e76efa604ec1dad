"""Read makedumpfile's flattened format (-F): a stream of blocks, each with its place in the real file.

The layout is from makedumpfile.h: a header in the first 4096 bytes, then blocks that begin with the offset
and the size of their contents. Numbers are big-endian. The block (-1, -1) ends the stream.
"""

import struct
from array import array

from pykexec.vmcore.errors import DumpError
from pykexec.vmcore.pieces import Pieces
from pykexec.vmcore.source import Source

SIGNATURE = b"makedumpfile\0\0\0\0"
_HEADER = struct.Struct(">16sqq")
_HEADER_SIZE = 4096
_BLOCK = struct.Struct(">qq")
_TYPE, _VERSION = 1, 1
_END = (-1, -1)
_BLOCKS_MAX = 1 << 21
"""makedumpfile writes blocks of up to 4 MiB, so this is some TiB. Each block takes 24 bytes here."""

_FEW, _SIZE_LEAST = 1 << 16, 512
"""It would take a minute to find the damage in a file of blocks of a few bytes each."""


class FlattenedFile:
    """The real file that the stream stands for, read in place."""

    container = ", flattened"

    def __init__(self, stream: Source) -> None:
        """Read the blocks' headers. Raises DumpError when they are damaged."""
        self._stream = stream
        self.name = stream.name
        self._pieces, complete = _index(stream)
        self.damage = stream.damage
        if not complete:
            self.damage += ("truncated: the flattened format's end mark is missing",)
        self.size = self._pieces.end

    def read_at(self, offset: int, size: int) -> bytes:
        """Return contents; zeros where nothing was written, as in the file that -R makes."""
        size = min(size, self.size - offset)
        if offset < 0 or size <= 0:
            return b""
        parts = self._pieces.read(offset, size, self._stream.read_at)
        return b"".join(bytes(part) if isinstance(part, int) else part for part in parts)

    def read_written(self, offset: int, size: int) -> bytes:
        """Return contents up to the first gap: what was lost with the stream's end is not full of zeros."""
        found = bytearray()
        for part in self._pieces.read(offset, min(size, max(self.size - offset, 0)), self._stream.read_at):
            if isinstance(part, int):
                break
            found += part
        return bytes(found)


def _index(stream: Source) -> tuple[Pieces, bool]:
    """Return where each block's contents are, and whether the end mark is there."""
    header = stream.read_at(0, _HEADER.size)
    if len(header) < _HEADER.size:
        raise DumpError(f"{stream.name}: truncated in the flattened format's header")
    _, kind, version = _HEADER.unpack(header)
    if (kind, version) != (_TYPE, _VERSION):
        raise DumpError(
            f"{stream.name}: flattened format of type {kind}, version {version}; 1 and 1 are known"
        )
    starts, ends, places = array("Q"), array("Q"), array("Q")
    position, complete = _HEADER_SIZE, False
    while position + _BLOCK.size <= stream.size:
        offset, size = _BLOCK.unpack(stream.read_at(position, _BLOCK.size))
        if (offset, size) == _END:
            complete = True
            break
        if offset < 0 or size <= 0 or offset + size >= 1 << 63:
            raise DumpError(
                f"{stream.name}: damaged: the flattened block at {position:#x}"
                f" claims {size} bytes at offset {offset:#x}"
            )
        if len(starts) == _BLOCKS_MAX:
            raise DumpError(
                f"{stream.name}: more than {_BLOCKS_MAX} flattened blocks",
                hint="rearrange it: makedumpfile -R DUMP < FLATTENED",
            )
        if len(starts) == _FEW and sum(ends) - sum(starts) < _FEW * _SIZE_LEAST:
            raise DumpError(
                f"{stream.name}: damaged: its first {_FEW} flattened blocks have less than {_SIZE_LEAST}"
                " bytes on average"
            )
        position += _BLOCK.size
        starts.append(offset)
        ends.append(offset + max(min(size, stream.size - position), 0))
        places.append(position)
        position += size
    return Pieces(starts, ends, places), complete
