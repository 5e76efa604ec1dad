"""ELF notes: what each processor was doing, and VMCOREINFO."""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from pykexec.vmcore.errors import DumpError

ByteOrder = Literal["little", "big"]

_HEADER = {"little": struct.Struct("<III"), "big": struct.Struct(">III")}
_NOTES_MAX = 1 << 17
"""Each processor has up to a dozen (NR_CPUS is 8192 at most)."""
_NAME_MAX = 256
_CONTENT_MAX = 1 << 20
"""What drivers add (NT_VMCOREDD, fs/proc/vmcore.c) may be larger; that is passed over."""

_NT_PRSTATUS = 1
_VMCOREINFO = b"VMCOREINFO"


class Note(NamedTuple):
    """A note. `content` is empty where it was too long to keep; `size` is its true length in bytes."""

    name: bytes
    type: int
    content: bytes
    size: int


def read_notes(
    where: str, read_at: Callable[[int, int], bytes], offset: int, size: int, order: ByteOrder
) -> Iterator[Note]:
    """The notes in `size` bytes from `offset`; ends where they do.

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
    """The text of the VMCOREINFO note."""
    for note in notes:
        if note.name == _VMCOREINFO and note.type == 0 and note.content:
            return note.content
    return None


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor's state as it was saved when the kernel crashed."""

    number: int
    """Its place among the notes. Processors that did not answer leave none, so this may be lower than the
    kernel's own number."""
    process: int
    """The process it ran; 0 for the idle task."""
    registers: Mapping[str, int]
    pc: int | None
    """The program counter, whatever the architecture calls it."""
    sp: int | None
    """The stack pointer."""


class _Layout(NamedTuple):
    """Where struct elf_prstatus has what (include/linux/elfcore.h, arch/*/include/asm/elf.h)."""

    registers_at: int
    word_size: int
    names: tuple[str, ...]
    pc: str
    sp: str


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_PRSTATUS64, _PRSTATUS32 = 112, 72
_PID_AT = {8: 32, 4: 24}
_LAYOUTS: Mapping[str, _Layout] = MappingProxyType(
    {
        "x86_64": _Layout(
            _PRSTATUS64,
            8,
            _names(
                "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss"
                " fs_base gs_base ds es fs gs"
            ),
            "rip",
            "rsp",
        ),
        "arm64": _Layout(_PRSTATUS64, 8, (*(f"x{n}" for n in range(31)), "sp", "pc", "pstate"), "pc", "sp"),
        "i386": _Layout(
            _PRSTATUS32,
            4,
            _names("ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss"),
            "eip",
            "esp",
        ),
        "arm": _Layout(
            _PRSTATUS32,
            4,
            (*(f"r{n}" for n in range(11)), "fp", "ip", "sp", "lr", "pc", "cpsr", "orig_r0"),
            "pc",
            "sp",
        ),
        "riscv64": _Layout(
            _PRSTATUS64,
            8,
            _names(
                "pc ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11"
                " t3 t4 t5 t6"
            ),
            "pc",
            "sp",
        ),
    }
)


def processors(notes: Iterable[Note], arch: str, order: ByteOrder) -> Iterator[Processor]:
    """The processors' states; without registers where the architecture's layout is not known here."""
    statuses = (each for each in notes if each.type == _NT_PRSTATUS and each.name == b"CORE")
    for number, note in enumerate(statuses):
        layout = _LAYOUTS.get(arch)
        if layout is None:
            yield Processor(number, 0, {}, None, None)
            continue
        code = {8: "Q", 4: "I"}[layout.word_size]
        words = struct.Struct(f"{'<' if order == 'little' else '>'}{len(layout.names)}{code}")
        if len(note.content) < layout.registers_at + words.size:
            continue
        values = words.unpack_from(note.content, layout.registers_at)
        registers = dict(zip(layout.names, values, strict=True))
        pid_at = _PID_AT[layout.word_size]
        pid = int.from_bytes(note.content[pid_at : pid_at + 4], order, signed=True)
        yield Processor(number, pid, registers, registers[layout.pc], registers[layout.sp])
