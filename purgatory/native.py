"""SHA-256 as the shipped purgatory does it, called here: two messages at once.

A CPU's instructions for SHA-256 wait for each other within a message: two messages take little longer than
one. hashlib does one at a time, purgatory has a function for two (x86_64/sha256_ni.S). Its file is mapped
and that function called, as a library's would be; where that is not possible, hashlib does it.
"""

from __future__ import annotations

import ctypes
import mmap
import os

from pykexec.buffers import HeldBuffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Hash = Callable[[Sequence[memoryview]], list[bytes]]
    """The digests of one or two messages."""

MARK = b"loader's sha256:"
"""Stands before the function in the file (x86_64/sha256_probe.S)."""

_KNOWN = b"".join(b"abcdefghijklmnopqrstu"[start : start + 8] for start in range(14))
_KNOWN_DIGEST = bytes.fromhex("cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1")
"""NIST's example of two blocks (FIPS 180-4): a wrong digest would show only once the machine is down."""


class _Message(ctypes.Structure):
    """struct message of common/purgatory.h."""

    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_uint64), ("digest", ctypes.c_ubyte * 32))


def find(file: str) -> Hash | None:
    """The function in that purgatory; None where it has none for programs on this CPU, or may not be run."""
    if os.uname().machine != "x86_64" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            code = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):  # none there, an empty one, a file system or a policy that forbids it
        return None
    place = code.find(MARK)
    held = HeldBuffer(memoryview(code))
    if place < 0 or held.address is None:
        return None
    call = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32)
    function = call(held.address + place + len(MARK))

    def digests(messages: Sequence[memoryview]) -> list[bytes]:
        buffers = [held, *map(HeldBuffer, messages)]  # the code, too, stays where it is
        table = (_Message * len(messages))()
        for row, buffer, data in zip(table, buffers[1:], messages, strict=True):
            row.data, row.size = buffer.address, data.nbytes
        function(ctypes.addressof(table), len(messages))
        return [bytes(row.digest) for row in table]

    if not function(None, 0) or digests([memoryview(_KNOWN)] * 2) != [_KNOWN_DIGEST] * 2:
        return None
    return digests
