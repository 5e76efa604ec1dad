"""Tags (ATAGS): what boot loaders told kernels of machines without a device tree (asm/setup.h)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from pykexec.errors import MachineError
from pykexec.machine import Machine
from pykexec.memory import Range

_PATH = "proc/atags"
_CORE, _INITRD, _INITRD2, _CMDLINE = 0x54410001, 0x54410005, 0x54420005, 0x54410009
_HEAD = struct.Struct("<II")
_WORD = 4
_SIZE_MAX = 64 << 10


def build(machine: Machine, line: str, initrd: Range | None) -> bytes:
    """Return the running kernel's tags with this command line and initrd (physical).

    Raises MachineError where it shows none, or they are damaged.
    """
    data = machine.read(_PATH)
    if data is None:
        raise MachineError(
            f"--atags: there is no /{_PATH}: this machine was started with a device tree",
            hint="leave out --atags",
        )
    kept = [tag for number, tag in _tags(data) if number not in (_INITRD, _INITRD2, _CMDLINE)]
    if initrd is not None:
        kept.append(_tag(_INITRD2, struct.pack("<II", initrd.start, initrd.size)))
    kept.append(_tag(_CMDLINE, os.fsencode(line) + b"\0"))
    return b"".join(kept) + bytes(_HEAD.size)


def _tag(number: int, content: bytes) -> bytes:
    content += bytes(-len(content) % _WORD)
    return _HEAD.pack((_HEAD.size + len(content)) // _WORD, number) + content


def _tags(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each tag's number and its bytes, up to the one that ends the list."""
    at = 0
    while at + _HEAD.size <= min(len(data), _SIZE_MAX):
        size, number = _HEAD.unpack_from(data, at)
        if not number:
            return
        end = at + size * _WORD
        if size < _HEAD.size // _WORD or end > len(data) or (at == 0) != (number == _CORE):
            break
        yield number, data[at:end]
        at = end
    raise MachineError(f"/{_PATH} is damaged at offset {at:#x}")
