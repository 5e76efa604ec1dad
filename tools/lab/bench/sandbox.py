"""Runs and measures loaders where they cannot load anything, as a process of its own.

A seccomp filter on this process and all that it starts answers the system calls that would load a kernel,
jump into it or write out the disks' caches, as if they had succeeded. A network namespace without interfaces
and a /sys/kernel that only this process sees stand in for a machine with kexec. Nothing is run before a
child has made those calls with arguments no kernel accepts, and has seen them succeed.

kexec_load is answered by this process rather than by the filter alone: the loader stands still meanwhile,
with all its data in memory, and its page tables tell how much of that is its own.

Reads a `Job` as JSON from standard input and prints a JSON object a line: {"name", "seconds"} for each run,
at the end {"name", "anonymous", "loaded"} for each command.
"""

import array
import ctypes
import errno
import fcntl
import json
import os
import platform
import re
import select
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..host import LabError

_LIBC = ctypes.CDLL(None, use_errno=True)

# arch/x86/entry/syscalls/syscall_64.tbl
_SYNC, _REBOOT, _KEXEC_LOAD, _SECCOMP, _KEXEC_FILE_LOAD = 162, 169, 246, 317, 320
_ANSWERED_WITH_SUCCESS = (_SYNC, _REBOOT, _KEXEC_FILE_LOAD)
_X32 = 0x40000000
"""Set in the numbers of x32, another way to the same calls (arch/x86/include/uapi/asm/unistd.h)."""
_AUDIT_ARCH_X86_64 = 0xC000003E  # include/uapi/linux/audit.h

# include/uapi/linux/bpf_common.h, include/uapi/linux/filter.h
_LOAD_WORD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_INSTRUCTION = struct.Struct("HBBI")

# include/uapi/linux/seccomp.h, include/uapi/linux/prctl.h
_NUMBER_AT, _ARCH_AT = 0, 4  # of struct seccomp_data
_ALLOW, _NOTIFY, _SUCCEED, _KILL = 0x7FFF0000, 0x7FC00000, 0x00050000, 0x80000000
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_NOTIFICATION = struct.Struct("QIIiIQ6Q")
_RESPONSE = struct.Struct("QqiI")
_NOTIF_RECV, _NOTIF_SEND = 0xC0502100, 0xC0182101
_PR_SET_NO_NEW_PRIVS = 38

# include/uapi/linux/sched.h, include/uapi/linux/mount.h
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000

# struct kexec_segment and KEXEC_SEGMENT_MAX (include/uapi/linux/kexec.h)
_SEGMENT, _SEGMENTS_MAX = struct.Struct("4Q"), 16
_SAMPLE_MILLISECONDS = 1
_LIMIT = 60
"""Seconds that a command may take."""

_STATE = {
    "kexec_loaded": "1\n",
    "kexec_crash_loaded": "0\n",
    "kexec_crash_size": "0\n",
}
"""What a kernel with kexec shows in /sys/kernel: something to start with -e, no crash kernel."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments."""

    name: str
    argv: list[str]
    env: Mapping[str, str]
    statuses: Sequence[int] = (0,)
    """Exit statuses that mean success."""
    loads: int | None = None
    """Bytes that it must hand to kexec_load at least; None: it need not load anything."""


@dataclass(frozen=True, slots=True)
class Job:
    """Commands to compare: each is run once unmeasured, then `runs` times, in turn."""

    commands: Sequence[Command]
    runs: int
    memory: bool = False
    """Also find out how much anonymous memory each takes, in one more run."""

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        fields = json.loads(text)
        commands = [Command(**each) for each in fields.pop("commands")]
        return cls(commands, **fields)


@dataclass(slots=True)
class _Observed:
    """What one run did."""

    seconds: float = 0.0
    anonymous: int = 0
    """The most anonymous memory it had, in bytes; 0 where that was not asked for."""
    loaded: int | None = None
    """Bytes of memory that its last kexec_load would have filled; None without one."""


def main() -> int:
    """Run the job on standard input."""
    job = Job.from_json(sys.stdin.read())
    try:
        enter_namespaces()
        listener = install_filter()
        for number in range(job.runs + 1):
            # There and back again: whoever comes second may find caches warm, or the CPU hot.
            for command in job.commands if number % 2 else reversed(job.commands):
                seconds = run(command, listener, watch=False).seconds
                if number:
                    _say(name=command.name, seconds=seconds)
        for command in job.commands:
            seen = run(command, listener, watch=True) if job.memory else _Observed()
            _say(name=command.name, anonymous=seen.anonymous, loaded=seen.loaded)
    except (LabError, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    return 0


def _say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def install_filter() -> int:
    """Filter the system calls of this process and all that it will start, for good; the filter's descriptor.

    Raises LabError when it does not hold.
    """
    if platform.machine() != "x86_64" or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise LabError("measuring takes an x86_64 machine: the filter knows the system calls of no other")
    listener = _filter()
    verify(listener)
    return listener


def enter_namespaces() -> None:
    """No network, and a /sys/kernel as of a machine that has kexec. Raises LabError, OSError."""
    if os.geteuid() != 0:
        raise LabError("measuring takes root: loaders ask for it, and so does the sandbox")
    _check(_LIBC.unshare(_CLONE_NEWNS | _CLONE_NEWNET), "unshare")
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    # The old one goes on showing the interfaces of the old namespace.
    _mount("sysfs", "/sys", "sysfs", 0)
    sys_kernel = Path("/sys/kernel")
    with tempfile.TemporaryDirectory() as folder:
        _mount(sys_kernel, folder, None, _MS_BIND)
        _mount("tmpfs", sys_kernel, "tmpfs", 0)
        for original in Path(folder).iterdir():
            if original.name in _STATE or original.name == "kexec":
                continue
            stand_in = sys_kernel / original.name
            if original.is_dir():
                stand_in.mkdir()
            else:
                stand_in.touch()
            _mount(original, stand_in, None, _MS_BIND)
        _check(_LIBC.umount2(os.fsencode(folder), 2), "umount")  # MNT_DETACH
    for name, content in _STATE.items():
        (sys_kernel / name).write_text(content)


def _mount(source: str | Path | None, target: str | Path, kind: str | None, flags: int) -> None:
    arguments = [None if each is None else os.fsencode(each) for each in (source, target, kind)]
    _check(_LIBC.mount(*arguments, ctypes.c_ulong(flags), None), f"mount {target}")


def _filter() -> int:
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))), "prctl")
    program = _program()
    code = ctypes.create_string_buffer(program, len(program))
    count = len(program) // _INSTRUCTION.size
    header = struct.pack("H6xQ", count, ctypes.addressof(code))  # struct sock_fprog
    listener: int = _LIBC.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, header)
    _check(listener, "seccomp")
    os.set_inheritable(listener, False)
    return listener


def _program() -> bytes:
    """The filter. A call through another table of numbers than x86_64's own ends its process."""
    rules = [(number, _SUCCEED) for number in _ANSWERED_WITH_SUCCESS] + [(_KEXEC_LOAD, _NOTIFY)]
    code = [
        _INSTRUCTION.pack(_LOAD_WORD, 0, 0, _ARCH_AT),
        _INSTRUCTION.pack(_IF_EQUAL, 1, 0, _AUDIT_ARCH_X86_64),
        _INSTRUCTION.pack(_RETURN, 0, 0, _KILL),
        _INSTRUCTION.pack(_LOAD_WORD, 0, 0, _NUMBER_AT),
        _INSTRUCTION.pack(_IF_AT_LEAST, 0, 1, _X32),
        _INSTRUCTION.pack(_RETURN, 0, 0, _KILL),
    ]
    for number, action in rules:
        code.append(_INSTRUCTION.pack(_IF_EQUAL, 0, 1, number))
        code.append(_INSTRUCTION.pack(_RETURN, 0, 0, action))
    code.append(_INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW))
    return b"".join(code)


def verify(listener: int) -> None:
    """Let a child make the calls, with arguments that do nothing where there is no filter.

    Raises LabError when one of them reaches the kernel.
    """
    child = os.fork()
    if child == 0:
        bad = ctypes.c_ulong(-1)
        # Too many segments, no such descriptors, and a wrong magic number: errors, were they to arrive.
        results = [_LIBC.syscall(number, bad, bad, bad, bad, bad) for number in _INTERCEPTED]
        os._exit(0 if results == [0] * len(results) else 1)
    if _watch(child, listener, watch=False).loaded is None or _status(child) != 0:
        raise LabError("the sandbox does not hold: a system call went through its filter to the kernel")


_INTERCEPTED = (_KEXEC_LOAD, _KEXEC_FILE_LOAD, _REBOOT)


def run(command: Command, listener: int, *, watch: bool) -> _Observed:
    """Run it to its end. Raises LabError when it fails, or loads less than it should."""
    with tempfile.TemporaryFile() as output:
        quiet = (
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
        )
        started = time.perf_counter()
        child = os.posix_spawn(command.argv[0], command.argv, command.env, file_actions=quiet)
        seen = _watch(child, listener, watch=watch)
        seen.seconds = time.perf_counter() - started
        status = _status(child)
        output.seek(0)
        if status not in command.statuses:
            text = output.read().decode(errors="replace").strip()
            raise LabError(f"{command.name} failed with status {status}: {' '.join(command.argv)}\n{text}")
    if command.loads is not None and (seen.loaded is None or (watch and seen.loaded < command.loads)):
        raise LabError(
            f"{command.name} would have loaded {seen.loaded} bytes, not {command.loads} or more:"
            f" {' '.join(command.argv)}"
        )
    return seen


def _watch(child: int, listener: int, *, watch: bool) -> _Observed:
    """Answer the child's kexec_load calls until it is dead; the caller takes its status."""
    seen = _Observed()
    process = os.pidfd_open(child)
    deadline = time.monotonic() + _LIMIT
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(listener, select.POLLIN)
    try:
        while True:
            ready = {fd for fd, _ in poll.poll(_SAMPLE_MILLISECONDS if watch else _LIMIT * 1000)}
            if time.monotonic() > deadline:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                os.waitpid(child, 0)
                raise LabError(f"a command did not end within {_LIMIT} s")
            if watch:
                # Between the samples and at the call itself: a loader has all its data in memory there.
                seen.anonymous = max(seen.anonymous, _anonymous(child, exact=listener in ready))
            if listener in ready:
                seen.loaded = _answer(listener, look=watch)
            if process in ready:
                return seen
    finally:
        os.close(process)


def _answer(listener: int, *, look: bool) -> int:
    """Let a kexec_load call return 0; the bytes it would have loaded, where they are to be looked at."""
    request = array.array("B", bytes(_NOTIFICATION.size))
    fcntl.ioctl(listener, _NOTIF_RECV, request)
    identifier, pid, _, _, _, _, _, count, table, *_ = _NOTIFICATION.unpack(request)
    size = _loaded_bytes(pid, count, table) if look else 0
    fcntl.ioctl(listener, _NOTIF_SEND, array.array("B", _RESPONSE.pack(identifier, 0, 0, 0)))
    return size


def _loaded_bytes(pid: int, count: int, table: int) -> int:
    if count > _SEGMENTS_MAX:
        return 0
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        memory.seek(table)
        return sum(row[3] for row in _SEGMENT.iter_unpack(memory.read(count * _SEGMENT.size)))


def _anonymous(pid: int, *, exact: bool) -> int:
    """Anonymous memory of a process: the exact sum takes a walk through its page tables."""
    file, name = ("smaps_rollup", "Anonymous") if exact else ("status", "RssAnon")
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return 0
        raise
    # A process that has ended shows none.
    return int(found[1]) << 10 if found else 0


def _status(child: int) -> int:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGSYS:
        raise LabError("a program made a system call through a table of numbers other than x86_64's")
    return status


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the sandbox cannot be set up: {what}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main())
