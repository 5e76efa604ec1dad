"""Find the files that boot loaders name, below a root, wherever their partition is mounted.

Paths are relative to the root, as `Root` takes them.
"""

import mmap
import re
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO

from pykexec.errors import MachineError
from pykexec.machine.root import Root
from pykexec.machine.sysfs import read
from pykexec.memory import KIB

PARTITIONS = ("boot", "boot/efi", "efi")
"""The folders where the boot partition and the EFI system partition are mounted."""
GRUB_CONFIGS = ("boot/grub/grub.cfg", "boot/grub2/grub.cfg")
"""GRUB's own configuration, which is made of others: at one place or the other."""
GRUB_CONFIG_MAX = 1024 * KIB

_LOADER = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"  # https://systemd.io/BOOT_LOADER_INTERFACE
_EFIVARS = "sys/firmware/efi/efivars"
_TEXT_MAX = 64 * KIB
_DEPTH_MAX = 8
_PATH_MAX, _NAME_MAX = 1000, 250  # the limits of file systems, less the length of a folder


def locate(root: Root, partitions: Sequence[str], path: str) -> str | None:
    """Return where a file is that a boot loader names; None where there is no file.

    The boot loader's path starts at the root of its partition. With GRUB it starts at the root of the file
    system. Our root or a partition may be a folder or subvolume of that, so the path may begin with parts
    that we do not see.
    """
    parts = parts_of(path)
    encoded = [part.encode("utf-8", "surrogateescape") for part in parts]
    if "\0" in path or len(path) > _PATH_MAX or any(len(part) > _NAME_MAX for part in encoded):
        return None
    return first_file(root, _candidates(parts, partitions))


def _candidates(parts: Sequence[str], partitions: Sequence[str]) -> Iterator[str]:
    for hidden in range(min(len(parts), _DEPTH_MAX)):
        for folder in (*partitions, ""):
            yield "/".join(filter(None, (folder, *parts[hidden:])))


def where_mounted(root: Root, path: str) -> Iterator[str]:
    """Yield the places of a file that a boot loader names by its path from the root of the file system.

    That path begins with the folder that is mounted (of a subvolume, say): /@/boot/vmlinuz is boot/vmlinuz
    where /@ is mounted on the root.
    """
    parts = parts_of(path)
    # proc_pid_mountinfo(5): the fourth word is the folder, the fifth where it is mounted.
    for line in text(root, "proc/self/mountinfo").split("\n"):
        words = line.split(" ")
        top, point = map(parts_of, words[3:5] if len(words) > 5 else ("", ""))
        if "/".join(point) in (*PARTITIONS, "") and parts[: len(top)] == top:
            yield "/".join([*point, *parts[len(top) :]])


def parts_of(path: str) -> list[str]:
    """Return the names in a path; EFI separates them with backslashes."""
    return [part for part in re.split(r"[/\\]", path) if part not in ("", ".", "..")]


def first_file(root: Root, paths: Iterable[str]) -> str | None:
    """Return the first of these paths that is a file. Raises MachineError for one that cannot be opened."""
    for path in paths:
        file = root.open(path)
        if file is not None:
            file.close()
            return path
    return None


def efi_variable(root: Root, name: str) -> str | None:
    """Return a text variable of the boot loader interface; None where it is not set, or empty."""
    value = read(root, f"{_EFIVARS}/{name}-{_LOADER}")
    # Four bytes of attributes (Documentation/filesystems/efivarfs.rst), then UTF-16 with a NUL.
    return value[4:].decode("utf-16-le", "replace").partition("\0")[0] or None if value else None


def text(root: Root, path: str, size_max: int = _TEXT_MAX) -> str:
    """Return the beginning of a file as text; "" where there is no file. Raises MachineError."""
    return head(root, path, size_max).decode("utf-8", "replace")


def head(root: Root, path: str, size: int = _TEXT_MAX) -> bytes:
    """Return the beginning of a file; b"" where there is no file. Raises MachineError."""
    file = root.open(path)
    if file is None:
        return b""
    with file:
        try:
            return file.read(size)
        except OSError as error:
            raise MachineError(f"cannot read /{path}: {error.strerror}") from error


def view(root: Root, path: str) -> memoryview:
    """Return a whole file, mapped if it is on a disk; empty where there is no file. Raises MachineError."""
    file = root.open(path)
    if file is None:
        return memoryview(b"")
    with file:
        if isinstance(file, BytesIO):
            return memoryview(file.getvalue())
        try:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError:  # an empty file
            return memoryview(b"")
        except OSError as error:
            raise MachineError(f"cannot read /{path}: {error.strerror}") from error


def listed(paths: Iterable[str]) -> str:
    """Return the paths as an error's text lists them."""
    return ", ".join(f"/{path}" for path in paths)
