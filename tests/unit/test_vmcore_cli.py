"""The commands: what they print, and how they end."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pykexec.errors import PykexecError
from pykexec.vmcore import DumpError, cli
from tests.support import vmcore
from tests.support.schemas import require_valid
from tests.support.vmcore_log import Lockless, Memory, Records

PANIC = b"Kernel panic - not syncing: sysrq triggered crash"
EXPECTED = (
    b"[    1.000000] sysrq: Trigger a crash\n"
    b"[    1.500000] Kernel panic - not syncing: sysrq triggered crash\nsecond line\n"
)


def write(path: Path, ring: Lockless | Records) -> Path:
    memory = Memory()
    lines: Mapping[str, object] = {"OSRELEASE": "6.1.0", "PAGESIZE": 4096, **ring.place(memory)}
    path.write_bytes(vmcore.elf(memory.parts(), notes=vmcore.vmcoreinfo_note(lines)))
    return path


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    ring = Lockless(4, 10)
    ring.write(10**9, b"sysrq: Trigger a crash")
    ring.write(1_500_000_000, PANIC + b"\nsecond line")
    return write(tmp_path / "vmcore", ring)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    ring = Records(4096)
    for number in range(20):
        ring.write(number, b"message %d" % number)
    ring.buffer[8:10] = b"\x01\x00"
    return write(tmp_path / "damaged", ring)


def test_dmesg(dump: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.show_log([str(dump)]) == 0
    assert capsysbinary.readouterr() == (EXPECTED, b"")
    assert cli.show_log([str(dump)], "makedumpfile") == 0
    assert capsysbinary.readouterr().out == EXPECTED.replace(b"\nsecond", b"\n" + b" " * 15 + b"second")


def test_damage_goes_to_standard_error(damaged: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.show_log([str(damaged)]) == 1
    output, errors = capsysbinary.readouterr()
    assert output.count(b"\n") == 19
    assert b"warning: the log's record at index 0x0 is damaged" in errors


def test_a_log_that_is_damaged_all_over_is_no_success(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Of any layout; vmcore-dmesg's status is that of the C program, which looks at records only."""
    ring = Lockless(4, 10)
    for number in range(5):
        ring.write(number, b"message")
    for each in ring.kept:
        each.begin = 1 << 40
    path = str(write(tmp_path / "vmcore", ring))
    assert cli.show_log([path]) == 1
    assert capsysbinary.readouterr().err
    assert cli.vmcore_dmesg([path]) == 0


def test_info_json(dump: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.show_info([str(dump)], as_json=True) == 0
    found = require_valid("info", capsys.readouterr().out)
    assert found["panic"] == PANIC.decode()
    assert found["first_sign"] == "sysrq: Trigger a crash"
    assert found["log"] == {"layout": "lockless", "records": 2, "damage": []}
    assert found["vmcoreinfo"]["OSRELEASE"] == "6.1.0"


def test_a_group_takes_the_commands_up(dump: Path, tmp_path: Path) -> None:
    group = click.Group("pykdump")
    group.add_command(cli.dmesg)
    group.add_command(cli.info)
    runner = CliRunner()
    assert runner.invoke(group, ["dmesg", str(dump)]).stdout_bytes == EXPECTED
    assert "6.1.0 on x86_64" in runner.invoke(group, ["info", str(dump)]).stdout
    assert isinstance(runner.invoke(group, ["info", str(tmp_path / "none")]).exception, PykexecError)
    assert runner.invoke(group, ["dmesg", "--style", "odd", str(dump)]).exit_code == 2


def run_vmcore_dmesg(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    code = "from pykexec.vmcore.cli import main_vmcore_dmesg as main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True)


@pytest.mark.slow
def test_vmcore_dmesg(dump: Path, damaged: Path, tmp_path: Path) -> None:
    done = run_vmcore_dmesg(str(dump))
    assert (done.returncode, done.stdout, done.stderr) == (0, EXPECTED, b"")
    done = run_vmcore_dmesg(str(damaged))
    assert (done.returncode, done.stdout.count(b"\n")) == (69, 19)
    # The statuses of the C program (vmcore-dmesg.c, elf_info.c).
    missing, text, short = tmp_path / "missing", tmp_path / "text", tmp_path / "short"
    text.write_bytes(b"no dump at all, but long enough to have an ELF header, which is 64 bytes")
    short.write_bytes(b"\x7fELF")
    for arguments, status in (
        ([], 1),
        ([str(dump), str(dump)], 1),
        ([str(missing)], 2),
        ([str(text)], 4),
        ([str(short)], 3),
    ):
        done = run_vmcore_dmesg(*arguments)
        assert (done.returncode, done.stdout) == (status, b"")
        assert done.stderr
        assert b"Traceback" not in done.stderr


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    ring = Lockless(12, 17)
    for number in range(4000):
        ring.write(number, b"message %d" % number)
    path = write(tmp_path / "vmcore", ring)
    code = "from pykexec.vmcore.cli import main_vmcore_dmesg as main; main()"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code, str(path)], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 53
    assert b"Traceback" not in done.stderr


def test_a_full_disk_and_a_closed_output_are_said(dump: Path) -> None:
    code = "from pykexec.vmcore.cli import main_vmcore_dmesg as main; main()"
    for redirection, status, fault in ((">/dev/full", 53, b"No space left"), (">&-", 1, b"is closed")):
        command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", code, str(dump)]
        done = subprocess.run(command, capture_output=True, check=False)
        assert (done.returncode, done.stderr.count(b"\n")) == (status, 1)
        assert b"vmcore-dmesg: cannot write the log: " in done.stderr
        assert fault in done.stderr


def test_a_log_that_would_fill_the_disk_is_cut(
    dump: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_LOG_MAX", 60)
    assert cli.show_log([str(dump)]) == 53
    output, errors = capsysbinary.readouterr()
    assert output == EXPECTED[: EXPECTED.index(b"\n") + 1]
    assert b"larger than 2 GiB" in errors


def test_errors_have_a_status() -> None:
    assert DumpError("what").status == 1
