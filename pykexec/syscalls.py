"""The system calls, through ctypes: they raise OSError with the errno, which explain.py explains."""

from __future__ import annotations

import ctypes
import errno
import os

from pykexec.buffers import HeldBuffer
from pykexec.errors import PykexecError
from pykexec.uapi import KEXEC_FILE_UNLOAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pykexec.plan import Segment

    SystemCall = Callable[..., int]
    """syscall(2): a number and arguments, all integers; returns what the kernel did, or raises OSError."""

_POINTER_BITS = ctypes.sizeof(ctypes.c_void_p) * 8

KEXEC_LOAD: Mapping[tuple[str, int], int] = {
    # include/uapi/asm-generic/unistd.h
    ("aarch64", 64): 104,
    ("loongarch64", 64): 104,
    ("riscv32", 32): 104,
    ("riscv64", 64): 104,
    # arch/*/entry/syscalls/syscall*.tbl, arch/*/kernel/syscalls/syscall*.tbl, arch/arm/tools/syscall.tbl
    ("arm", 32): 347,
    ("i386", 32): 283,
    ("ppc", 32): 268,
    ("ppc64", 64): 268,
    ("s390x", 64): 277,
    ("x86_64", 64): 246,
}
"""Numbers of kexec_load by machine and by bits in this process's pointers: a 32-bit process numbers calls
otherwise than the 64-bit kernel it runs on, and kexec from there is not supported."""

KEXEC_FILE_LOAD: Mapping[tuple[str, int], int] = {
    # As above; where it is missing, the kernel has no such call for that machine.
    ("aarch64", 64): 294,
    ("loongarch64", 64): 294,
    ("riscv64", 64): 294,
    ("ppc64", 64): 382,
    ("s390x", 64): 381,
    ("x86_64", 64): 320,
}

LINUX_REBOOT_CMD_KEXEC = 0x45584543
"""include/uapi/linux/reboot.h"""


def _syscall(number: int, *arguments: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result: int = libc.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments))
    if result == -1:
        raise _last_error()
    return result


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


class KexecSegment(ctypes.Structure):
    """struct kexec_segment (include/uapi/linux/kexec.h): four machine words."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("bufsz", ctypes.c_size_t),
        ("mem", ctypes.c_void_p),
        ("memsz", ctypes.c_size_t),
    )


def kexec_load(entry: int, segments: Sequence[Segment], flags: int, *, call: SystemCall = _syscall) -> None:
    """Load `segments`, to be entered at `entry` (physical). No data is copied on the way to the kernel.

    Raises OSError, or PykexecError when this process cannot make the call at all.
    """
    number = kexec_load_number(os.uname().machine, _POINTER_BITS)
    held = [HeldBuffer(segment.data) for segment in segments]
    table = (KexecSegment * len(segments))()
    for slot, segment, buffer in zip(table, segments, held, strict=True):
        slot.buf = buffer.address
        slot.bufsz = segment.data.nbytes
        slot.mem = segment.address
        slot.memsz = segment.memsz
    call(number, entry, len(segments), ctypes.addressof(table), flags)


def kexec_unload(flags: int, *, call: SystemCall = _syscall) -> None:
    """Forget what was loaded for the purpose in `flags`. Raises as `kexec_load` does."""
    kexec_load(0, (), flags, call=call)


def kexec_file_load(
    kernel: int, initrd: int, command_line: bytes, flags: int, *, call: SystemCall = _syscall
) -> None:
    """Let the kernel load the files with these descriptors (-1: none); `command_line` ends with a NUL byte.

    Raises OSError; ENOSYS where there is no such call.
    """
    number = KEXEC_FILE_LOAD.get((_family(os.uname().machine), _POINTER_BITS))
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    text = ctypes.create_string_buffer(command_line, len(command_line)) if command_line else None
    address = ctypes.addressof(text) if text is not None else 0
    call(number, kernel, initrd, len(command_line), address, flags)


def kexec_file_unload(flags: int, *, call: SystemCall = _syscall) -> None:
    """Forget what was loaded for the purpose in `flags`. Raises as `kexec_file_load` does."""
    kexec_file_load(-1, -1, b"", flags | KEXEC_FILE_UNLOAD, call=call)


def reboot_kexec() -> None:
    """Jump into the loaded kernel, now. Returns where that has jumped back (kexec jump). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.reboot(ctypes.c_int(LINUX_REBOOT_CMD_KEXEC)) != 0:
        raise _last_error()


def kexec_load_number(machine: str, pointer_bits: int) -> int:
    """The number of kexec_load where ``uname -m`` is `machine`. Raises PykexecError where there is none."""
    try:
        return KEXEC_LOAD[_family(machine), pointer_bits]
    except KeyError:
        raise PykexecError(
            f"kexec_load: not known how to call it on {machine} from a {pointer_bits}-bit process",
            hint="run pykexec with a Python of the kernel's own word size",
        ) from None


def _family(machine: str) -> str:
    """One name for those that share a table of system calls (armv6l, armv7l; i586, i686; ppc64le)."""
    if machine.startswith("arm"):
        return "arm"
    if len(machine) == 4 and machine[0] == "i" and machine.endswith("86"):
        return "i386"
    return machine.removesuffix("le")
