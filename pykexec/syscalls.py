"""The system calls, through ctypes. They raise OSError with the errno; explain.py says what it means.

A process makes them as a program of its own architecture, which need not be the kernel's: x86_64's kernels
run programs of i386, arm64's those of arm. So numbers and words are those of the process; flags and segments
are for the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

from pykexec.buffers import PinnedBuffer
from pykexec.errors import MachineError, PykexecError
from pykexec.uapi import KEXEC_FILE_UNLOAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pykexec.names import ArchNames
    from pykexec.plan import Segment

    SystemCall = Callable[..., int]
    """syscall(2): a number and arguments, all integers; returns what the kernel did, or raises OSError."""

_POINTER_BITS = ctypes.sizeof(ctypes.c_void_p) * 8

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
    """struct kexec_segment (include/uapi/linux/kexec.h): four words of the process.

    On a 64-bit kernel those of a 32-bit process are struct compat_kexec_segment (include/linux/kexec.h).
    """

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
    number = kexec_load_number(process_arch())
    require_words(entry, segments, _POINTER_BITS)
    held = [PinnedBuffer(segment.data) for segment in segments]
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
    process = process_arch()
    number = None if process is None else process.kexec_file_load
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    text = ctypes.create_string_buffer(command_line, len(command_line)) if command_line else None
    address = ctypes.addressof(text) if text is not None else 0
    call(number, kernel, initrd, len(command_line), address, flags)


def kexec_file_unload(flags: int, *, call: SystemCall = _syscall) -> None:
    """Forget what was loaded for the purpose in `flags`. Raises as `kexec_file_load` does."""
    kexec_file_load(-1, -1, b"", flags | KEXEC_FILE_UNLOAD, call=call)


def reboot_kexec() -> None:
    """Jump into the loaded kernel now.

    Returns only when that kernel jumps back (kexec jump). Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.reboot(ctypes.c_int(LINUX_REBOOT_CMD_KEXEC)) != 0:
        raise _last_error()


_KEYCTL_LINK = 8
_PROCESS_KEYRING, _USER_KEYRING = -2, -4
"""include/uapi/linux/keyctl.h"""


def request_key(kind: str, description: str, *, call: SystemCall = _syscall) -> int:
    """Return the serial number of the key that the kernel finds for this process; no program makes it one.

    The process from now on has all keys of its user, which the session of a service or of sudo need not
    have (keyrings(7), "Session keyrings"). Raises OSError: ENOKEY without such a key, ENOSYS where this
    process cannot ask.
    """
    process = process_arch()
    number = None if process is None else process.request_key
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    call(number + 1, _KEYCTL_LINK, _USER_KEYRING, _PROCESS_KEYRING)
    texts = [ctypes.create_string_buffer(os.fsencode(each)) for each in (kind, description)]
    return call(number, *map(ctypes.addressof, texts), 0, 0)


def kexec_load_number(process: ArchNames | None) -> int:
    """Return the number of kexec_load for programs of that architecture.

    Raises PykexecError where it has no such call, or is not known.
    """
    if process is None or process.kexec_load is None:
        kind = "this process" if process is None else f"a program of {process.name}"
        raise PykexecError(
            f"kexec_load: not known how to call it from {kind}",
            hint="run pykexec with a Python of the kernel's own architecture",
        )
    return process.kexec_load


def process_arch() -> ArchNames | None:
    """Return the architecture that this process is a program of; None where that has no name (x32).

    uname tells of the kernel, or what the process's personality wants (setarch). Raises MachineError.
    """
    try:
        program = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return program_arch(os.read(program, PROGRAM_HEAD))
        finally:
            os.close(program)
    except OSError as error:
        raise MachineError(
            f"/proc/self/exe cannot be read: {error.strerror}", hint="mount /proc, or leave the sandbox"
        ) from error


PROGRAM_HEAD = 20
"""The bytes at the beginning of a program's file that tell its architecture."""


def program_arch(head: bytes) -> ArchNames | None:
    """Return the architecture of the program whose file for this machine begins so."""
    # elf(5): e_ident[EI_CLASS] and e_machine. To unload, importing formats.elfheader would take the longest.
    from pykexec import names

    bits, machine = 32 * head[4], int.from_bytes(head[18:20], sys.byteorder)
    row = names.of_elf(machine, bits, sys.byteorder)
    return row if row is not None and row.elf.bits == bits else None


def require_words(entry: int, segments: Sequence[Segment], word_bits: int) -> None:
    """Raise PykexecError for an address or size that a word of so many bits cannot hold.

    ctypes would cut it, and the kernel would load to another place.
    """
    end = 1 << word_bits
    beyond = f"beyond the addresses of a {word_bits}-bit process"
    hint = f"load below that (--mem-max={end - 1:#x}), or run pykexec with a 64-bit Python"
    if not 0 <= entry < end:
        raise PykexecError(f"kexec_load: the entry point {entry:#x} is {beyond}", hint=hint)
    for each in segments:
        if not 0 <= each.address <= each.address + each.memsz <= end:
            raise PykexecError(
                f"kexec_load: segment {each.name} ends at {each.address + each.memsz:#x}, {beyond}",
                hint=hint,
            )
