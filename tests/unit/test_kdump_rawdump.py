"""A dump on a bare partition, which the next start takes over."""

import errno
import os
import stat
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.errors import FileError
from pykexec.kdump.config.settings import Dialect, Settings, Target, TargetKind
from pykexec.kdump.service import dumps, rawdump


def _settings(device: Path) -> Settings:
    return Settings(Dialect.FEDORA, target=Target(TargetKind.RAW, str(device)))


@pytest.mark.parametrize("content", [b"", b"makedumpfile", b"makedumpfile is not there", bytes(8192)])
def test_no_dump_there(content: bytes, tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(content)
    assert rawdump.take_over(_settings(device), print, tmp_path / "crash") is None
    assert device.read_bytes() == content
    assert not (tmp_path / "crash").exists()
    local = replace(_settings(device), target=Target())
    assert rawdump.take_over(local, print, tmp_path / "crash") is None


@pytest.mark.programs
def test_half_a_dump_stays_where_it_is(tmp_path: Path) -> None:
    """makedumpfile itself finds out that it does not end."""
    device = tmp_path / "device"
    content = b"makedumpfile".ljust(16, b"\0") + (1).to_bytes(8, "big") * 2 + bytes(4096) + b"\1" * 100
    device.write_bytes(content)
    with pytest.raises(FileError, match=rf"the dump on {device} cannot be copied to .*127\.0\.0\.1-"):
        rawdump.take_over(_settings(device), print, tmp_path / "crash")
    assert device.read_bytes() == content
    assert list((tmp_path / "crash").iterdir()) == []


def _flattened(folder: Path) -> Path:
    """A partition with a whole flattened dump, of something that has no log."""
    device = folder / "device"
    header = (b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1)).ljust(4096, b"\0")
    device.write_bytes(header + struct.pack(">qq", 0, 100) + b"\1" * 100 + struct.pack(">qq", -1, -1))
    return device


@pytest.mark.programs
@pytest.mark.parametrize("umask", [0, 0o777])
def test_a_name_that_is_taken_is_left_to_who_has_it(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine whose clock begins anew at each boot."""
    monkeypatch.setattr(time, "strftime", lambda *_: "1970-01-01-00:00:10")
    older = tmp_path / "crash/127.0.0.1-1970-01-01-00:00:10/vmcore"
    older.parent.mkdir(parents=True)
    older.write_text("the dump of the crash before")
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "crash/127.0.0.1-1970-01-01-00:00:10.1").symlink_to(victim)
    before = os.umask(umask)
    try:
        folder = rawdump.take_over(_settings(_flattened(tmp_path)), print, tmp_path / "crash")
    finally:
        os.umask(before)
    assert folder == older.parent.with_name(f"{older.parent.name}.2")
    assert older.read_text() == "the dump of the crash before"
    assert not list(victim.iterdir())
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (folder, *folder.iterdir())}
    assert modes == {folder.name: 0o700, "vmcore": 0o600}
    assert len(dumps.in_folder(tmp_path / "crash")) == 2

    # makedumpfile looks for the rest for ever.
    (tmp_path / "device").write_bytes(b"makedumpfile".ljust(16, b"\0"))
    monkeypatch.setattr(rawdump, "_SECONDS_LEAST", 2)
    with pytest.raises(FileError):
        rawdump.take_over(_settings(tmp_path / "device"), print, tmp_path / "crash")
    assert older.read_text() == "the dump of the crash before"


@pytest.mark.programs
def test_a_dump_whose_log_cannot_be_read_is_kept(tmp_path: Path) -> None:
    device = _flattened(tmp_path)
    told: list[str] = []
    folder = rawdump.take_over(_settings(device), told.append, tmp_path / "crash")
    assert folder is not None
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == {"vmcore": b"\1" * 100}
    assert device.read_bytes()[:4096] == bytes(4096)
    (warning,) = told
    assert warning.startswith(f"the log of the dump in {folder} cannot be read: ")


@pytest.mark.programs
def test_a_dump_has_its_name_on_the_disk_before_the_partition_loses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = _flattened(tmp_path)
    synced: list[str] = []

    def sync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
            assert device.read_bytes().startswith(b"makedumpfile")

    monkeypatch.setattr(os, "fsync", sync)
    folder = rawdump.take_over(_settings(device), print, tmp_path / "crash")
    assert folder is not None
    assert {*synced} == {str(folder), str(folder.parent), str(tmp_path)}


@pytest.mark.programs
def test_a_partition_that_cannot_be_wiped_takes_no_dump_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(rawdump, "_wipe", fail)
    with pytest.raises(FileError, match=r"cannot be marked as copied to .*: Input/output error"):
        rawdump.take_over(_settings(_flattened(tmp_path)), print, tmp_path / "crash")
    (folder,) = (tmp_path / "crash").iterdir()
    assert (folder / "vmcore").read_bytes() == b"\1" * 100


def test_a_partition_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"cannot read .*/nothing: No such file"):
        rawdump.take_over(_settings(tmp_path / "nothing"), print, tmp_path / "crash")
