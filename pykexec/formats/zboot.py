"""EFI zboot: a PE file with a compressed kernel, which it unpacks (libstub/zboot-header.S)."""

from pykexec.errors import ImageError
from pykexec.formats.compiled import ZBOOT


def payload(path: str, data: memoryview) -> memoryview:
    """Return the compressed kernel. Raises ImageError when it is cut off."""
    if data.nbytes < ZBOOT.sizeof():
        raise ImageError(f"{path}: truncated within its EFI zboot header")
    header = ZBOOT.parse(data)
    end = header.payload_offset + header.payload_size
    if end > data.nbytes:
        raise ImageError(f"{path}: truncated: {data.nbytes} bytes, its EFI zboot header says at least {end}")
    return data[header.payload_offset : end]
