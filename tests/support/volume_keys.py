"""A kernel that hands over the keys of encrypted volumes, in as far as programs see it."""

import errno
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from pykexec import syscalls, writing
from pykexec.errors import FileError

_MKDIR, _RMDIR = Path.mkdir, Path.rmdir


class FakeKernel:
    """A kernel with CONFIG_CRASH_DM_CRYPT, as kernel/crash_dump_dm_crypt.c (Linux 7.2) does it.

    Its configfs is a folder; what would damage its memory is an AssertionError.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keyring: set[str] = set()
        """The descriptions of the logon keys that a load finds."""
        self.loaded: tuple[str, ...] | None = None
        """The keys of the loaded capture kernel; None where none is loaded."""
        self.refuses = False
        """Whether it refuses all kernels, whatever their keys."""
        self._header: tuple[str, ...] = ()
        (folder / "reuse").write_text("0\n")
        (folder / "count").write_text("0\n")

    @property
    def named(self) -> Mapping[str, str]:
        folders = (each for each in self.folder.iterdir() if each.is_dir())
        return {each.name: (each / "description").read_text().rstrip("\n") for each in folders}

    @property
    def is_reusing(self) -> bool:
        return (self.folder / "reuse").read_text() == "1\n"

    def load(self) -> None:
        """kexec_file_load for a crash kernel: the one that was loaded is freed first. Raises OSError."""
        self.loaded = None
        named = self.named
        if named and not self.is_reusing:
            self._header = tuple(map(self._key, named.values()))
        assert not named or len(self._header) == len(named), "not all of it is the kernel's to read"
        if self.refuses:
            raise OSError(errno.EBADMSG, "Bad message")
        self.loaded = self._header if named else ()

    def _key(self, description: str) -> str:
        if description == "(null)":
            raise OSError(errno.EINVAL, "Invalid argument")
        if description[:127] not in self.keyring:
            raise OSError(errno.ENOKEY, "Required key not available")
        return description[:127]

    # What the module calls

    def mkdir(self, path: Path) -> None:
        _MKDIR(path)
        (path / "description").write_text("(null)\n")

    def rmdir(self, path: Path) -> None:
        shutil.rmtree(path)

    def write(self, path: Path, text: str) -> None:
        if path.name == "description":
            assert path.exists()
            path.write_text(text + "\n")
            return
        assert path == self.folder / "reuse"
        if not self.loaded:
            raise FileError("cannot write reuse: Invalid argument")
        if text == "1\n":
            assert len(self.named) == len(self.loaded), "more is copied than there is room for"
            self._header = self.loaded
        path.write_text(text)

    def request_key(self, kind: str, description: str) -> int:
        if kind != "logon" or description not in self.keyring:
            raise OSError(errno.ENOKEY, "Required key not available")
        return 1


def _in(folder: Path, special: Callable[[Path], None], usual: Callable[..., None]) -> Callable[..., None]:
    """A method of paths that is a special one for those in that folder."""

    def method(path: Path, *words: object, **named: object) -> None:
        return special(path) if path.parent == folder else usual(path, *words, **named)

    return method


@contextmanager
def running_kernel() -> Iterator[FakeKernel]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        kernel = FakeKernel(Path(folder))
        mkdir, rmdir = _in(kernel.folder, kernel.mkdir, _MKDIR), _in(kernel.folder, kernel.rmdir, _RMDIR)
        patch.setattr(Path, "mkdir", mkdir)
        patch.setattr(Path, "rmdir", rmdir)
        patch.setattr(writing, "write_value", kernel.write)
        patch.setattr(syscalls, "request_key", kernel.request_key)
        yield kernel
