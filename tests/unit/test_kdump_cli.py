"""pykdump: each command is reachable, and wrong usage is one or two lines."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import click
import pytest

from pykexec import cli as pykexec_cli
from pykexec.kdump import cli
from pykexec.machine import Machine
from pykexec.machine.root import Folder
from tests.support.bzimage import FakeBzImage
from tests.support.machines import FOLDER, unpacked, write
from tests.support.schemas import require_valid

SNAPSHOT = str(FOLDER / "qemu-6.1-1g.tar")


def test_a_closed_standard_input_has_no_console_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert cli.exit_code(["doctor", "--console-log", "-"]) == 1
    assert capsys.readouterr().err == "pykdump: cannot read the console log: standard input is closed\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told for name in cli.group.list_commands(click.Context(cli.group)))


def test_a_command_imports_nothing_of_others() -> None:
    """The service starts at each boot, and at each change of memory and CPUs."""
    program = """
import sys
from pykexec.kdump import cli
cli.exit_code(["status", "--help"])
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(done.stdout.splitlines()[-1].split())
    assert "pykexec.kdump.service.state" in imported
    others = {"doctor", "sizing", "estimate", "manual", "console_log", "service.installation"}
    assert not imported & {"pykexec.vmcore", "elftools", *(f"pykexec.kdump.{name}" for name in others)}


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code([]) == 1
    told = capsys.readouterr()
    assert (told.out.splitlines()[0].split()[0], told.err) == ("Usage:", "")


def test_crashkernel_takes_the_whole_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for parameter in ("192M", "crashkernel=192M"):
        assert cli.exit_code(["crashkernel", parameter, "--machine", SNAPSHOT]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


def test_doctor_finds_that_nothing_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["doctor", "--machine", SNAPSHOT]) == 3
    told = capsys.readouterr().out
    assert told.startswith("armed: no\n")
    assert "pykexec -p KERNEL" in told
    cli.exit_code(["doctor", "--machine", SNAPSHOT, "--json"])
    assert require_valid("doctor", capsys.readouterr().out)


def test_doctor_reads_a_console(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "console.log"
    log.write_text(
        "[    1.0] Linux version 6.1.0\n[    9.0] Kernel panic - not syncing: sysrq triggered crash\n"
    )
    cli.exit_code(["doctor", "--machine", SNAPSHOT, "--console-log", str(log), "--json"])
    told = require_valid("doctor", capsys.readouterr().out)
    assert told["findings"]
    assert (told["capture"]["stage"], told["capture"]["evidence"][0]["line"]) == ("no_second_kernel", 2)
    assert cli.exit_code(["doctor", "--machine", SNAPSHOT, "--console-log", str(log)]) == 3
    assert capsys.readouterr().out.startswith("no second kernel: ")


LOGS = [
    ("[    1.0] Linux version 6.1.0\n", 1, "no_crash"),
    ("[    9.0] Kernel panic - not syncing: x\n[    9.1] Rebooting in 10 seconds..\n", 3, "not_loaded"),
    ("[    9.0] Kernel panic - not syncing: x\nkdump[5]: saving vmcore complete\n", 0, "saved"),
    ("[    9.0] Kernel panic - not syncing: x\nkdump[5]: saving vmcore\n", 1, "unknown"),
]


@pytest.mark.parametrize(("text", "status", "stage"), LOGS)
def test_a_console_is_judged_alone(
    text: str, status: int, stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be of another machine, of which this one's facts say nothing."""
    log = tmp_path / "console.log"
    log.write_text(text)
    assert cli.exit_code(["doctor", "--console-log", str(log), "--json"]) == status
    told = require_valid("console", capsys.readouterr().out)
    assert told["stage"] == stage
    assert "findings" not in told
    assert cli.exit_code(["doctor", "--console-log", str(log)]) == status
    assert len(capsys.readouterr().out.splitlines()) <= 4


def test_estimate_recommends_a_parameter_that_crashkernel_explains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(FakeBzImage().build())
    assert cli.exit_code(["estimate", "--kernel", str(kernel), "--machine", SNAPSHOT]) == 0
    found = re.search(r"crashkernel=(\d+M)\n", capsys.readouterr().out)
    assert found is not None
    assert cli.exit_code(["crashkernel", found[1], "--machine", SNAPSHOT]) == 0
    assert found[1] in capsys.readouterr().out


def shown(columns: int, *argv: str) -> list[str]:
    """The lines of what is printed to a terminal of that many columns."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(output):
        patched.setenv("COLUMNS", str(columns))
        assert cli.exit_code(argv) == 0
    return output.getvalue().splitlines()


def test_help_fits_a_terminal() -> None:
    """Without a text that is cut: what stands in the list of commands is a whole sentence."""
    listed = shown(80, "--help")
    commands = listed[listed.index("Commands:") + 1 :]
    assert len(commands) == len(cli.group.list_commands(click.Context(cli.group)))
    assert all(line.endswith(".") and not line.endswith("...") for line in commands), commands
    for command in cli.group.list_commands(click.Context(cli.group)):
        assert max(map(len, [*listed, *shown(80, command, "--help")])) <= 80


HELP_OF_INFO = """\
Usage: pykdump info [OPTIONS] DUMP...

  Say what a dump holds.

  That is the crash, the machine, and whether makedumpfile and crash can read
  DUMP.

  Exit status: 0, and 1 where the dump is damaged, not complete, or none.

Options:
  --registers   All registers of all processors, not only two of a few.
  --vmcoreinfo  Also what the crashed kernel says of itself: VMCOREINFO.
  --all-pages   Unpack every page to see whether it is damaged, not some.
  --json        Print one JSON object.
  -h, --help    Show this message and exit.
"""


def test_the_screen_of_a_help() -> None:
    assert "\n".join([*shown(80, "info", "--help"), ""]) == HELP_OF_INFO


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["stat"], ("start", "status")),
        (["dctor", "--json"], ("doctor",)),
        (["estimte"], ("estimate",)),
        (["doctor", "--jsn"], ("--json",)),
        (["doctor", "--machne=x"], ("--machine",)),
    ],
)
def test_a_slip_is_told_with_what_was_meant(
    argv: list[str], meant: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.exit_code(argv) == 1
    told = capsys.readouterr().err
    assert any(re.search(rf"Did you mean '?{each}'?\?", told) for each in meant), told


@pytest.mark.parametrize("option", ["--man", "--completion"])
def test_what_is_completed_is_not_done(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To complete a word click parses what stands before it, the options that print something, too."""
    monkeypatch.setenv("_PYKDUMP_COMPLETE", "bash_complete")
    for name, words, index in (
        ("separate", f"pykdump {option}", "2"),
        ("joined", f"pykdump {option}=", "1"),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", index)
        assert cli.exit_code([]) == 0
        offered = capsys.readouterr().out.splitlines()
        assert offered, name
        assert all(line.startswith("plain,") for line in offered), name


WRONG = [
    (["bogus"], "No such command 'bogus'."),
    (["crashkernel", "12x", "--machine", SNAPSHOT], "column 3"),
    (["estimate", "--kernel", "/no/such"], "cannot read the kernel /no/such"),
    (["doctor", "--console-log", "/no/such"], "cannot read the console log /no/such"),
    (["doctor", "--console-log", ""], "cannot read the console log"),
    (["doctor", "--console-log", "/dev/zero"], "which has no end"),
    (["doctor", "--console-log", "/"], "cannot read the console log /: Is a directory"),
    (["doctor", "--machine", "/no/such"], "/no/such"),
    (["estimate", "--kernel", __file__, "--machine", SNAPSHOT], "which is a text file"),
    (["estimate", "--kernel", "/dev/null", "--machine", SNAPSHOT], "which is an empty file"),
    (["estimate", "--kernel", __file__, "--machine", SNAPSHOT], "  kernels are usually called /boot/vm"),
    (["crashkernel", "256M crashkernel=auto", "--machine", SNAPSHOT], "column 1"),
    (["resize", "192M@16M"], "no size"),
    (["resize", "192"], "did you mean 192M?"),
    (["resize", "192K"], "did you mean 192M?"),
    (["resize", "much"], "resize: 'much' is no size"),
    (["dmesg", "/no/such"], "/no/such"),
    (["info"], "Missing argument"),
    (["info", "--nonsense"], "see pykdump info --help"),
]


def test_a_parameter_may_be_copied_with_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for parameter in ("128M,high", "crashkernel=128M,high"):
        assert cli.exit_code(["crashkernel", parameter, "--machine", SNAPSHOT]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


@pytest.mark.parametrize("run", [cli.exit_code, pykexec_cli.exit_code], ids=["pykdump", "pykexec"])
def test_a_snapshot_needs_no_loader(
    run: Callable[[list[str]], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made of files: also on a machine that no kernel can be loaded on yet."""
    root, archive = tmp_path / "root", tmp_path / "machine.tar"
    unpacked("qemu-6.1-1g", root)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", "ppc64le")))
    monkeypatch.setattr(Machine, "live", lambda: Machine(Folder(root), is_live=True))
    assert run([*(["snapshot"] if run == cli.exit_code else ["--snapshot"]), str(archive)]) == 0
    copy = Machine.from_snapshot(archive)
    assert copy.uname_machine == "ppc64le"
    assert copy.iomem == Machine(Folder(root)).iomem


def told_of(line: str, size: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `pykdump crashkernel` says of a machine booted with that line that has reserved so much."""
    for path, content in (
        ("proc/cmdline", f"{line}\n"),
        ("proc/iomem", "00001000-3fffffff : System RAM\n  20000000-2fffffff : Crash kernel\n"),
        ("proc/sys/kernel/arch", "x86_64"),
        ("sys/kernel/kexec_crash_size", f"{size}\n"),
    ):
        write(folder, path, content)
    assert cli.exit_code(["crashkernel", "--machine", str(folder)]) == 0
    return capsys.readouterr().out


def test_what_is_left_over_on_a_command_line_is_told_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = told_of("crashkernel=auto quiet crashkernel=256M", 256 << 20, tmp_path, capsys)
    assert told.startswith("crashkernel=256M decides")
    assert "crashkernel=auto has no effect" in told


def test_a_kernel_that_understood_what_linux_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = told_of("crashkernel=auto", 256 << 20, tmp_path, capsys)
    assert "but 256M are reserved" in told


@pytest.mark.parametrize(("argv", "words"), WRONG)
def test_wrong_usage_is_short(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(argv) == 1, "the one that the manual page names, whatever has failed"
    told = capsys.readouterr().err
    assert words in told
    assert 1 <= len(told.splitlines()) <= 2
