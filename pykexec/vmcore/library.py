"""Read other formats through libkdumpfile's Python binding, where that is installed.

LKCD, s390's own, Xen's and others. Both bindings are supported: Debian's python3-libkdumpfile (a class
`kdumpfile`) and PyPI's pykdumpfile (a class `Context`).
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pykexec import names
from pykexec.memory import Range
from pykexec.vmcore.errors import DumpError, NotInDumpError
from pykexec.vmcore.notes import ByteOrder, Note


class LibraryDump:
    """A dump that libkdumpfile reads."""

    is_part = False
    tells_extent = False
    dump_level: int | None = None
    compression = "unknown"

    def __init__(self, path: str) -> None:
        """Open the dump.

        Raises ImportError without the library, DumpError where the library cannot read the file.
        """
        module: Any = importlib.import_module("kdumpfile")
        self.name = path
        self._errors: Any = _error_class()
        self._space: int = (
            module.KDUMP_MACHPHYSADDR if hasattr(module, "KDUMP_MACHPHYSADDR") else module.MACHPHYSADDR
        )
        try:
            self._context: Any = _open(module, path)
            name = str(self._attribute("arch.name", "unknown"))
            self.word_size = int(self._attribute("arch.ptr_size", 8))
            little = self._attribute("arch.byte_order", 1)
        except self._errors as error:
            raise DumpError(f"{path}: not a crash dump: libkdumpfile: {error}") from error
        self.byte_order: ByteOrder = "little" if little else "big"
        row = names.of_kdumpfile(name, 8 * self.word_size, self.byte_order)
        self.arch = name if row is None else row.name

    @property
    def format(self) -> str:
        return f"{self._attribute('file.format', 'unknown')}, read by libkdumpfile"

    @property
    def details(self) -> Mapping[str, object]:
        return {}

    @property
    def release(self) -> str | None:
        found = self._attribute("linux.uts.release", None)
        return None if found is None else str(found)

    @property
    def time(self) -> int | None:
        return None

    damage: tuple[str, ...] = ()

    def read(self, address: int, size: int) -> bytes:
        """Return physical memory. Raises NotInDumpError."""
        try:
            return bytes(self._context.read(self._space, address, size))
        except (self._errors, OverflowError) as error:
            raise NotInDumpError(
                f"{self.name}: physical address {address:#x}: {error}", address=address
            ) from error

    def physical_of(self, virtual: int) -> tuple[int, int] | None:
        return None

    def memory(self) -> Iterator[Range]:
        """Return nothing: the library does not tell about holes."""
        return iter(())

    def saved_bytes(self) -> int:
        return 0

    def check(self, *, everything: bool) -> None:
        """Return None: the library does not tell."""

    def was_left_out(self, address: int) -> None:
        """Return None: the library does not tell."""

    def notes(self) -> Iterator[Note]:
        return iter(())

    def vmcoreinfo(self) -> bytes | None:
        raw = self._attribute("linux.vmcoreinfo.raw", None)
        if raw is None:
            return None
        if hasattr(raw, "get"):
            raw = raw.get()
        return raw.encode() if isinstance(raw, str) else bytes(raw)

    def _attribute(self, path: str, default: Any) -> Any:
        """Return one of libkdumpfile's attributes, which form a tree; `default` where it is missing."""
        found = self._context.attr
        with suppress(KeyError, AttributeError, self._errors):
            for name in path.split("."):
                found = found[name]
            return found
        return default


def _error_class() -> Any:
    exceptions: Any = importlib.import_module("kdumpfile.exceptions")
    classes = ("KDumpBaseException", "KdumpfileError")
    return next(getattr(exceptions, name) for name in classes if hasattr(exceptions, name))


def _open(module: Any, path: str) -> Any:
    if hasattr(module, "Context"):
        context = module.Context()
        context.open(path)
    else:
        context = module.kdumpfile(path)
    with suppress(Exception):
        context.attr["addrxlat.ostype"] = "linux"
    return context
