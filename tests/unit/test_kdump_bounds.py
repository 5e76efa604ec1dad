"""No program that the service runs, and nobody else, keeps it waiting for ever."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pykexec.errors import FileError, PykexecError
from pykexec.kdump.capture import blockdevice, layers, login
from pykexec.kdump.config.settings import Dialect, Settings, Target, TargetKind
from pykexec.kdump.service import lock, rawdump


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for PATH; each program put there sleeps."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("makedumpfile", "mdadm", "ssh-keygen"):
        (folder / name).write_text(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.mark.programs
@pytest.mark.usefixtures("hanging")
def test_mdadm_that_waits_for_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = tmp_path / "devices/virtual/block/md0"
    (array / "md").mkdir(parents=True)
    (array / "md/level").write_text("raid1\n")
    (tmp_path / "dev/block").mkdir(parents=True)
    (tmp_path / "dev/block/9:0").symlink_to(array)
    monkeypatch.setattr(layers, "_MDADM_SECONDS", 0.5)
    with pytest.raises(FileError, match=r"mdadm .* did not end .* the dump target is on the array md0"):
        blockdevice.describe("/dev/none", tmp_path, "9:0")


@pytest.mark.programs
@pytest.mark.usefixtures("hanging")
def test_what_ssh_keygen_does_not_judge_is_let_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "_SECONDS", 0.5)
    (tmp_path / "key").write_text("key")
    assert login.is_usable(tmp_path / "key")
    assert login.is_known("host", [tmp_path / "key"])


@pytest.mark.programs
@pytest.mark.usefixtures("hanging")
def test_a_dump_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"makedumpfile".ljust(16, b"\0") + bytes(8192)
    (tmp_path / "device").write_bytes(content)
    monkeypatch.setattr(rawdump, "_SECONDS_LEAST", 0.5)
    settings = Settings(Dialect.FEDORA, target=Target(TargetKind.RAW, str(tmp_path / "device")))
    with pytest.raises(FileError, match=r"cannot be copied to .*: makedumpfile .* did not end within 0\.5"):
        rawdump.take_over(settings, print, tmp_path / "crash")
    assert (tmp_path / "device").read_bytes() == content
    assert list((tmp_path / "crash").iterdir()) == []


# The lock


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lock, "LOCK", tmp_path / "run/service.lock")
    monkeypatch.setattr(lock, "_SECONDS", 0.5)
    return lock.LOCK


_HOLD = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"


@contextmanager
def _held(path: Path) -> Iterator[int]:
    """While another process holds the lock; that one's number."""
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder.pid
        holder.communicate(b"\n")


def test_one_at_a_time(path: Path) -> None:
    with lock.exclusive():
        pass
    with _held(path) as holder:
        told = rf"^process {holder} \(.*python.* -c import.*\) holds {path}, still after 0\.5 seconds\n"
        with pytest.raises(PykexecError, match=told), lock.exclusive():
            pytest.fail("two at a time")
    with lock.exclusive():
        pass


def test_the_lock_is_for_root_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        with lock.exclusive():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_a_lock_of_another_user_is_not_waited_for(path: Path) -> None:
    """It may be from when the folder was open to all; and its holder need not be seen any more."""
    path.parent.mkdir()
    path.touch()
    os.chown(path, 65534, 65534)
    with (
        _held(path),
        pytest.raises(FileError, match="others than root can change"),
        lock.exclusive(),
    ):
        pytest.fail("taken")


def test_what_an_older_version_left_blocks_nobody(path: Path) -> None:
    """Its lock could be opened by all, and somebody may hold it still."""
    path.parent.mkdir(mode=0o755)
    old = path.with_name("lock")
    old.touch(0o644)
    with _held(old), lock.exclusive():
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_lock_that_is_a_link(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(FileError, match="cannot open"), lock.exclusive():
        pytest.fail("taken")
    assert not (tmp_path / "victim").exists()
