"""Commands whose streams are closed, full, or gone: they do the same, and nothing is a traceback."""

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.bzimage import FakeBzImage
from tests.support.machines import FOLDER

_ROOT = Path(__file__).parents[2]
_SNAPSHOT = str(FOLDER / "qemu-6.1-1g.tar")
_COMMANDS = {
    "version": ("pykexec", "--version"),
    "help": ("pykexec", "--help"),
    "plan": ("pykexec", "-l", "KERNEL", "--machine", _SNAPSHOT),
    "pykdump help": ("pykexec.kdump", "--help"),
    "doctor": ("pykexec.kdump", "doctor", "--machine", _SNAPSHOT),
    "integration": ("pykexec.integration", "install", "--dracut", "--root", "/", "--dry-run"),
    "crashkernel": ("pykexec.kdump", "crashkernel", "256M", "--machine", _SNAPSHOT),
}


@pytest.fixture
def kernel(tmp_path: Path) -> str:
    path = tmp_path / "vmlinuz"
    path.write_bytes(FakeBzImage().build())
    return str(path)


def run(
    arguments: Sequence[str], redirection: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """The command as a shell starts it, with that redirection."""
    script = f'exec "$@" {redirection}'
    command = ["sh", "-c", script, "sh", sys.executable, "-m", *arguments]
    return subprocess.run(
        command,
        cwd=_ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        timeout=60,
    )


def command(name: str, kernel: str) -> list[str]:
    return [kernel if each == "KERNEL" else each for each in _COMMANDS[name]]


@pytest.mark.parametrize("name", _COMMANDS)
def test_a_full_disk_is_said(name: str, kernel: str) -> None:
    done = run(command(name, kernel), ">/dev/full")
    assert done.returncode == 255
    told = done.stderr.decode().splitlines()
    assert len(told) == 1
    assert "cannot write the output" in told[0]
    assert os.strerror(errno.ENOSPC) in told[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plan", "crashkernel"])
def test_closed_streams_change_nothing(name: str, kernel: str) -> None:
    expected = run(command(name, kernel))
    assert (expected.returncode, expected.stderr) == (0, b"")
    for redirection in ("2>&-", "2>/dev/full", "<&-", ">&-", ">&- 2>&-"):
        done = run(command(name, kernel), redirection)
        seen = b"" if redirection.startswith(">") else expected.stdout
        assert (done.returncode, done.stdout, done.stderr) == (0, seen, b"")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_an_error_that_nobody_hears_is_one_still(redirection: str) -> None:
    done = run(["pykexec", "-l", "missing", "--machine", _SNAPSHOT], redirection)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_any_name_and_any_line(locale: str, kernel: str, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe\n\x1b[31m"
    os.link(kernel, name)
    line = b"--append=\xff\xc3\xa4\n\x1b[31mx"
    arguments = ["pykexec", "-l", os.fsdecode(name), os.fsdecode(line), "--machine", _SNAPSHOT]
    done = run(arguments, LC_ALL=locale, PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    told = next(each for each in done.stdout.splitlines() if each.startswith(b"command line "))
    assert rb"\xff" in told
    assert rb"\n\x1b[31mx" in told
    missing = run([*arguments[:2], arguments[2] + "x", *arguments[3:]], LC_ALL=locale, PYTHONUTF8="0")
    assert (missing.returncode, missing.stderr.count(b"\n")) == (1, 1)
    assert rb"\xff\xfe\n\x1b[31mx: No such file or directory" in missing.stderr


def test_a_process_without_memory(kernel: str, tmp_path: Path) -> None:
    """An initrd put together of a large file, in an address space that is too small for it."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(300 << 20)
    arguments = ["pykexec", "-l", kernel, f"--initrd={large}", f"--add-initrd={large}"]
    script = 'ulimit -v 700000; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-m", *arguments, "--machine", _SNAPSHOT],
        cwd=_ROOT,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 255
    assert b"Traceback" not in done.stderr
    assert b"memory" in done.stderr
