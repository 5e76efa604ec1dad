"""The shared libraries that programs need, found as the dynamic linker finds them (ld.so(8))."""

from __future__ import annotations

import functools
import io
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pykexec.errors import FileError, PykexecError
from pykexec.formats import elfheader

_DEFAULT = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_CONFIGURATION = "/etc/ld.so.conf"


@dataclass(frozen=True, slots=True)
class _Program:
    """What the dynamic section and the program headers of an ELF file say."""

    file: Path
    machine: str
    bits: int
    linker: str | None
    """The path of the dynamic linker (PT_INTERP)."""
    needed: tuple[str, ...]
    folders: tuple[str, ...]
    """Where it wants its libraries looked for first (DT_RPATH, DT_RUNPATH)."""


def libraries_of(files: Iterable[Path]) -> Sequence[Path]:
    """All libraries, the dynamic linker among them, that these programs and libraries need, by path.

    What is no ELF file needs none. Raises FileError, and PykexecError for a library that is not found.
    """
    found: dict[Path, None] = {}
    read = functools.cache(_read)  # nearly all need the C library
    programs = [program for file in files if (program := read(file)) is not None]
    linkers = [Path(program.linker) for program in programs if program.linker]
    system = tuple(dict.fromkeys([*_configured(), *_beside(linkers), *_DEFAULT]))
    # DT_RPATH of the program counts for the libraries of its modules, too.
    of_program = tuple(folder for each in programs if each.linker for folder in each.folders)
    waiting = list(programs)
    found.update(dict.fromkeys(linkers))
    while waiting:
        program = waiting.pop()
        for name in program.needed:
            library = _find(name, program, (*program.folders, *of_program, *system), read)
            if library.file not in found and library.file.name not in {each.name for each in linkers}:
                found[library.file] = None
                waiting.append(library)
    return sorted(found)


def _beside(linkers: Iterable[Path]) -> Iterator[str]:
    """A linker of a distribution looks where it is itself, and at the same place in /usr, or out of it."""
    for linker in linkers:
        folder = str(linker.resolve().parent)
        yield folder
        yield folder.removeprefix("/usr") if folder.startswith("/usr/") else f"/usr{folder}"


def _find(
    name: str, program: _Program, folders: Iterable[str], read: Callable[[Path], _Program | None]
) -> _Program:
    places = (Path(name),) if "/" in name else (Path(folder, name) for folder in folders)
    for place in places:
        library = read(place) if place.is_file() else None
        # Folders may hold libraries of other machines.
        if library and (library.machine, library.bits) == (program.machine, program.bits):
            return library
    raise PykexecError(f"{program.file} needs the library {name}, which is not found")


def loadable(file: Path) -> bytes:
    """A program or library without what is never loaded: section headers, symbols, what debuggers want.

    Raises FileError.
    """
    try:
        data = file.read_bytes()
        if not data.startswith(elfheader.MAGIC):
            return data
        encoding = elfheader.encoding(data)
        if encoding is None:
            raise _damaged(file)
        header = encoding.header(data)
        table = header.program_headers_at + header.program_header_size * header.program_header_count
        segments = encoding.program_headers(data, header)
        end = max([table, *(each.offset + each.file_size for each in segments)])
        return encoding.without_sections(data) + data[encoding.header_size : end]
    except OSError as error:
        raise FileError(f"{file}: {error.strerror}") from error
    except struct.error as error:
        raise _damaged(file) from error


def _read(file: Path) -> _Program | None:
    """None for what is no ELF file."""
    with _elf(file) as elf:
        return None if elf is None else _interpret(file, elf)


@contextmanager
def _elf(file: Path) -> Iterator[Any]:
    """The file as pyelftools sees it; None for what is no ELF file. Raises FileError for a damaged one."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with file.open("rb") as stream:
            is_elf = stream.read(len(elfheader.MAGIC)) == elfheader.MAGIC
        # Where there are sections pyelftools looks through all of them, which takes as long as the rest.
        yield ELFFile(io.BytesIO(loadable(file))) if is_elf else None
    except OSError as error:
        raise FileError(f"{file}: {error.strerror}") from error
    # The last two are pyelftools' where no table of names is found.
    except (ELFError, ValueError, OverflowError, AssertionError, AttributeError) as error:
        raise _damaged(file) from error


def _damaged(file: Path) -> FileError:
    return FileError(f"{file}: damaged ELF file")


def _interpret(file: Path, elf: Any) -> _Program:
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.segments import InterpSegment

    linker: str | None = None
    needed: list[str] = []
    folders: list[str] = []
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            linker = segment.get_interp_name()
        elif isinstance(segment, DynamicSegment):
            dynamic: Any = segment
            for tag in dynamic.iter_tags():
                if tag.entry.d_tag == "DT_NEEDED":
                    needed.append(tag.needed)
                elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
                    text = tag.rpath if tag.entry.d_tag == "DT_RPATH" else tag.runpath
                    folders += [_expand(folder, file) for folder in text.split(":") if folder]
    return _Program(file, elf["e_machine"], elf.elfclass, linker, tuple(needed), tuple(folders))


def _expand(folder: str, file: Path) -> str:
    origin = str(file.parent)
    return os.path.normpath(folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))


def _configured() -> Sequence[str]:
    return list(_folders_in(Path(_CONFIGURATION), set()))


def _folders_in(file: Path, seen: set[Path]) -> Iterator[str]:
    """The folders that a file of ldconfig's names, with those of the files it includes, each once."""
    if file in seen:
        return
    seen.add(file)
    try:
        lines = file.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:]:
                for included in sorted(Path("/").glob(str(file.parent / pattern).lstrip("/"))):
                    yield from _folders_in(included, seen)
        elif words and words[0].startswith("/"):
            yield words[0]
