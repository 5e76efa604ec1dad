"""A dump on a bare partition, which the next start takes over."""

from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.errors import FileError
from pykexec.kdump.config.settings import Dialect, Settings, Target, TargetKind
from pykexec.kdump.service import rawdump


def _settings(device: Path) -> Settings:
    return Settings(Dialect.FEDORA, target=Target(TargetKind.RAW, str(device)))


@pytest.mark.parametrize("content", [b"", b"makedumpfile", b"makedumpfile is not there", bytes(8192)])
def test_no_dump_there(content: bytes, tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(content)
    assert rawdump.take_over(_settings(device), tmp_path / "crash") is None
    assert device.read_bytes() == content
    assert not (tmp_path / "crash").exists()
    local = replace(_settings(device), target=Target())
    assert rawdump.take_over(local, tmp_path / "crash") is None


@pytest.mark.programs
def test_half_a_dump_stays_where_it_is(tmp_path: Path) -> None:
    """makedumpfile itself finds out that it does not end."""
    device = tmp_path / "device"
    content = b"makedumpfile".ljust(16, b"\0") + (1).to_bytes(8, "big") * 2 + bytes(4096) + b"\1" * 100
    device.write_bytes(content)
    with pytest.raises(FileError, match=rf"the dump on {device} cannot be copied to .*127\.0\.0\.1-"):
        rawdump.take_over(_settings(device), tmp_path / "crash")
    assert device.read_bytes() == content
    assert list((tmp_path / "crash").iterdir()) == []


def test_a_partition_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"cannot read .*/nothing: No such file"):
        rawdump.take_over(_settings(tmp_path / "nothing"), tmp_path / "crash")
