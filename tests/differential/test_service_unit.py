"""The unit pykdump.service, as systemd judges it."""

from pathlib import Path

from pykexec.kdump.cli import exit_code
from tests.support import systemd


def test_how_much_the_service_is_exposed_to(tmp_path: Path) -> None:
    assert exit_code(["install", "--root", str(tmp_path)]) == 0
    level, table = systemd.exposure(tmp_path / "etc/systemd/system/pykdump.service")
    assert level <= 4.0, table
