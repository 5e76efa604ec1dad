"""The files that make pykexec run where nothing else is; copy them into a folder.

They are what a load needs: the interpreter, the modules it imports as byte code (which does not depend on
any file's time), their machine code, and the libraries of these. What is not part of Python's own library
goes to one folder, whatever environment it comes from.
"""

from __future__ import annotations

import enum
import importlib.util
import marshal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pykexec import writing
from pykexec.errors import FileError, PykexecError
from pykexec.integration import imports, libraries

PACKAGES = "/usr/lib/pykexec"
"""The folder of packages in the initramfs."""
_PROGRAMS = ("/usr/sbin/pykexec", "/usr/sbin/kexec")
_HELPERS = imports.PACKAGE / "purgatory/exec/prebuilt"
_BLOBS = "pykexec/purgatory/prebuilt"

_LAUNCHER = """\
#!{interpreter} -IS
import sys
sys.path.append({packages!r})
from pykexec.cli import main
main()
"""
# PEP 552: the interpreter's number, and that no source is asked for.
_UNCHECKED = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")
_SHEBANG_MAX = 255  # include/uapi/linux/binfmts.h, BINPRM_BUF_SIZE, without the NUL


class Kind(enum.Enum):
    """The purpose of a file."""

    PROGRAM = "programs"
    INTERPRETER = "interpreter"
    STANDARD_LIBRARY = "standard library"
    PACKAGE = "packages"
    LIBRARY = "shared libraries"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, symbolic link or folder of the initramfs."""

    path: str
    """The absolute path in the initramfs."""
    kind: Kind
    data: bytes
    executable: bool = False
    link: str | None = None
    """The target of a symbolic link."""
    folder: bool = False


def python(arch: str | None = None) -> Sequence[Entry]:
    """Return Python, this package and the commands ``pykexec`` and ``kexec``. Raises PykexecError."""
    arch = arch or imports.own_architecture()
    seen = imports.trace(arch)
    entries = {entry.path: entry for entry in _modules(seen)}
    program = libraries.loadable(seen.interpreter)
    entries[str(seen.interpreter)] = Entry(str(seen.interpreter), Kind.INTERPRETER, program, True)
    for entry in _native(seen):
        entries.setdefault(entry.path, entry)
    blob = imports.PACKAGE.parent / _BLOBS / f"{arch}.elf"
    entries[f"{PACKAGES}/{_BLOBS}/{arch}.elf"] = Entry(
        f"{PACKAGES}/{_BLOBS}/{arch}.elf", Kind.PACKAGE, read(blob)
    )
    launcher = _LAUNCHER.format(interpreter=seen.interpreter, packages=PACKAGES)
    if len(launcher.splitlines()[0]) > _SHEBANG_MAX:
        raise PykexecError(f"the path of {seen.interpreter} is too long for the first line of a script")
    for path in _PROGRAMS:
        entries[path] = Entry(path, Kind.PROGRAM, launcher.encode(), True)
    # The interpreter complains if this folder is missing.
    entries.setdefault(
        str(seen.extensions),
        Entry(str(seen.extensions), Kind.STANDARD_LIBRARY, b"", folder=True),
    )
    return [entries[path] for path in sorted(entries)]


def static(arch: str | None = None) -> Sequence[Entry]:
    """Return the small static helper as ``kexec``, which needs nothing else. Raises PykexecError."""
    return [Entry("/usr/sbin/kexec", Kind.PROGRAM, read(helper(arch)), executable=True)]


def helper(arch: str | None = None) -> Path:
    """Return where this package has the small static helper. Raises PykexecError."""
    return _HELPERS / f"{arch or imports.own_architecture()}.elf"


def _modules(seen: imports.Seen) -> Iterator[Entry]:
    # By this file the interpreter finds its library.
    landmark = imports.Module("os", seen.library / "os.py")
    for module in (*seen.modules, landmark):
        path, kind = _place(module.file, seen)
        if module.file.suffix != ".py":
            yield Entry(path, kind, libraries.loadable(module.file), executable=True)
            continue
        yield Entry(str(Path(path).with_suffix(".pyc")), kind, _compile(module.file, path))


def _native(seen: imports.Seen) -> Iterator[Entry]:
    programs = [seen.interpreter, *(each.file for each in seen.modules if each.file.suffix != ".py")]
    for library in libraries.libraries_of(programs):
        path, kind = _place(library, seen)
        kind = kind if kind is Kind.PACKAGE else Kind.LIBRARY
        real = library.resolve()
        if library.is_symlink() and real.parent == library.parent.resolve():
            # As expected by ldconfig, which the generators run.
            yield Entry(path, kind, b"", link=real.name)
            path = str(Path(path).with_name(real.name))
        yield Entry(path, kind, libraries.loadable(library), executable=True)


def _place(file: Path, seen: imports.Seen) -> tuple[str, Kind]:
    """Return where a file goes: the files of a package keep their place among the packages."""
    roots = [root for root in seen.paths if file.is_relative_to(root)]
    if roots and not _is_own(file, seen):
        nearest = max(roots, key=lambda root: len(root.parts))
        return f"{PACKAGES}/{file.relative_to(nearest)}", Kind.PACKAGE
    return str(file), Kind.STANDARD_LIBRARY


def _is_own(file: Path, seen: imports.Seen) -> bool:
    """Return whether it belongs to the interpreter's library, which may contain other packages' folder."""
    return any(
        file.is_relative_to(place) and not file.is_relative_to(place / "site-packages")
        for place in (seen.library, seen.extensions)
    )


def _compile(source: Path, path: str) -> bytes:
    """Return byte code for an import without the source; the same source always makes the same bytes."""
    try:
        text = source.read_bytes()
        # Warnings about code for older Pythons do not matter here.
        with warnings.catch_warnings(action="ignore"):
            code = compile(text, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OSError) as error:
        raise FileError(f"{source}: cannot be compiled: {error}") from error
    return _UNCHECKED + importlib.util.source_hash(text) + marshal.dumps(code)


def read(path: Path) -> bytes:
    """Return the contents of a file of this package. Raises FileError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error


def copy(entries: Iterable[Entry], folder: Path) -> None:
    """Write the files below a folder in which an initramfs is being made.

    A library that exists stays: the generator has copied it, and the links to it. Links in the folder are
    followed as in the initramfs. Raises FileError.
    """
    top = folder.resolve()
    for entry in entries:
        _copy(entry, top / entry.path.lstrip("/"), top)


def _copy(entry: Entry, target: Path, top: Path) -> None:
    if entry.folder:
        writing.make_folder(target, root=top)
        return
    if entry.kind is Kind.LIBRARY and writing.look(target, root=top) is not None:
        return
    writing.remove_file(target, root=top)  # it may be a link
    if entry.link is not None:
        writing.write_link(target, entry.link, root=top, durable=False)
        return
    mode = 0o755 if entry.executable else 0o644
    writing.write_file(target, entry.data, mode=mode, root=top, durable=False)


def summary(entries: Sequence[Entry]) -> str:
    """Return how many files there are, and the size of each kind."""
    files = [entry for entry in entries if not entry.folder and entry.link is None]
    parts = []
    for kind in Kind:
        size = sum(len(entry.data) for entry in files if entry.kind is kind)
        if size:
            parts.append(f"{kind.value} {_size(size)}")
    total = sum(len(entry.data) for entry in files)
    return f"{len(files)} files, {_size(total)} ({', '.join(parts)})"


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / 1024:.0f} KiB"
