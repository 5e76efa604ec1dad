"""What the service leaves when something fails, or when it is killed: the old or the new, and no lie."""

import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec import syscalls
from pykexec.kdump import capture
from pykexec.kdump.cli import exit_code
from pykexec.kdump.config.settings import Dialect, Settings, Target, TargetKind
from pykexec.kdump.service import actions, lock, rawdump, receipt
from pykexec.kdump.service.receipt import Receipt
from pykexec.machine import Machine
from tests.support import faults
from tests.support.bzimage import FakeBzImage
from tests.support.faults import Ended, Fault, Kind
from tests.support.machines import unpacked, write

_SOME = 25
"""How many faults an ordinary run meets; a longer one meets all."""
_COUNTS = pytest.mark.parametrize(
    "count",
    [pytest.param(_SOME, id="some"), pytest.param(None, id="all", marks=pytest.mark.further)],
)


def _met(command: Callable[[], int], count: int | None) -> Iterator[Fault]:
    found = faults.possible(command)
    assert len(found) > _SOME
    yield from found if count is None else faults.spread(found, count)


def _judge_messages(ended: Ended, fault: Fault) -> None:
    assert "Traceback" not in ended.stderr, fault
    assert ended.status in ((Kind.KILLED.value,) if fault.kind is Kind.KILLED else (0, 1)), (fault, ended)
    assert ended.status or fault.kind is not Kind.KILLED
    lines = [line for line in ended.stderr.splitlines() if line.startswith("pykdump: ")]
    warnings = [line for line in lines if line.startswith("pykdump: warning: ")]
    assert len(lines) - len(warnings) <= 1, (fault, ended)
    assert len(ended.stderr.splitlines()) <= 2 * len(lines), (fault, ended)


# pykdump start

_OLD = Receipt("", "/k", "11", "/i", "22", "line", "there", "hw", "in", "kexec_load", "2026-01-01T00:00:00Z")


class Kernel:
    """The kernel that a machine has loaded, which all processes see: the system calls are replaced."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._loads = mmap.mmap(-1, mmap.PAGESIZE)
        self.machine = Machine.live()

    def reset(self) -> None:
        self._loads[0] = 0
        write(self._root, "sys/kernel/kexec_crash_loaded", "1\n")

    def load(self, *_: object) -> None:
        self._loads[0] += 1

    @property
    def is_new(self) -> bool:
        return self._loads[0] > 0


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    boot, root = tmp_path / "boot", tmp_path / "machine"
    boot.mkdir()
    (boot / "vmlinuz-6.1-running").write_bytes(FakeBzImage().build())
    (tmp_path / "initrd").write_bytes(b"initrd")
    files = {
        "etc/kdump.conf": f"path {tmp_path}/crash\n",
        "etc/sysconfig/kdump": f"KDUMP_BOOTDIR={boot}\nKEXEC_ARGS=-c\n",
        "proc/sys/kernel/osrelease": "6.1-running\n",
    }
    machine = unpacked("qemu-6.1-1g", root, files)
    monkeypatch.setattr(Machine, "live", machine.anew)
    monkeypatch.setattr(actions, "may_boot", lambda machine: True)
    monkeypatch.setattr(lock, "LOCK", tmp_path / "run/service.lock")
    for name in ("LOADED", "PLAN", "PROVEN"):
        monkeypatch.setattr(receipt, name, tmp_path / "run" / f"{name}.json")
    made = Kernel(root)
    monkeypatch.setattr(syscalls, "kexec_load", made.load)
    return made


@_COUNTS
@pytest.mark.slow
def test_start(count: int | None, kernel: Kernel, tmp_path: Path) -> None:
    old = replace(_OLD, boot=receipt.boot_id())

    def reset() -> None:
        kernel.reset()
        for path in (tmp_path / "run").glob("*"):
            path.unlink()
        for path in (tmp_path / "run").glob(".*"):
            path.unlink()
        receipt.save(old, receipt.LOADED)

    def start() -> int:
        return exit_code(["start", "--initrd", str(tmp_path / "initrd")])

    reset()
    for fault in _met(start, count):
        reset()
        ended = faults.run(start, fault)
        _judge_messages(ended, fault)
        said = actions.loaded_now(Machine.live())
        assert said != old or not kernel.is_new, (fault, "the receipt of the kernel before")
        assert said is None or said == old or kernel.is_new, (fault, "a receipt of what is not loaded")
        if ended.status == 0:
            assert said is not None, fault
            assert kernel.is_new, fault
        elif ended.status == 1:
            assert kernel.is_new == ("capture kernel is loaded" in ended.stderr), (fault, ended)
            # No room at all: then nothing gets its name back either.
            assert kernel.is_new or said == old or fault.kind is Kind.FULL, (fault, ended)
        left = {path.name for path in receipt.LOADED.parent.iterdir() if path.name.startswith(".")}
        assert not left or fault.kind is Kind.KILLED or fault.call == "unlink", (fault, left)


# The capture image


def _contents(text: bytes) -> capture.Contents:
    to = capture.Destination(capture.Transport.DISK, "/there")
    entries = [capture.Entry(f"/{number}", text * 1000, 0o600) for number in range(5)]
    return capture.Contents(to, tuple(entries))


@_COUNTS
@pytest.mark.slow
def test_image(count: int | None, tmp_path: Path) -> None:
    image = tmp_path / "lib/initrd"
    stamp = image.with_name("initrd.inputs")
    old, new = _contents(b"old"), _contents(b"new")

    def make(what: capture.Contents) -> int:
        actions.make_image(what, image, lambda text: None)
        return 0

    contents = {}
    for what in (old, new):
        assert make(what) == 0
        contents[f"{what.fingerprint}\n"] = image.read_bytes()
    assert len({*contents.values()}) == 2

    make(old)
    for fault in _met(lambda: make(new), count):
        make(old)
        ended = faults.run(lambda: make(new), fault)
        assert image.read_bytes() in contents.values(), fault
        assert not stamp.exists() or contents[stamp.read_text()] == image.read_bytes(), fault
        assert ended.status != 0 or stamp.read_text() == f"{new.fingerprint}\n", fault
        assert stat.S_IMODE(image.stat().st_mode) == 0o600
    make(new)
    assert image.read_bytes() == contents[stamp.read_text()] == contents[f"{new.fingerprint}\n"]
    assert {path.name for path in image.parent.iterdir()} == {"initrd", "initrd.inputs"}


# A dump on a raw partition


@pytest.fixture
def collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """makedumpfile, as far as this needs it."""
    program = tmp_path / "bin/makedumpfile"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\ncase $1 in -R) cat > "$2" ;; *) echo log > "$3" ;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@_COUNTS
@pytest.mark.programs
@pytest.mark.usefixtures("collector")
@pytest.mark.slow
def test_raw_dump(count: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, crash = tmp_path / "device", tmp_path / "crash"
    content = b"makedumpfile".ljust(16, b"\0") + b"x" * 20000
    settings = Settings(Dialect.FEDORA, target=Target(TargetKind.RAW, str(device)))
    monkeypatch.setattr(time, "strftime", lambda *_: "1970-01-01-00:00:10")
    older = crash / "127.0.0.1-1970-01-01-00:00:10/vmcore"
    older.parent.mkdir(parents=True)
    older.write_text("an older dump")
    taken = older.parent.with_name(f"{older.parent.name}.1")

    def reset() -> None:
        device.write_bytes(content)
        for name in ("vmcore", "vmcore-incomplete", "vmcore-dmesg.txt", "vmcore-dmesg-incomplete.txt"):
            (taken / name).unlink(missing_ok=True)
        if taken.exists():
            taken.rmdir()

    def take_over() -> int:
        rawdump.take_over(settings, lambda text: None, crash)
        return 0

    reset()
    for fault in _met(take_over, count):
        reset()
        ended = faults.run(take_over, fault)
        assert older.read_text() == "an older dump", fault
        assert {path.name for path in crash.iterdir()} <= {older.parent.name, taken.name}, fault
        whole = (taken / "vmcore").exists()
        assert not whole or (taken / "vmcore").read_bytes() == content, fault
        assert device.read_bytes() == content or whole, fault
        assert ended.status != 0 or (whole and device.read_bytes()[:4096] == bytes(4096)), fault
        if fault.kind is not Kind.KILLED and not whole and fault.call not in ("unlink", "rmdir"):
            assert not taken.exists(), fault
