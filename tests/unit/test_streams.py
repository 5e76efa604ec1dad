"""Commands whose streams are closed, full, or gone: they do the same, and nothing is a traceback."""

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import errors, streams
from tests.support.bzimage import FakeBzImage
from tests.support.machines import FOLDER

_ROOT = Path(__file__).parents[2]
_SNAPSHOT = str(FOLDER / "qemu-6.1-1g.tar")
_COMMANDS = {
    "version": ("pykexec", "--version"),
    "help": ("pykexec", "--help"),
    "plan": ("pykexec", "-l", "KERNEL", "--machine", _SNAPSHOT),
    "manual": ("pykexec", "--man"),
    "completion": ("pykexec", "--completion=zsh"),
    "pykdump version": ("pykexec.kdump", "--version"),
    "pykdump help": ("pykexec.kdump", "--help"),
    "pykdump without arguments": ("pykexec.kdump",),
    "pykdump's help for a command": ("pykexec.kdump", "doctor", "--help"),
    "pykdump manual": ("pykexec.kdump", "--man"),
    "integration help": ("pykexec.integration", "--help"),
    "doctor": ("pykexec.kdump", "doctor", "--machine", _SNAPSHOT),
    "integration": ("pykexec.integration", "install", "--dracut", "--root", "/", "--dry-run"),
    "crashkernel": ("pykexec.kdump", "crashkernel", "256M", "--machine", _SNAPSHOT),
}

_WAYS = ("help", "plan", "pykdump help", "crashkernel", "integration")
"""Those whose output is written in ways of their own."""


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


def failed(name: str) -> int:
    """The status of a failure: kdumpctl's for pykdump, the C kexec's for the rest."""
    return 1 if _COMMANDS[name][0] == "pykexec.kdump" else 255


@pytest.mark.parametrize(
    "name",
    [
        *_WAYS[:2],
        *(pytest.param(name, marks=pytest.mark.slow) for name in _WAYS[2:]),
        *(pytest.param(name, marks=pytest.mark.further) for name in _COMMANDS if name not in _WAYS),
    ],
)
def test_a_full_disk_is_said(name: str, kernel: str) -> None:
    done = run(command(name, kernel), ">/dev/full")
    assert done.returncode == failed(name)
    told = done.stderr.decode().splitlines()
    assert len(told) == 1
    assert "cannot write the output" in told[0]
    assert os.strerror(errno.ENOSPC) in told[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", _WAYS)
def test_a_terminal_that_is_gone(name: str, kernel: str) -> None:
    """Its other end is closed: each write is an I/O error (pty(7))."""
    ours, terminal = os.openpty()
    os.close(ours)
    words = [sys.executable, "-m", *command(name, kernel)]
    done = subprocess.run(words, cwd=_ROOT, stdout=terminal, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(terminal)
    assert (done.returncode, done.stderr.count(b"\n")) == (failed(name), 1), done.stderr
    assert f"cannot write the output: {os.strerror(errno.EIO)}" in done.stderr.decode()


@pytest.mark.slow
@pytest.mark.parametrize("name", _WAYS)
def test_a_reader_that_has_seen_enough(name: str, kernel: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", *command(name, kernel)]
    done = subprocess.run(words, cwd=_ROOT, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_what_is_done_does_not_depend_on_who_reads(tmp_path: Path) -> None:
    """All steps of an installation, though not even the first one could be told."""
    words = ["pykexec.kdump", "install", "--root", str(tmp_path)]
    assert run(words, ">/dev/full").returncode == 1
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_a_failure_when_a_file_is_closed_that_was_read(kernel: str) -> None:
    code = f"""
import os, sys
from pykexec.files import FileData
def fail(number):
    raise OSError(5, "Input/output error")
file = FileData.open({kernel!r}, "kernel")
os.close = fail
del file
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


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


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", pytest.param("POSIX", marks=pytest.mark.further)])
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


_FOREIGN = "\x1b]0;x\x07\x9b2J\r\b\u202eb\udc9b\xa0"
"""What sets a terminal's title, clears it, and what is text in a certain order only."""


_WAYS_TO_SAY = (
    "print(text, file=stream)",
    "click.echo(text, file=stream)",
    "click.echo(text, err=stream is sys.stderr)",
    "click.echo(text.encode(errors='surrogateescape'), err=stream is sys.stderr)",
    "stream.writelines([text, '\\n'])",
)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_nothing_that_is_printed_reaches_the_terminal_as_it_is(locale: str) -> None:
    said = "\n        ".join(_WAYS_TO_SAY)
    code = f"""
import click, sys
from pykexec import streams
text = "first\\n\\t" + {_FOREIGN!a}
def work():
    for stream in sys.stdout, sys.stderr:
        {said}
    return 0
sys.exit(streams.exit_code("x", work))
"""
    environment = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, env={**os.environ, **environment}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    line = "first\n\t" + r"\x1b]0;x\x07\x9b2J\r\x08\u202eb\x9b\xa0"
    for told in done.stdout.decode(), done.stderr.decode():
        # What has no bytes in the encoding that click takes for such a locale, it replaces.
        assert told.replace("b?", r"b\x9b") == f"{line}\n" * len(_WAYS_TO_SAY)


@given(st.text(st.characters(), max_size=40))
def test_a_text_is_printable_but_for_its_lines_and_tabs(text: str) -> None:
    """Whose lines and columns are printable each."""
    pieces = [line.split("\t") for line in text.split("\n")]
    expected = "\n".join("\t".join(map(errors.printable, line)) for line in pieces)
    assert errors.printable_text(text) == expected


def test_the_streams_are_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    assert streams.exit_code("x", lambda: print("\x1b") or 3) == 3
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "\\x1b\n"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EMFILE, errno.ENOENT])
def test_a_full_disk_where_nothing_can_be_opened(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written goes nowhere; that /dev/null cannot be had, either, is no news."""

    def refuse(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    with Path("/dev/full").open("w") as full:
        stream = streams.PrintableStream(full)
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", refuse)
            print("told", file=stream, flush=True)
            monkeypatch.setattr(sys, "stderr", full)
            streams.complain("program", "told")
        assert stream.failure is not None
        assert stream.failure.errno == errno.ENOSPC
        streams.abandon(full)


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


def test_a_log_whose_reader_has_seen_enough(tmp_path: Path) -> None:
    """What goes around the stream for text: click ends the program then."""
    code = """
import click, sys
from pykexec import streams
@click.group()
def group(): pass
@group.command()
def log():
    output = streams.unfiltered(sys.stdout).buffer
    output.write(bytes(100_000))
    output.flush()
sys.exit(streams.click_exit_code("x", group, ["log"]))
"""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("program", ["pykexec.kdump", "pykexec.integration"])
def test_without_arguments_there_is_help(program: str) -> None:
    """Which is one text for all versions of click, and wrong usage."""
    asked, told = run([program, "--help"]), run([program])
    assert (told.returncode, told.stdout, told.stderr) == (1, asked.stdout, b"")
