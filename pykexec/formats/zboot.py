"""EFI zboot: a compressed kernel in a PE file that unpacks it (libstub/zboot-header.S)."""

from construct import Bytes, Int32ul, Padding, Struct

from pykexec.errors import ImageError

_HEADER = Struct(
    "mz" / Bytes(4),
    "magic" / Bytes(4),
    "payload_offset" / Int32ul,
    "payload_size" / Int32ul,
    Padding(8),
    "compression" / Bytes(32),
)


def payload(path: str, data: memoryview) -> memoryview:
    """The compressed kernel. Raises ImageError when it is cut off."""
    if data.nbytes < _HEADER.sizeof():
        raise ImageError(f"{path}: truncated within its EFI zboot header")
    header = _HEADER.parse(bytes(data[: _HEADER.sizeof()]))
    end = header.payload_offset + header.payload_size
    if end > data.nbytes:
        raise ImageError(f"{path}: truncated: {data.nbytes} bytes, its EFI zboot header says at least {end}")
    return data[header.payload_offset : end]
