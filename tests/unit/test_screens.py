"""What `pykexec` shows: as wide as the terminal, 80 columns in a pipe."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.bzimage import FakeBzImage
from tests.support.machines import FOLDER

SNAPSHOT = str(FOLDER / "qemu-6.1-1g.tar")
ARM64 = str(FOLDER / "qemu-arm64-6.1-6g-high-low.tar")

TO_A_PIPE = {
    "help": ("--help",),
    "version": ("--version",),
    "crash": ("-p", "KERNEL", "--initrd=KERNEL", "--append=quiet console=ttyS0", "--machine", SNAPSHOT),
    "crash by the kernel": ("-s", "-p", "KERNEL", "--append=a b", "--machine", SNAPSHOT),
    "boot": ("-l", "KERNEL", "--reuse-cmdline", f"--append={'word ' * 100}", "--machine", SNAPSHOT),
    "map": ("-p", "KERNEL", "--map", "--machine", SNAPSHOT),
    "map of a boot": ("-l", "KERNEL", "--map", "--dry-run", "--machine", SNAPSHOT),
}
ON_A_TERMINAL = {
    **TO_A_PIPE,
    "story": ("-d", "-c", "-p", "KERNEL", "--json", "--machine", SNAPSHOT),
    "unknown": ("--reuse-comandline",),
    "two kernels": ("KERNEL", "KERNEL"),
    "bad number": ("-l", "KERNEL", "--mem-min=12k"),
    "no such file": ("-l", "/none/" + "very/" * 10 + "deep", "--machine", SNAPSHOT),
    "no machine": ("-l", "KERNEL", "--machine", str(FOLDER)),
    "wrong machine": ("-l", "KERNEL", "--machine", ARM64),
    "not for a map": ("-s", "-l", "KERNEL", "--map", "--machine", SNAPSHOT),
    "not for a status": ("-S", "--append=x"),
}


@pytest.fixture
def kernel(tmp_path: Path) -> str:
    path = tmp_path / "vmlinuz"
    path.write_bytes(FakeBzImage().build())
    return str(path)


def command(words: Sequence[str], kernel: str) -> list[str]:
    return [sys.executable, "-m", "pykexec", *(word.replace("KERNEL", kernel) for word in words)]


def seen(
    words: Sequence[str], kernel: str, columns: int = 80, extra: Mapping[str, str] | None = None
) -> str:
    """Return all that a command shows on a terminal of that width."""
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    environment |= {"TERM": "xterm", "PYTHONUTF8": "1", **(extra or {})}
    with os.fdopen(leader, "rb", buffering=0) as screen:
        with os.fdopen(follower, "wb") as terminal:
            done = subprocess.Popen(
                command(words, kernel), env=environment, stdout=terminal, stderr=subprocess.STDOUT
            )
        shown = b""
        try:
            while piece := screen.read(4096):
                shown += piece
        except OSError:
            pass  # the end of what a terminal shows
        done.wait()
    return shown.decode().replace("\r\n", "\n")


_INDENT_MAX = 14
"""The columns before what a plan says of the kernel, the initrd, and so on."""


def too_wide(text: str, columns: int) -> list[str]:
    """Return the lines that are wider, but not those whose last word alone does not fit into a line."""
    plain = re.sub(r"\033\[[0-9]+m", "", text)
    wide = [line for line in plain.splitlines() if len(line) > columns]
    return [line for line in wide if len(line.split()[-1]) <= columns - _INDENT_MAX]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", ON_A_TERMINAL)
def test_a_screen_is_as_wide_as_the_terminal(name: str, columns: int, kernel: str) -> None:
    text = seen(ON_A_TERMINAL[name], kernel, columns)
    assert text
    if "--json" not in ON_A_TERMINAL[name]:
        assert too_wide(text, columns) == []
    else:
        told = [line for line in text.splitlines() if line.startswith("pykexec: ")]
        assert told
        assert too_wide("\n".join(told), columns) == []


@pytest.mark.parametrize("name", TO_A_PIPE)
def test_a_pipe_has_80_columns(name: str, kernel: str) -> None:
    done = subprocess.run(command(TO_A_PIPE[name], kernel), capture_output=True, text=True, check=True)
    assert done.stdout
    assert too_wide(done.stdout, 80) == []


def test_a_message_in_a_log_is_one_line_and_its_hint_another(kernel: str) -> None:
    words = ("-l", kernel, kernel)
    done = subprocess.run(command(words, kernel), capture_output=True, text=True, check=False)
    assert [len(line) > 80 for line in done.stderr.splitlines()] == [True, True]
    folded = seen(words, kernel)
    assert folded.split() == done.stderr.split()
    assert re.fullmatch(r"pykexec: .*\n( {9}.*\n)+", folded)


def test_the_first_line_of_the_help_is_kexec_tools(kernel: str) -> None:
    first = seen(("--help",), kernel, 40).splitlines()[0]
    assert first == seen(("--version",), kernel).strip()
    assert first.startswith("kexec-tools 2.")


@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_a_map_has_colours_where_they_are_wanted(no_colour: str, coloured: bool, kernel: str) -> None:
    text = seen(TO_A_PIPE["map"], kernel, extra={"NO_COLOR": no_colour})
    assert ("\033[36m" in text) is coloured
    assert "\\x1b" not in text
