"""Files that change while they are loaded."""

import contextlib
import errno
import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pykexec import loader, syscalls
from pykexec.errors import PykexecError
from pykexec.files import FileData
from pykexec.loader import load_request
from pykexec.plan import Module, Request
from tests.support.bzimage import FakeBzImage
from tests.support.machines import FOLDER, snapshot
from tests.support.pe import portable_executable
from tests.support.program import Load, Program, multiboot1

_ROOT = Path(__file__).parents[2]


def _replaced(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(b"new")
    new.replace(path)


def _written_anew(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def _cut(path: Path) -> None:
    os.truncate(path, 100)


@pytest.mark.parametrize("name", ["kernel", "initrd"])
@pytest.mark.parametrize("system_call", ["load", "file"])
@pytest.mark.parametrize(
    ("change", "harms"),
    [(lambda path: None, False), (_replaced, False), (_written_anew, True), (_cut, True)],
)
def test_a_file_that_changes_while_it_is_loaded(
    change: Callable[[Path], object],
    harms: bool,
    system_call: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when an initrd is made anew in its place: neither the old one nor the new one would be loaded."""
    paths = {"kernel": tmp_path / "kernel", "initrd": tmp_path / "initrd"}
    paths["kernel"].write_bytes(FakeBzImage().build())
    paths["initrd"].write_bytes(b"\x1f\x8b\x08" + bytes(9000))
    for path in paths.values():
        os.utime(path, (0, 0))  # not in this clock tick
    calls: list[str] = []

    def load(*_: object, **__: object) -> None:
        change(paths[name])

    monkeypatch.setattr(syscalls, "kexec_load", load)
    monkeypatch.setattr(syscalls, "kexec_file_load", load)
    monkeypatch.setattr(syscalls, "kexec_file_unload", lambda flags: calls.append("unload"))
    request = Request.from_paths(paths["kernel"], initrd=paths["initrd"])
    expected = pytest.raises(PykexecError, match=f"{name} changed") if harms else contextlib.nullcontext()
    with expected:
        load_request(snapshot("qemu-6.1-1g"), request, system_call)
    assert calls == (["unload"] if harms else [])


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, (0, 0))  # not in the clock tick in which it changes


def _unified(folder: Path) -> Request:
    sections = [(".osrel", b"ID=x\n"), (".uname", b"6.1\0"), (".linux", FakeBzImage().build())]
    _write(folder / "file", portable_executable([*sections, (".initrd", b"\x1f\x8b\x08" + bytes(900))]))
    return Request.from_paths(folder / "file")


def _packed(folder: Path) -> Request:
    _write(folder / "file", gzip.compress(FakeBzImage().build()))
    return Request.from_paths(folder / "file")


def _with_a_module(folder: Path) -> Request:
    kernel = Program([Load(0x100000, multiboot1().ljust(0x2000, b"\xf4"))], 0x100010, bits=32, machine=3)
    _write(folder / "kernel", kernel.build())
    _write(folder / "file", b"module")
    module = Module(FileData.open(folder / "file", "module"), "file")
    return Request.from_paths(folder / "kernel", modules=(module,))


def _joined(folder: Path) -> Request:
    _write(folder / "kernel", FakeBzImage().build())
    _write(folder / "file", b"\x1f\x8b\x08" + bytes(900))
    initrds = (FileData.open(folder / "file", "initrd"),) * 2
    return Request.from_paths(folder / "kernel", initrds=initrds)


WAYS = [_unified, _packed, _with_a_module, _joined]


@pytest.mark.parametrize("request_in", WAYS)
def test_what_was_made_of_a_file_that_changes(
    request_in: Callable[[Path], Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where plan and load are two steps, as programs take them."""
    request = request_in(tmp_path)
    machine = snapshot("qemu-6.1-1g")
    calls: list[str] = []
    monkeypatch.setattr(syscalls, "kexec_load", lambda *_: _written_anew(tmp_path / "file"))
    monkeypatch.setattr(syscalls, "kexec_file_unload", lambda flags: calls.append("unload"))
    plan = loader.plan_load(machine, request)
    with pytest.raises(PykexecError, match="changed while it was being loaded; nothing is loaded now"):
        loader.load(plan, machine)
    assert calls == ["unload"]


def test_a_damaged_kernel_that_cannot_be_unloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(flags: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    request = _joined(tmp_path)
    monkeypatch.setattr(syscalls, "kexec_load", lambda *_: _cut(tmp_path / "file"))
    monkeypatch.setattr(syscalls, "kexec_file_unload", refuse)
    with pytest.raises(PykexecError) as caught:
        load_request(snapshot("qemu-6.1-1g"), request, "load")
    assert "file changed while it was being loaded and stays loaded, damaged: " in caught.value.what
    assert (caught.value.hint or "").startswith("do not start it; ")


# Runs a command whose initrd is cut once it is mapped, with every way to act on this machine taken out.
_CUT = """
import os, sys, threading
from pykexec import cli, loader, purgatory, syscalls
from pykexec.machine import Machine
snapshot, kernel, initrd, threads, *options = sys.argv[1:]
def refuse(*_, **__):
    os._exit(99)
syscalls.kexec_load = syscalls.kexec_file_load = syscalls.kexec_unload = syscalls.kexec_file_unload = refuse
Machine.live = lambda: Machine.from_snapshot(snapshot)
real = loader._plan_load
def plan(machine, request, **how):
    os.truncate(initrd, 8192)
    return real(machine, request, **how)
loader._plan_load = plan
def elsewhere(work, count):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return []
if threads == "elsewhere":
    purgatory._start = elsewhere
sys.exit(cli.exit_code([*options, kernel, f"--initrd={initrd}"]))
"""


@pytest.mark.parametrize("options", ["-c -l", "-l --dry-run", "-p --dry-run --json", "-l --machine=MACHINE"])
@pytest.mark.parametrize("threads", ["here", "elsewhere"])
def test_a_file_that_is_cut_while_it_is_read(options: str, threads: str, tmp_path: Path) -> None:
    """The kernel ends whoever reads a page that is no more (mmap(2), SIGBUS)."""
    kernel, initrd = tmp_path / "kernel", tmp_path / "initrd"
    kernel.write_bytes(FakeBzImage().build())
    initrd.write_bytes(b"\x1f\x8b\x08" + bytes(4 << 20))
    machine = str(FOLDER / "qemu-6.1-1g.tar")
    words = [machine, str(kernel), str(initrd), threads, *options.replace("MACHINE", machine).split()]
    command = [sys.executable, "-c", _CUT, *words]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, check=False, timeout=60
    )
    told = b"pykexec: a file was cut while it was being read\n"
    assert (done.returncode, done.stdout, done.stderr) == (255, b"", told)


def test_afterwards_it_is_as_before() -> None:
    code = "import os, signal; from pykexec import streams\nwith streams.CutFiles('x'): {}\n"
    code += "os.kill(os.getpid(), signal.SIGBUS)"
    for inside, status in (("pass", -signal.SIGBUS), ("os.kill(os.getpid(), signal.SIGBUS)", 255)):
        words = ["-c", code.format(inside)]
        done = subprocess.run([sys.executable, *words], cwd=_ROOT, capture_output=True, check=False)
        assert done.returncode == status
