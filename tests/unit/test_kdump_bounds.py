"""No program that the service runs keeps it waiting for ever."""

import os
import stat
import sys
from pathlib import Path

import pytest

from pykexec.errors import FileError
from pykexec.kdump.capture import blockdevice, layers, login


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for PATH; each program put there sleeps."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("mdadm", "ssh-keygen"):
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
