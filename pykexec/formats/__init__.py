"""Containers a kernel comes in on any architecture: what is in them, found by their first bytes."""

from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import compression, uimage, zboot

_NESTING_MAX = 4


def unwrap(file: FileData) -> tuple[FileData, str]:
    """The kernel inside, and the names of what it was wrapped in ("EFI zboot, gzip"); empty for a bare one.

    Raises ImageError for a damaged container.
    """
    wrappings: list[str] = []
    for _ in range(_NESTING_MAX):
        packed = compression.sniff(file.data)
        if packed is not None:
            file = FileData.from_bytes(file.path, compression.decompress(file.path, file.data, packed))
            wrappings.append(packed)
        elif zboot.is_zboot(file.data):
            file = FileData.from_bytes(file.path, zboot.payload(file.path, file.data))
            wrappings.append("EFI zboot")
        elif bytes(file.data[:4]) == uimage.MAGIC:
            file = FileData.from_bytes(file.path, uimage.contents(file.path, file.data))
            wrappings.append("uImage")
        else:
            return file, ", ".join(wrappings)
    raise ImageError(f"{file.path}: wrapped more than {_NESTING_MAX} times: {', '.join(wrappings)} ...")
