"""The manual page and the completions, as the programs that read them understand them."""

import os
import pty
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from pykexec import manual
from pykexec.errors import UsageError
from pykexec.options import GENERAL, OPTIONS, OURS, Option

TRAP = Option(
    "--trap",
    "trap",
    "Print what's needed: [here] \\ 'there'.",
    group=OURS,
    metavar="A:B",
    choices=("one", "two"),
)
"""Its text has what means something else in each language."""
TABLE = (*OPTIONS, TRAP)
NAMES = [name for option in OPTIONS for name in option.names]


def run(command: Sequence[str | Path], text: str | None = None, cwd: Path | None = None) -> str:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/dev/null", "TERM": "dumb"}
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
        cwd=cwd,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def script(shell: str, folder: Path) -> Path:
    path = folder / f"pykexec.{shell}"
    path.write_text(manual.completion(shell, TABLE))
    return path


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "pykexec.8"
    path.write_text(manual.page(TABLE))
    return path


def rendered(page: Path) -> str:
    """Its plain text, in lines as long as need be."""
    return re.sub(r".\x08", "", run(["mandoc", "-Tascii", "-Owidth=500", page]))


def test_groff_warns_of_nothing(page: Path) -> None:
    run(["groff", "-ww", "-man", "-Tutf8", "-z", page])


def test_man_warns_of_nothing(page: Path) -> None:
    assert "PYKEXEC(8)" in run(["man", "--warnings", "--local-file", page])


def test_mandoc_finds_no_fault(page: Path) -> None:
    assert run(["mandoc", "-Tlint", "-Wall", page]) == ""


def test_page_has_every_option_with_its_help(page: Path) -> None:
    text = re.sub(r"\s+", " ", rendered(page))
    for option in TABLE:
        heading = ", ".join(option.names) + (f"={option.metavar}" if option.metavar else "")
        assert f" {heading} {option.help}" in text


def test_page_says_what_its_readers_look_for(page: Path) -> None:
    run(["lexgrog", page])
    headings = re.findall(r"^([A-Z ]+)$", rendered(page), re.MULTILINE)
    assert {"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} <= set(
        headings
    )


def test_hyphens_of_options_can_be_copied(page: Path) -> None:
    """A hyphen of a sentence is another character than the one that options begin with."""
    text = re.sub(r".\x08|\x1b\[\d+m", "", run(["groff", "-man", "-Tutf8", page]))
    for name in NAMES:
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), name
    assert not re.search(r"(?<!\w)\u2010", text)


def test_unknown_shell() -> None:
    with pytest.raises(UsageError, match="no completion for tcsh"):
        manual.completion("tcsh")


def test_bash_syntax(tmp_path: Path) -> None:
    run(["bash", "-n", script("bash", tmp_path)])
    run(["shellcheck", "--shell=bash", script("bash", tmp_path)])


def bash_completes(folder: Path, *words: str) -> list[str]:
    """COMPREPLY for these words, the last of which is being typed."""
    program = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pykexec'
    program += '; printf "%s\\n" "${COMPREPLY[@]}"'
    source = str(script("bash", folder))
    command = ["bash", "--norc", "-c", program, "bash", source, "pykexec", *words]
    return run(command, cwd=folder).splitlines()


def test_bash_offers_every_option(tmp_path: Path) -> None:
    assert set(NAMES) <= set(bash_completes(tmp_path, "-"))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["--load-p"], ["--load-panic", "--load-preserve-context"]),
        (["-l", "--initr"], ["--initrd", "--initrd-file"]),
        (["--completion", ""], ["bash", "zsh", "fish"]),
        (["--completion", "=", "f"], ["fish"]),
        (["--completion", "="], ["bash", "zsh", "fish"]),
        (["-t", "bz"], ["bzImage64", "bzImage"]),
        (["-l", "a ker"], ["a kernel"]),
        (["--initrd", "a"], ["a kernel"]),
        (["--initrd", "=", "a"], ["a kernel"]),
        (["--append", "a"], [""]),
        (["--append", "=", "--"], [""]),
    ],
)
def test_bash_completes(words: list[str], offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "a kernel").touch()
    assert sorted(bash_completes(tmp_path, *words)) == sorted(offered)


def test_bash_uses_it_for_the_command(tmp_path: Path) -> None:
    program = 'source "$1"; complete -p pykexec'
    assert run(["bash", "--norc", "-c", program, "bash", script("bash", tmp_path)]).split()[-1] == "pykexec"


def test_fish_syntax(tmp_path: Path) -> None:
    run(["fish", "--no-config", "--no-execute", script("fish", tmp_path)])


def fish_completes(folder: Path, line: str) -> dict[str, str]:
    """What fish offers at the end of a line, with the explanations it shows."""
    command = f"source {script('fish', folder)}; complete -C {line!r}"
    offered = run(["fish", "--no-config", "-c", command], cwd=folder).splitlines()
    return {name: text for name, _, text in (each.partition("\t") for each in offered)}


def test_fish_offers_every_option_with_its_help(tmp_path: Path) -> None:
    long = fish_completes(tmp_path, "pykexec --")
    short = fish_completes(tmp_path, "pykexec -")
    for option in TABLE:
        for name in option.names:
            found = long if name.startswith("--") else short
            assert found.get(name, found.get(f"{name}=")) == option.help


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pykexec --completion ", {"bash", "zsh", "fish"}),
        ("pykexec --completion=z", {"--completion=zsh"}),
        ("pykexec -t bz", {"bzImage", "bzImage64"}),
        ("pykexec -l ker", {"kernel"}),
        ("pykexec --initrd=ker", {"--initrd=kernel"}),
        ("pykexec --append ker", set()),
    ],
)
def test_fish_completes(line: str, offered: set[str], tmp_path: Path) -> None:
    (tmp_path / "kernel").touch()
    assert set(fish_completes(tmp_path, line)) == offered


def test_zsh_syntax(tmp_path: Path) -> None:
    run(["zsh", "-f", "-n", script("zsh", tmp_path)])


def zsh_does(folder: Path, setup: str, *keys: str) -> None:
    """Type these keys into an interactive zsh that has the completion, until it ends."""
    (folder / "_pykexec").write_text(manual.completion("zsh", TABLE))
    environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execvpe("zsh", ["zsh", "-f", "-i"], environment)
    lines = (f"fpath=({folder} $fpath)", "autoload -Uz compinit", "compinit -u -D", setup)
    os.write(terminal, "; ".join(lines).encode() + b"\n")
    os.write(terminal, "".join([*keys, "\n", "exit\n"]).encode())
    with suppress(OSError):  # EIO: nobody is at the other end any more
        while os.read(terminal, 4096):
            pass
    os.close(terminal)
    os.waitpid(process, 0)


@pytest.mark.parametrize(
    ("typed", "called"),
    [
        ("pykexec --initr", ["--initrd"]),
        ("pykexec --completion z", ["--completion", "zsh"]),
        ("pykexec -t elf-x86_", ["-t", "elf-x86_64"]),
        ("pykexec -l ker", ["-l", "kernel"]),
        ("pykexec --dtb=ker", ["--dtb=kernel"]),
        ("pykexec --append ker", ["--append", "ker"]),
    ],
)
def test_zsh_completes(typed: str, called: list[str], tmp_path: Path) -> None:
    (tmp_path / "kernel").touch()
    zsh_does(tmp_path, 'pykexec() { print -rl -- "$@" > called }', typed, "\t")
    assert (tmp_path / "called").read_text().splitlines() == called


def test_zsh_offers_every_option(tmp_path: Path) -> None:
    # What would be offered goes to a file; nothing is inserted.
    catch = 'compadd() { builtin compadd -O hits "$@"; print -rl -- $hits >> offered }'
    zsh_does(tmp_path, f"{catch}; pykexec() {{ }}", "pykexec -", "\t")
    offered = (tmp_path / "offered").read_text().split()
    assert {name for option in TABLE for name in option.names} <= {each.rstrip("=+") for each in offered}


def test_general_options_are_there() -> None:
    """A table that lost a group would pass all of the above."""
    assert {"--help", "--version"} <= {
        name for each in OPTIONS if each.group == GENERAL for name in each.names
    }
