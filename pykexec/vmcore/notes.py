"""ELF notes: the state of each processor, and VMCOREINFO."""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pykexec.vmcore.errors import DumpError
from pykexec.vmcore.part import Registers

ByteOrder = Literal["little", "big"]

_HEADER = {"little": struct.Struct("<III"), "big": struct.Struct(">III")}
_NOTES_MAX = 1 << 17
"""Each processor has up to a dozen notes (NR_CPUS is 8192 at most)."""
_NAME_MAX = 256
_CONTENT_MAX = 1 << 20
"""Notes that drivers add (NT_VMCOREDD, fs/proc/vmcore.c) may be larger; they are skipped."""

_NT_PRSTATUS = 1
_VMCOREINFO = b"VMCOREINFO"


class Note(NamedTuple):
    """A note. `content` is empty if it was too long to keep; `size` is its true length in bytes."""

    name: bytes
    type: int
    content: bytes
    size: int


def read_notes(
    where: str, read_at: Callable[[int, int], bytes], offset: int, size: int, order: ByteOrder
) -> Iterator[Note]:
    """Yield the notes in `size` bytes from `offset`, up to the last one.

    Raises DumpError after an absurd number of them.
    """
    header, end = _HEADER[order], offset + size
    for _ in range(_NOTES_MAX):
        head = read_at(offset, min(header.size + _NAME_MAX, end - offset))
        if len(head) < header.size:
            return
        name_size, content_size, kind = header.unpack_from(head)
        if not (name_size or content_size or kind):
            return  # the kernel reserves room for notes and ends them with an empty one
        content_at = offset + header.size + _padded(name_size)
        if content_at + content_size > end:
            return
        name = head[header.size : header.size + name_size].rstrip(b"\0")
        content = read_at(content_at, content_size) if content_size <= _CONTENT_MAX else b""
        yield Note(name, kind, content, content_size)
        offset = content_at + _padded(content_size)
    raise DumpError(f"{where}: more than {_NOTES_MAX} notes", status=20)


def _padded(size: int) -> int:
    return (size + 3) & ~3


def vmcoreinfo_of(notes: Iterable[Note]) -> bytes | None:
    """Return the text of the VMCOREINFO note; None where there is none."""
    for note in notes:
        if note.name == _VMCOREINFO and note.type == 0 and note.content:
            return note.content
    return None


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor's state as it was saved when the kernel crashed."""

    number: int
    """Its index among the notes. A processor that did not answer leaves none, so this may be lower than the
    kernel's number."""
    process: int
    """The process that it ran; 0 for the idle task."""
    registers: Mapping[str, int]
    pc: int | None
    """The program counter, whatever its name on the architecture."""
    sp: int | None
    """The stack pointer."""


_REGISTERS_AT = {8: 112, 4: 72}
_PID_AT = {8: 32, 4: 24}
"""Offsets in a struct elf_prstatus (include/linux/elfcore.h), by the size of a long."""
_LONG = {8: "Q", 4: "I"}


def processors(
    notes: Iterable[Note], registers: Registers | None, word_size: int, order: ByteOrder
) -> Iterator[Processor]:
    """Yield the processors' states; without registers where these are not known.

    `word_size`: the bytes of a long.
    """
    statuses = (each for each in notes if each.type == _NT_PRSTATUS and each.name == b"CORE")
    for number, note in enumerate(statuses):
        if registers is None:
            yield Processor(number, 0, {}, None, None)
            continue
        prefix, names = "<" if order == "little" else ">", registers.names.split()
        words = struct.Struct(f"{prefix}{len(names)}{_LONG[word_size]}")
        at, pid_at = _REGISTERS_AT[word_size], _PID_AT[word_size]
        if len(note.content) < at + words.size:
            continue
        values = dict(zip(names, words.unpack_from(note.content, at), strict=True))
        pid = int.from_bytes(note.content[pid_at : pid_at + 4], order, signed=True)
        yield Processor(number, pid, values, values[registers.pc], values[registers.sp])
