"""The one way files are written: whole or not at all, with their mode, never through a link.

Paths are walked folder by folder with openat(2), so that nobody can change meanwhile what they lead to.
Links below the root of another system are followed as they would be there: none leads out of it.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pykexec.errors import FileError, privilege_hint
from pykexec.values import dataclass

LINKS_MAX = 40  # MAXSYMLINKS, include/linux/namei.h
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_BYTES = 4
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NAME_KEPT = 100  # the part of a file's name in that of its unfinished copy: NAME_MAX is 255 bytes


def write_file(
    path: str | os.PathLike[str],
    data: bytes | str,
    *,
    mode: int,
    root: str | os.PathLike[str] = "/",
    durable: bool = True,
) -> None:
    """Write a file with these contents; see `new_file`."""
    with new_file(path, mode=mode, root=root, durable=durable) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def change_file(
    path: str | os.PathLike[str], data: bytes | str, *, root: str | os.PathLike[str] = "/"
) -> None:
    """Give a file below `root` other contents; its mode, owner and extended attributes stay.

    Raises FileError, also where there is no such file, or it is a link.
    """
    place = _absolute(path)
    try:
        with opened_folder(place.parent, Path(root)) as folder:
            _require_file(place, folder)
            with opened_file(place.name, folder) as old:
                status = os.fstat(old.fileno())
                with new_file(place, mode=stat.S_IMODE(status.st_mode), root=root) as file:
                    file.write(data.encode() if isinstance(data, str) else data)
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
                    _copy_attributes(old.fileno(), file.fileno())
    except OSError as error:
        raise _failure(f"cannot write {place}", error) from error


def _copy_attributes(source: int, target: int) -> None:
    """Copy SELinux's label, access lists and the like, as far as the file system has them."""
    with suppress(OSError):
        for name in os.listxattr(source):
            os.setxattr(target, name, os.getxattr(source, name))


@contextmanager
def new_file(
    path: str | os.PathLike[str],
    *,
    mode: int,
    root: str | os.PathLike[str] = "/",
    durable: bool = True,
    make_folders: bool = True,
) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` once the block has ended without an error.

    `path` is absolute or relative to the working folder, and lies below `root`. It gets `mode` whatever the
    umask. `make_folders`: missing folders are made, with mode 0755. `durable`: from then on it outlasts a
    crash.
    Raises FileError where `path` is a link or no regular file, or where it cannot be written; what was there
    before then stays as it was.
    """
    place = _absolute(path)
    try:
        with opened_folder(place.parent, Path(root), make=make_folders) as folder:
            _require_file(place, folder)
            partial = f".{place.name[:_NAME_KEPT]}.{secrets.token_hex(_NAME_BYTES)}"
            descriptor = os.open(partial, _NEW_FILE, mode=0o600, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    yield file
                    file.flush()
                    os.fchmod(descriptor, mode)
                    if durable:
                        os.fsync(descriptor)
                os.replace(partial, place.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(partial, dir_fd=folder)
                raise
            if durable:
                os.fsync(folder)  # fsync(2): a name is in the folder, not in the file
    except OSError as error:
        raise _failure(f"cannot write {place}", error) from error
    except ValueError as error:  # a NUL byte in the name
        raise FileError(f"cannot write {str(path)!r}: {error}") from error


def remove_unfinished(path: str | os.PathLike[str]) -> None:
    """Remove what killed writers of a file have left. Nobody may be writing it meanwhile."""
    place = _absolute(path)
    begin = f".{place.name[:_NAME_KEPT]}."
    with suppress(OSError), opened_folder(place.parent) as folder:
        for name in [each.name for each in os.scandir(folder)]:
            if name.startswith(begin) and len(name) == len(begin) + 2 * _NAME_BYTES:
                os.unlink(name, dir_fd=folder)


def make_private_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder that is for its owner alone (0700), whatever the umask; change an existing one so.

    Raises FileError where it cannot be made, or belongs to somebody else.
    """
    place = _absolute(path)
    try:
        with opened_folder(place.parent, Path("/"), make=True) as parent:
            with suppress(FileExistsError):
                os.mkdir(place.name, 0o700, dir_fd=parent)
            with opened_below(place.name, parent) as folder:
                status = os.fstat(folder)
                if status.st_uid != os.geteuid():
                    raise FileError(
                        f"the folder {place} belongs to user {status.st_uid}",
                        hint="remove it, and find out who made it",
                    )
                if stat.S_IMODE(status.st_mode) != 0o700:
                    os.fchmod(folder, 0o700)
    except OSError as error:
        raise _failure(f"cannot make the folder {place}", error) from error


def write_value(path: str | os.PathLike[str], text: str, *, root: str | os.PathLike[str] = "/") -> None:
    """Write to an existing file, such as those of /proc, /sys and /dev: it is not made, cut or replaced.

    It lies below `root`. Raises FileError.
    """
    place = _absolute(path)
    try:
        with opened_folder(place.parent, Path(root)) as folder:
            descriptor = os.open(place.name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                file.write(text.encode())
    except OSError as error:
        raise _failure(f"cannot write {place}", error) from error
    except ValueError as error:  # a NUL byte in the name
        raise FileError(f"cannot write {str(path)!r}: {error}") from error


def remove_file(path: str | os.PathLike[str], *, root: str | os.PathLike[str] = "/") -> bool:
    """Remove a file or link below `root`; return whether there was one. Raises FileError."""
    place = _absolute(path)
    try:
        with opened_folder(place.parent, Path(root)) as folder:
            os.unlink(place.name, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _failure(f"cannot remove {place}", error) from error
    return True


def make_folder(path: str | os.PathLike[str], *, root: str | os.PathLike[str] = "/") -> None:
    """Make a folder below `root`, and those it is in, where there is none. Raises FileError."""
    place = _absolute(path)
    try:
        with opened_folder(place, Path(root), make=True):
            pass
    except OSError as error:
        raise _failure(f"cannot make the folder {place}", error) from error


def remove_empty_folder(path: str | os.PathLike[str], *, root: str | os.PathLike[str] = "/") -> None:
    """Remove a folder below `root` if it exists and is empty. Raises FileError."""
    place = _absolute(path)
    try:
        with opened_folder(place.parent, Path(root)) as folder:
            os.rmdir(place.name, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise _failure(f"cannot remove {place}", error) from error


def move_file(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, root: str | os.PathLike[str] = "/"
) -> None:
    """Give a file below `root` another name. Raises FileError, also where something has that name."""
    old, new = _absolute(source), _absolute(target)
    if look(new, root=root) is not None:
        raise FileError(f"{new} is there: {old} stays where it is")
    try:
        with opened_folder(old.parent, Path(root)) as one, opened_folder(new.parent, Path(root)) as other:
            os.rename(old.name, new.name, src_dir_fd=one, dst_dir_fd=other)
            os.fsync(other)
    except OSError as error:
        raise _failure(f"cannot move {old} to {new}", error) from error


def write_link(
    path: str | os.PathLike[str],
    to: str,
    *,
    root: str | os.PathLike[str] = "/",
    durable: bool = True,
) -> None:
    """Make a symbolic link, or lead one elsewhere. Raises FileError, also where no link has the name."""
    place = _absolute(path)
    try:
        with opened_folder(place.parent, Path(root), make=True) as folder:
            found = _found(place.name, folder)
            if found is not None and found.link is None:
                raise FileError(f"cannot write {place}: it is no link", hint="remove it, or name another")
            partial = f".{place.name[:_NAME_KEPT]}.{secrets.token_hex(4)}"
            os.symlink(to, partial, dir_fd=folder)
            os.replace(partial, place.name, src_dir_fd=folder, dst_dir_fd=folder)
            if durable:
                os.fsync(folder)
    except OSError as error:
        raise _failure(f"cannot write {place}", error) from error


@dataclass(frozen=True, slots=True)
class Found:
    """The file, folder or link of a certain name."""

    status: os.stat_result
    link: str | None
    """The target, where it is a link."""


def look(path: str | os.PathLike[str], *, root: str | os.PathLike[str] = "/") -> Found | None:
    """Return what has that name below `root`; None where nothing has. Raises FileError."""
    place = _absolute(path)
    try:
        with opened_folder(place.parent, Path(root)) as folder:
            return _found(place.name, folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _failure(f"cannot look at {place}", error) from error


def follow(path: str | os.PathLike[str], *, root: str | os.PathLike[str] = "/") -> Found | None:
    """Return what the name stands for below `root` after all links; None for nothing. Raises FileError."""
    place, top = _absolute(path), Path(root).absolute()
    for _ in range(LINKS_MAX):
        found = look(place, root=top)
        if found is None or found.link is None:
            return found
        to = Path(found.link)
        place = top / to.relative_to("/") if to.is_absolute() else place.parent / to
        if place.name in ("", ".."):
            return None
    return None


def read_file(path: str | os.PathLike[str], *, root: str | os.PathLike[str] = "/") -> bytes | None:
    """Return what is in a regular file below `root`; None where there is none. Raises FileError."""
    place = _absolute(path)
    found = look(place, root=root)
    if found is None or not stat.S_ISREG(found.status.st_mode):
        return None
    try:
        with opened_folder(place.parent, Path(root)) as folder, opened_file(place.name, folder) as file:
            return file.read()
    except OSError as error:
        raise _failure(f"cannot read {place}", error) from error


def check_file(path: str | os.PathLike[str], *, root: str | os.PathLike[str] = "/") -> None:
    """Raise the FileError that `new_file` would raise, as far as that is known without writing."""
    place = _absolute(path)
    try:
        with opened_folder(place.parent, Path(root)) as folder:
            _require_file(place, folder)
    except FileNotFoundError:
        return  # its folders would be made
    except OSError as error:
        raise _failure(f"cannot write {place}", error) from error


def _found(name: str, folder: int) -> Found | None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return Found(status, os.readlink(name, dir_fd=folder) if stat.S_ISLNK(status.st_mode) else None)


def _absolute(path: str | os.PathLike[str]) -> Path:
    place = Path(path).absolute()
    if place.name in ("", ".."):
        raise FileError(f"{path} names no file")
    return place


def _require_file(place: Path, folder: int) -> None:
    """Raise FileError where something other than a regular file has the name."""
    try:
        mode = os.stat(place.name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        to = os.readlink(place.name, dir_fd=folder)
        raise FileError(
            f"cannot write {place}: it is a link to {to}", hint="remove the link, or name the file itself"
        )
    if not stat.S_ISREG(mode):
        raise FileError(f"cannot write {place}: it is no regular file", hint="name another")


def _failure(what: str, error: OSError) -> FileError:
    return FileError(f"{what}: {error.strerror}", hint=privilege_hint(error))


@contextmanager
def opened_folder(path: Path, root: Path = Path("/"), *, make: bool = False) -> Iterator[int]:
    """Open a folder below a root, as a process with this root would find it.

    `make`: missing folders are made. Raises OSError, and FileError where the path leads out of the root.
    """
    top = Path(root).absolute()
    if not path.is_relative_to(top):
        raise FileError(f"{path} is not below {top}")
    waiting = list(reversed(path.relative_to(top).parts))
    # The folders from the root to the present one: ".." goes back along them.
    chain = [os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    links = 0
    try:
        while waiting:
            name = waiting.pop()
            if name == "..":
                if len(chain) > 1:
                    os.close(chain.pop())
                continue
            target = _link_target(name, chain[-1])
            if target is None:
                chain.append(_open_below(name, chain[-1], make=make))
                continue
            links += 1
            if links > LINKS_MAX:
                raise FileError(f"{path}: too many links")
            if target.startswith("/"):
                while len(chain) > 1:
                    os.close(chain.pop())
            waiting += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        yield chain[-1]
    finally:
        for descriptor in chain:
            os.close(descriptor)


@contextmanager
def opened_below(name: str, folder: int) -> Iterator[int]:
    """Open a folder in an open folder; a link is not followed. Raises OSError."""
    descriptor = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened_file(name: str, folder: int) -> Iterator[BinaryIO]:
    """Open a regular file in an open folder, to read it.

    A link is not followed, and a pipe without a writer does not block. Raises OSError, and FileError for
    anything but a regular file.
    """
    with os.fdopen(os.open(name, _OLD_FILE, dir_fd=folder), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileError(f"{name} is no regular file")
        yield file


def _open_below(name: str, folder: int, *, make: bool) -> int:
    made = False
    if make:
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=folder)
            made = True
    found = os.open(name, _FOLDER, dir_fd=folder)
    if made:
        os.fchmod(found, 0o755)
        os.fsync(folder)
    return found


def _link_target(name: str, folder: int) -> str | None:
    """Return what a link points to; None for anything else.

    Raises FileError for a link that somebody else has put into a folder where everybody may write. The
    kernel would not follow it either (fs/namei.c, may_follow_link()).
    """
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISLNK(status.st_mode):
        return None
    parent = os.fstat(folder)
    is_shared = parent.st_mode & stat.S_ISVTX and parent.st_mode & stat.S_IWOTH
    if is_shared and status.st_uid not in (os.geteuid(), parent.st_uid):
        raise FileError(
            f"the link {name} belongs to user {status.st_uid}, in a folder that all may write to"
        )
    return os.readlink(name, dir_fd=folder)
