"""Running pykexec and the C tool on a made-up machine, and noting what each does to it.

pykexec gets a machine from a snapshot, with every way to act on this one taken out; the C tool libraries in
between.
"""

import logging
import os
import shlex
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pykexec import cli, execute, syscalls
from pykexec.machine import Machine
from pykexec.plan import Purpose, Segment
from tests.differential.cases import _BZIMAGE, Case, Files
from tests.differential.ckexec import CKexec, Loaded, _complete, _parse
from tests.support.machines import write

LINE = 'root=UUID=12-34 rd.luks.name=a=b console=ttyS0,115200 quoted="two words" panic=10'
RUNNING = "BOOT_IMAGE=/vmlinuz root=/dev/sda1 crashkernel=256M ro"
INITRD = b"\x28\xb5\x2f\xfd" + bytes(range(256)) * 20  # begins as zstd does

LOADED = {"kexec": "sys/kernel/kexec_loaded", "crash": "sys/kernel/kexec_crash_loaded"}


@dataclass(frozen=True)
class Call:
    """One thing done to the system."""

    what: str
    """file, load (kexec_file_load, kexec_load); file-unload, unload; sync, ifdown, reboot, shutdown"""
    crash: bool = False
    kernel: str = ""
    initrd: str = ""
    line: str = ""
    no_initrd: bool = False
    """Whether the flags say so."""
    flags: int = field(default=0, compare=False)
    """All of them, of a kexec_load or kexec_file_load."""


@dataclass(frozen=True)
class Done:
    """What a program did."""

    calls: Sequence[Call]
    status: int
    stdout: str
    stderr: str
    loaded: Loaded | None = None
    """The last successful kexec_load."""


@dataclass(frozen=True)
class Lab:
    """A machine's files, and files to load."""

    folder: Path
    c_kexec: CKexec
    shim: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def words(self, options: str) -> list[str]:
        return [word.format(line=LINE, **self.names) for word in shlex.split(options)]

    def theirs(self, options: str, file_error: int = 0, load_error: int = 0) -> Done:
        """Let the C tool do it."""
        log, out = self.folder / "log", self.folder / "loaded"
        for each in (log, out):
            each.unlink(missing_ok=True)
        log.touch()
        environment = {
            "LD_PRELOAD": f"{self.shim} {self.c_kexec.shim}",
            "LD_LIBRARY_PATH": ":".join(map(str, self.c_kexec.libraries)),
            "KEXEC_ROOT": str(self.root),
            "KEXEC_OUT": str(out),
            "KEXEC_LOG": str(log),
            "KEXEC_CPUS": "2",
        }
        environment |= {"KEXEC_FILE_ERROR": str(file_error)} if file_error else {}
        environment |= {"KEXEC_LOAD_ERROR": str(load_error)} if load_error else {}
        command = self.c_kexec.command(environment, self.words(options))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        calls = [_noted(line.split("\t")) for line in log.read_text().splitlines()]
        loaded = _parse(out.read_bytes()) if out.exists() else None
        return Done(calls, done.returncode, done.stdout, done.stderr, loaded)

    def ours(
        self, options: str, file_error: int = 0, load_error: int = 0, machine: Machine | None = None
    ) -> Done:
        """Let pykexec do it."""
        calls: list[Call] = []
        loaded: list[Loaded] = []
        machine = machine or Machine.from_snapshot(self.root)

        def answer(error: int, crash: bool) -> None:
            if error:
                raise OSError(error, os.strerror(error))
            write(self.root, LOADED["crash" if crash else "kexec"], "1\n")

        def load(entry: int, segments: Sequence[Segment], flags: int) -> None:
            calls.append(Call("load", bool(flags & 1), flags=flags))
            answer(load_error, bool(flags & 1))
            parts = tuple((each.address, each.memsz, bytes(each.data)) for each in segments)
            loaded.append(Loaded(entry, flags, parts))

        def file_load(kernel: int, initrd: int, line: bytes, flags: int) -> None:
            calls.append(_file_call(flags, _path(kernel), _path(initrd), line))
            answer(file_error, bool(flags & 2))

        def unload(flags: int) -> None:
            calls.append(Call("unload", bool(flags & 1)))

        def file_unload(flags: int) -> None:
            calls.append(Call("file-unload", bool(flags & 2)))
            if file_error:
                raise OSError(file_error, os.strerror(file_error))

        def shut_down(command: Sequence[str], **_: object) -> None:
            assert command in (("systemctl", "kexec"), ("/sbin/shutdown", "-r", "now"))
            calls.append(Call("shutdown"))

        with self.monkeypatch.context() as patch:
            patch.setattr(Machine, "live", lambda: machine)
            patch.setattr(syscalls, "kexec_load", load)
            patch.setattr(syscalls, "kexec_unload", unload)
            patch.setattr(syscalls, "kexec_file_load", file_load)
            patch.setattr(syscalls, "kexec_file_unload", file_unload)
            patch.setattr(syscalls, "reboot_kexec", lambda: calls.append(Call("reboot")))
            patch.setattr(execute, "take_interfaces_down", lambda: calls.append(Call("ifdown")))
            patch.setattr(os, "sync", lambda: calls.append(Call("sync")))
            patch.setattr(subprocess, "run", shut_down)
            patch.setattr(logging.root, "handlers", [])
            self.capsys.readouterr()
            status = cli.exit_code(self.words(options))
        logging.root.setLevel(logging.WARNING)
        output = self.capsys.readouterr()
        return Done(calls, status, output.out, output.err, loaded[-1] if loaded else None)


def _noted(fields: Sequence[str]) -> Call:
    """A line of the shim's log."""
    what, *rest = fields
    flags = int(rest[0], 16) if rest and what != "shutdown" else 0
    if what == "file":
        _, kernel, initrd, size, line = rest
        # The line's own NUL character counts.
        assert int(size) == len(line) + 1
        return _file_call(flags, kernel, initrd, line.encode() + b"\0")
    return Call(what, bool(flags & (2 if what == "file-unload" else 1)) and what != "reboot", flags=flags)


def _file_call(flags: int, kernel: str, initrd: str, line: bytes) -> Call:
    assert line.endswith(b"\0")
    return Call("file", bool(flags & 2), kernel, initrd, line[:-1].decode(), bool(flags & 4), flags)


def _path(number: int) -> str:
    return "-" if number < 0 else str(Path(f"/proc/self/fd/{number}").readlink())


def make_lab(lab: Lab, changes: Files) -> Lab:
    """With the files in place."""
    state: Files = {"proc/cmdline": f"{RUNNING}\n", **dict.fromkeys(LOADED.values(), "0\n")}
    Case("client", Purpose.BOOT, files={**state, **changes}).write(lab.root)
    _complete(lab.root, None)
    contents = {
        "kernel": _BZIMAGE,
        "initrd": INITRD,
        "other": INITRD[::-1],
        "uki": uki(_BZIMAGE),
        "text": b"no kernel\n" * 5000,
    }
    names = {}
    for name, data in contents.items():
        (lab.folder / name).write_bytes(data)
        names[name] = str(lab.folder / name)
    names["none"] = str(lab.folder / "none")
    return Lab(lab.folder, lab.c_kexec, lab.shim, lab.monkeypatch, lab.capsys, names)


def uki(kernel: bytes) -> bytes:
    """A unified kernel image: a Portable Executable with sections, as the format's specification has it."""
    parts = {b".linux": kernel, b".initrd": b"not this one", b".cmdline": b"nor this"}
    start, table, body = 0x1000, b"", b""
    for name, data in parts.items():
        table += struct.pack(
            "<8s6I2HI", name, len(data), 0x100000, len(data), start + len(body), 0, 0, 0, 0, 0
        )
        body += data + bytes(-len(data) % 512)
    header = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    header += struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, len(parts), 0, 0, 0, 0, 0x2022) + table
    return header.ljust(start, b"\0") + body
