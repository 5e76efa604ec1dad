"""Files that the user names: opened once and mapped, not copied."""

from __future__ import annotations

import errno
import mmap
import os
import stat

from pykexec.errors import FileError
from pykexec.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_READ_MAX = 4 << 30
"""The most bytes that are read into memory from a file that cannot be mapped: an initrd cannot be larger."""
_PIECE = 1 << 20
_NULL = os.makedev(1, 3)
"""/dev/null (Documentation/admin-guide/devices.txt). Some users name it to say that there is no initrd."""


class Descriptor:
    """A file descriptor, closed when its last user is gone."""

    __slots__ = ("_at_first", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self._at_first = self._stamp()

    @property
    def has_changed(self) -> bool:
        """Whether somebody has written to the file or cut it since it was opened."""
        return self._stamp() != self._at_first

    def _stamp(self) -> tuple[int, int]:
        status = os.fstat(self.number)
        return status.st_size, status.st_mtime_ns

    def __del__(self) -> None:
        try:
            os.close(self.number)
        except OSError:
            return  # a disk or server that fails now; the data has been read


def _read(descriptor: int, name: str) -> bytes:
    """Read a file that cannot be mapped to its end. Raises OSError, and FileError where it does not end."""
    data = bytearray()
    with open(descriptor, "rb", closefd=False, buffering=0) as file:
        while piece := file.read(_PIECE):
            data += piece
            if len(data) > _READ_MAX:
                raise FileError(f"cannot read the {name}: it does not end")
    return bytes(data)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a container says that a boot loader puts its contents; addresses are physical."""

    load: int
    entry: int
    architectures: tuple[str, ...]
    """Our names of all that it may be for."""


@dataclass(frozen=True, slots=True)
class FileData:
    """A file's name and its bytes.

    The `data` of a regular file is a private, read-only mapping. So a large initrd takes address space only,
    and neither memory nor a reservation of it (vm.overcommit_memory).
    """

    path: str
    """The file's name."""
    data: memoryview
    """Its bytes."""
    descriptor: Descriptor | None = field(default=None, repr=False, compare=False)
    """The open file, for kexec_file_load: its extended attributes may hold a signature (IMA). None where the
    bytes are not those of a file."""
    sources: tuple[Descriptor, ...] = field(default=(), repr=False, compare=False)
    """The open files that the bytes are a part of, or were made from."""
    placed: Placed | None = None
    """What a uImage said of the bytes that were in it."""

    @classmethod
    def open(cls, path: str | os.PathLike[str], what: str) -> FileData:
        """Map the file; `what` ("kernel", "initrd") names it in errors.

        A pipe is read to its end, a disk is mapped like a file. Raises FileError when the file cannot be
        opened or read, or does not end.
        """
        name = os.fspath(path)
        try:
            descriptor = Descriptor(os.open(name, os.O_RDONLY | os.O_CLOEXEC))
            status = os.fstat(descriptor.number)
            if stat.S_ISCHR(status.st_mode) and status.st_rdev != _NULL:
                raise FileError(f"cannot read the {what} {name}: it is a device, no file")
            is_disk = stat.S_ISBLK(status.st_mode)
            size = os.lseek(descriptor.number, 0, os.SEEK_END) if is_disk else status.st_size
            if size and (is_disk or stat.S_ISREG(status.st_mode)):
                try:
                    mapped = mmap.mmap(descriptor.number, size, mmap.MAP_PRIVATE, mmap.PROT_READ)
                    # kexec_file_load(2) does not read disks.
                    return cls(name, memoryview(mapped), None if is_disk else descriptor, (descriptor,))
                except OverflowError as error:
                    raise FileError(
                        f"cannot read the {what} {name}: its {size} bytes are too many for a 32-bit process",
                        hint="take a smaller one, or run pykexec with a 64-bit Python",
                    ) from error
                except OSError as error:
                    if error.errno != errno.ENODEV:  # as sysfs answers for /sys/firmware/initrd
                        raise
            content = memoryview(_read(descriptor.number, f"{what} {name}"))
            return cls(name, content, sources=(descriptor,))
        except OSError as error:
            raise FileError(f"cannot read the {what} {name}: {error.strerror}") from error
        except ValueError as error:  # a NUL byte in the name
            raise FileError(f"cannot read the {what} {name!r}: {error}") from error

    @classmethod
    def from_bytes(
        cls, path: str, data: bytes | bytearray | memoryview, of: Iterable[FileData] = ()
    ) -> FileData:
        """Return bytes in memory that were made from the files `of`; errors name them `path`."""
        return cls(path, memoryview(data), sources=tuple(each for file in of for each in file.sources))

    @property
    def has_changed(self) -> bool:
        """Whether a file has changed since it was opened; the mapping then has a mixture of both."""
        return any(each.has_changed for each in self.sources)

    @property
    def size(self) -> int:
        """The length in bytes."""
        return self.data.nbytes
