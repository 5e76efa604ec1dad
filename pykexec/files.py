"""Files named by the user: opened once, mapped, not copied."""

import errno
import mmap
import os
import stat

from pykexec.errors import FileError
from pykexec.values import dataclass, field


class Descriptor:
    """A file descriptor, closed when its last user is gone."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


@dataclass(frozen=True, slots=True)
class FileData:
    """A file's name and its bytes.

    A regular file's `data` is a private mapping (copy on write, because ctypes takes the address of writable
    buffers only): a large initrd costs address space, not memory.
    """

    path: str
    data: memoryview
    descriptor: Descriptor | None = field(default=None, repr=False, compare=False)
    """The open file, for kexec_file_load: its extended attributes may hold a signature (IMA). None where the
    bytes are not those of a file."""

    @classmethod
    def open(cls, path: str | os.PathLike[str], what: str) -> "FileData":
        """Map the file; `what` ("kernel", "initrd") names it in errors.

        Raises FileError when it cannot be opened or read.
        """
        name = os.fspath(path)
        try:
            descriptor = Descriptor(os.open(name, os.O_RDONLY | os.O_CLOEXEC))
            status = os.fstat(descriptor.number)
            if stat.S_ISREG(status.st_mode) and status.st_size:
                try:
                    mapped = mmap.mmap(descriptor.number, status.st_size, access=mmap.ACCESS_COPY)
                    return cls(name, memoryview(mapped), descriptor)
                except OSError as error:
                    if error.errno != errno.ENODEV:  # as sysfs answers for /sys/firmware/initrd
                        raise
            with open(descriptor.number, "rb", closefd=False) as file:
                return cls(name, memoryview(file.read()))
        except OSError as error:
            raise FileError(f"cannot read the {what} {name}: {error.strerror}") from error
        except ValueError as error:  # a NUL byte in the name
            raise FileError(f"cannot read the {what} {name!r}: {error}") from error

    @classmethod
    def from_bytes(cls, path: str, data: bytes | bytearray | memoryview) -> "FileData":
        """Bytes that are already in memory, under the name errors shall give them."""
        return cls(path, memoryview(data))

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.data.nbytes
