"""Containers a kernel comes in on any architecture: what is in them, found by their first bytes."""

from pykexec.errors import ImageError
from pykexec.files import FileData
from pykexec.formats import magic

_NESTING_MAX = 4


def unwrap(file: FileData) -> tuple[FileData, str]:
    """The kernel inside, and the names of what it was wrapped in ("EFI zboot, gzip"); empty for a bare one.

    Raises ImageError for a damaged container.
    """
    wrappings: list[str] = []
    for _ in range(_NESTING_MAX):
        found = _open(file)
        if found is None:
            return file, ", ".join(wrappings)
        contents, name = found
        file = FileData.from_bytes(file.path, contents)
        wrappings.append(name)
    raise ImageError(f"{file.path}: wrapped more than {_NESTING_MAX} times: {', '.join(wrappings)} ...")


def _open(file: FileData) -> tuple[bytes | memoryview, str] | None:
    """One layer less, and that layer's name."""
    path, data = file.path, file.data
    if packed := magic.compression(data):
        from pykexec.formats import compression

        return compression.decompress(path, data, packed), packed
    if magic.is_zboot(data):
        from pykexec.formats import zboot

        return zboot.payload(path, data), "EFI zboot"
    if bytes(data[:4]) == magic.UIMAGE:
        from pykexec.formats import uimage

        return uimage.contents(path, data), "uImage"
    return None
