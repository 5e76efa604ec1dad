"""uImage, U-Boot's legacy image: a header of 64 bytes, then the contents (its include/image.h)."""

import zlib

from pykexec.errors import ImageError
from pykexec.files import Placed
from pykexec.formats.compiled import UIMAGE
from pykexec.names import of_u_boot

_LINUX = 5
_KERNEL_TYPES = (2, 14)  # IH_TYPE_KERNEL, IH_TYPE_KERNEL_NOLOAD
_TYPES = {
    1: "program",
    2: "kernel",
    3: "ramdisk",
    4: "collection of images",
    5: "firmware image",
    6: "script",
    7: "file system",
    8: "device tree",
    14: "kernel",
}
_SYSTEMS = {1: "OpenBSD", 2: "NetBSD", 3: "FreeBSD", 5: "Linux", 14: "VxWorks", 17: "U-Boot", 18: "RTEMS"}


def placed(data: memoryview) -> Placed:
    """Return what a header says of its contents' place; `contents` checks it."""
    header = UIMAGE.parse(bytes(data[: UIMAGE.sizeof()]))
    return Placed(header.load, header.entry, tuple(row.name for row in of_u_boot(header.arch)))


def contents(path: str, data: memoryview) -> memoryview:
    """Return what follows the header, after comparing both checksums. Raises ImageError."""
    size = UIMAGE.sizeof()
    if data.nbytes < size:
        raise ImageError(f"{path}: truncated within its uImage header")
    raw = bytes(data[:size])
    header = UIMAGE.parse(raw)
    if zlib.crc32(raw[:4] + bytes(4) + raw[8:]) != header.header_crc:
        raise ImageError(f"{path}: damaged uImage: the header's checksum (offset 0x4) is wrong")
    if header.os != _LINUX or header.type not in _KERNEL_TYPES:
        raise ImageError(
            f"{path}: {describe(data)}, but no Linux kernel (os {header.os}, type {header.type})"
        )
    if size + header.size > data.nbytes:
        raise ImageError(f"{path}: truncated: {data.nbytes} bytes, its header says {size + header.size}")
    found = data[size : size + header.size]
    if zlib.crc32(found) != header.data_crc:
        raise ImageError(f"{path}: damaged uImage: the contents' checksum (offset 0x18) is wrong")
    return found


def describe(data: memoryview) -> str:
    """Return a description such as "a uImage with a ramdisk of Linux for arm64"; `data` has a header."""
    header = UIMAGE.parse(data)
    kind = _TYPES.get(header.type, f"content of type {header.type}")
    system = _SYSTEMS.get(header.os, f"system {header.os}")
    names = [row.name for row in of_u_boot(header.arch)] or [f"machine {header.arch}"]
    return f"a uImage with a {kind} of {system} for {' or '.join(names)}"
