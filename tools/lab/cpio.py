"""Writing cpio archives in the "newc" format, which a kernel unpacks as its initramfs.

Archives can be concatenated; the kernel unpacks one after the other
(Documentation/driver-api/early-userspace/buffer-format.rst).
"""

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """A file (or folder, or symbolic link, whose data is its target) of an archive."""

    name: str
    mode: int
    data: bytes = b""


def file(name: str, data: bytes | str, *, executable: bool = False) -> Entry:
    content = data.encode() if isinstance(data, str) else data
    return Entry(name.strip("/"), stat.S_IFREG | (0o755 if executable else 0o644), content)


def folders(names: Iterable[str]) -> Iterator[Entry]:
    """These folders and all that they are in: the kernel makes no missing parents."""
    found = {str(parent) for name in names for parent in (Path(name), *Path(name).parents)}
    return (Entry(name, stat.S_IFDIR | 0o755) for name in sorted(found - {"."}))


def tree(root: Path, at: str = "") -> Iterator[Entry]:
    """What is below `root`, put below `at`. What is neither file, folder nor symbolic link is left out."""
    for path in sorted(root.iterdir()):
        name, mode = f"{at}/{path.name}".strip("/"), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield Entry(name, mode, str(path.readlink()).encode())
        elif stat.S_ISDIR(mode):
            yield Entry(name, mode)
            yield from tree(path, name)
        elif stat.S_ISREG(mode):
            yield Entry(name, mode, path.read_bytes())


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive of these entries, owned by root, without times: the same entries give the same bytes."""
    output = bytearray()
    for inode, entry in enumerate((*entries, Entry("TRAILER!!!", 0)), start=1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
        for part in (b"070701" + b"".join(b"%08X" % field for field in fields) + name, entry.data):
            output += part
            output += bytes(-len(output) % 4)
    return bytes(output)
