"""The command line: what options mean together, in any order, and how failures look."""

import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pykexec import cli, execute, loader, optionparser, options, privilege, syscalls
from pykexec.cli import Afterwards, resolve
from pykexec.errors import PykexecError
from pykexec.kdump.service import receipt as receipts
from pykexec.machine import Machine
from pykexec.machine.root import Folder
from pykexec.plan import Purpose
from tests.support.bzimage import FakeBzImage
from tests.support.machines import FOLDER, unpacked, write
from tests.support.schemas import require_valid

SNAPSHOT = str(FOLDER / "qemu-6.1-1g.tar")

# A process that parses and runs a command line with every way to act on this machine taken out first.
HARMLESS = """
import os, subprocess, sys
from pykexec import cli, execute, syscalls
calls = []
def refuse(name):
    def call(*arguments, **named):
        calls.append(name)
        raise OSError(38, "Function not implemented")
    return call
syscalls.kexec_load = refuse("load")
syscalls.kexec_unload = refuse("unload")
syscalls.kexec_file_load = refuse("file load")
syscalls.reboot_kexec = refuse("jump")
execute.take_interfaces_down = lambda: calls.append("ifdown")
subprocess.run = refuse("run")
os.sync = lambda: calls.append("sync")
status = cli.exit_code(sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have been done to this machine; nothing is."""
    calls: list[str] = []

    def note(name: str) -> None:
        calls.append(name)

    def no_file_load(kernel: int, initrd: int, line: bytes, flags: int, **_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(syscalls, "kexec_load", lambda *_, **__: note("load"))
    monkeypatch.setattr(syscalls, "kexec_unload", lambda flags, **__: note(f"unload {flags:#x}"))
    monkeypatch.setattr(syscalls, "kexec_file_load", no_file_load)
    monkeypatch.setattr(syscalls, "reboot_kexec", lambda: note("jump"))
    monkeypatch.setattr(execute, "take_interfaces_down", lambda: note("ifdown"))
    monkeypatch.setattr(subprocess, "run", lambda command, **_: note(" ".join(command)))
    monkeypatch.setattr(os, "sync", lambda: note("sync"))
    return calls


@pytest.fixture
def kernel(tmp_path: Path) -> str:
    path = tmp_path / "vmlinuz"
    path.write_bytes(FakeBzImage().build())
    return str(path)


def complete(kernel: str, *more: str) -> list[str]:
    """A command line for a capture kernel that lacks nothing."""
    return ["-p", kernel, "--initrd", kernel, "--append=quiet", "--machine", SNAPSHOT, *more]


def parse(*argv: str) -> options.Options:
    return optionparser.parse(argv)


LOADS = [
    (("-l", "K"), Purpose.BOOT, Afterwards.NOTHING),
    (("--load", "K"), Purpose.BOOT, Afterwards.NOTHING),
    (("-p", "K"), Purpose.CRASH, Afterwards.NOTHING),
    (("--load-panic", "K"), Purpose.CRASH, Afterwards.NOTHING),
    (("-d", "-p", "K"), Purpose.CRASH, Afterwards.NOTHING),
    (("-l", "-e", "K"), Purpose.BOOT, Afterwards.EXECUTE),
    (("-f", "K"), Purpose.BOOT, Afterwards.EXECUTE),
    (("-l", "-f", "K"), Purpose.BOOT, Afterwards.EXECUTE),
    (("K",), Purpose.BOOT, Afterwards.SHUT_DOWN),
    (("-c", "-i", "-p", "K"), Purpose.CRASH, Afterwards.NOTHING),
]
OTHERS = [
    (("-u",), Purpose.BOOT, "unload"),
    (("-l", "-u"), Purpose.BOOT, "unload"),
    (("-p", "-u"), Purpose.CRASH, "unload"),
    (("-c", "-p", "-u"), Purpose.CRASH, "unload"),
    (("-S",), Purpose.CRASH, "status"),
    (("-p", "-S"), Purpose.CRASH, "status"),
    (("-l", "-S"), Purpose.BOOT, "status"),
    (("-d", "-S"), Purpose.CRASH, "status"),
    (("-d", "-l", "-S"), Purpose.BOOT, "status"),
]


@pytest.mark.parametrize(("argv", "purpose", "then"), LOADS)
def test_loads_in_any_order(argv: tuple[str, ...], purpose: Purpose, then: Afterwards) -> None:
    for order in itertools.permutations(argv):
        task = resolve(parse(*order))
        assert (task.load, task.unload, task.status) == (True, False, False)
        assert (task.purpose, task.then, task.plan_only) == (purpose, then, False)


@pytest.mark.parametrize(("argv", "purpose", "kind"), OTHERS)
def test_other_actions_in_any_order(argv: tuple[str, ...], purpose: Purpose, kind: str) -> None:
    for order in itertools.permutations(argv):
        task = resolve(parse(*order))
        assert (task.unload, task.status) == (kind == "unload", kind == "status")
        assert (task.load, task.purpose, task.then) == (False, purpose, Afterwards.NOTHING)


HOW_TO_LOAD = [
    *("-i", "--mem-min=1", "--mem-max=0x7fffffff", "--entry=1", "--no-cma", "--force-dtb", "--hotplug"),
    *("--reset-vga", "--console-vga", "--console-serial", "--serial=ttyS0", "--serial-baud=9600"),
    *("-tbzImage64", "--elf64-core-headers", "--dt-no-old-root"),
]


@pytest.mark.parametrize(
    "argv",
    [
        *(("-e",), ("-e", "-x"), ("-e", "-y"), ("-e", "-d"), ("-f", "-e")),
        *(("-e", option) for option in HOW_TO_LOAD),
    ],
)
def test_executing_loads_nothing(argv: tuple[str, ...]) -> None:
    for order in itertools.permutations(argv):
        task = resolve(parse(*order))
        assert (task.load, task.then) == (False, Afterwards.EXECUTE)


CONTRADICTIONS = [
    ("-u", "-e"),
    ("-u", "-f"),
    ("-p", "-e"),
    ("-p", "-f", "K"),
    ("-l", "-p", "K"),
    ("-u", "K"),
    ("-e", "K"),
    ("--snapshot=x.tar", "K"),
    ("-u", "--machine=x.tar"),
    ("-e", "--append=x"),
    ("-u", "--dry-run"),
    ("-e", "--noefi"),
    ("-u", "--real-mode"),
    ("-u", "--initrd=x"),
    ("-S", "--append=x"),
]


@pytest.mark.parametrize("argv", CONTRADICTIONS)
def test_contradictions_are_named(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    for order in itertools.permutations(argv):
        assert cli.exit_code(order) == 1
        output = capsys.readouterr()
        assert output.out == ""
        first, *rest = output.err.splitlines()
        named = [option.split("=")[0] for option in argv if option != "K"]
        assert all(option in first for option in named)
        assert len(rest) <= 1


@pytest.mark.parametrize("option", HOW_TO_LOAD)
def test_how_to_load_means_nothing_to_an_unload(option: str) -> None:
    task = resolve(parse("-u", option))
    assert (task.load, task.unload) == (False, True)


def story(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What -d tells."""
    cli.exit_code(["-d", *argv])
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--reset-vga"], "--reset-vga"),
        (["--reuse-video-type"], "--reuse-video-type"),
        (["--args-elf"], "--args-elf"),
        (["--elf32-core-headers"], "--elf32-core-headers"),
        (["--dt-no-old-root", "--reuse-node=x"], "--dt-no-old-root, --reuse-node"),
        (["--hotplug"], "--hotplug"),
        (["--pass-memmap-cmdline"], "--pass-memmap-cmdline"),
        (["-x"], "--no-ifdown"),
        (["-y"], "--no-sync"),
    ],
)
def test_what_makes_no_difference_is_said_under_d(
    options: list[str], named: str, kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for load in (["-l", kernel, "--machine", SNAPSHOT], ["-s", "-l", kernel, "--machine", SNAPSHOT]):
        told = story([*options, *load], capsys)
        assert f"pykexec: {named}: accepted; it makes no difference here\n" in told
        assert "kexec_load it is" not in told


def test_the_status_of_another_machine() -> None:
    assert cli.exit_code(["-S", "--machine", SNAPSHOT]) == 0
    assert cli.exit_code(["-l", "-S", "--machine", SNAPSHOT]) == 0


@pytest.mark.parametrize("action", ["-l", "-p", "-S"])
def test_what_is_no_machine_is_said_at_once(
    action: str, kernel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, archive = tmp_path / "etc", tmp_path / "other.tar"
    (folder / "proc").mkdir(parents=True)
    with tarfile.open(archive, "w") as tar:
        tar.add(kernel, "vmlinuz")
    words = [action, *([] if action == "-S" else [kernel])]
    for place in (folder, archive):
        assert cli.exit_code([*words, "--machine", str(place)]) == 255
        told = capsys.readouterr().err.splitlines()
        assert told[0].startswith(f"pykexec: {place} is no snapshot of a machine")
        assert told[1].strip().startswith("pykexec --snapshot makes one")


@pytest.mark.parametrize("other", ["-u", "-S", "-p", "-l", "-f", "-e"])
def test_a_snapshot_is_all_that_is_done(other: str) -> None:
    with pytest.raises(PykexecError, match=r"--snapshot and .* cannot go together"):
        resolve(parse("--snapshot=x", other))


def test_a_status_drops_no_load() -> None:
    with pytest.raises(PykexecError, match=r"--initrd is for loading a kernel, which .*-S"):
        resolve(parse("-l", "-S", "--initrd=x", "K"))


@pytest.mark.parametrize("argv", [(), ("-l",), ("-p",), ("-f",), ("-l", "-e"), ("--initrd=x",)])
def test_missing_kernel(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str], done: list[str]) -> None:
    assert cli.exit_code(argv) == 255
    assert capsys.readouterr().err.startswith("pykexec: No kernel specified\n")
    assert done == []


@pytest.mark.parametrize(
    "argv", [("--bogus",), ("-Z",), ("-l", "--append"), ("-l", "K", "second"), ("--load=yes", "K"), ("-?",)]
)
def test_wrong_usage_is_1_and_short(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(argv) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert 1 <= len(output.err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--intrd=x", "--initrd"),
        ("--reuse-comandline", "--reuse-cmdline"),
        ("--dry", "--dry-run"),
        ("--load-panc", "--load-panic"),
        ("-initrd=x", "--initrd"),
        ("-append", "--append"),
        ("--xyzzy", None),
        ("-Z", None),
        ("-ldZ", None),
        (f"--{'initrd' * 50_000}", None),
    ],
)
def test_an_unknown_option_may_be_meant_for_another(
    word: str, meant: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.exit_code([word]) == 1
    hint = capsys.readouterr().err.splitlines()[1].strip()
    assert hint == (f"did you mean {meant}? see pykexec --help" if meant else "see pykexec --help")


@pytest.mark.parametrize(
    ("argv", "append", "initrd"),
    [
        (("K", "--append=a=1 b"), "a=1 b", None),
        (("K", "--append", "a=1 b"), "a=1 b", None),
        (("--command-line", "--quiet", "K"), "--quiet", None),
        (("--append=", "K"), "", None),
        (("--append=x", "--command-line=y", "K"), "y", None),
        (("--ramdisk=r", "K", "--initrd", "s"), None, "s"),
        (("-l", "--", "K"), None, None),
    ],
)
def test_values(argv: tuple[str, ...], append: str | None, initrd: str | None) -> None:
    options = parse(*argv)
    assert (options.kernel, options.append, options.initrd) == ("K", append, initrd)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0x1000000", 0x1000000), ("0X10", 16), ("010", 8), ("0", 0), ("1048576", 1 << 20), ("00", 0)],
)
def test_addresses_are_read_as_strtoul_reads_them(text: str, value: int) -> None:
    assert parse("-l", "K", f"--mem-min={text}").mem_min == value
    assert parse("-l", "K", "--entry", text).entry == value


@pytest.mark.parametrize(
    "text",
    ["", "12k", "0x", "x", "1 2", "08", "-1", "0x10000000000000000", "1.5", "0b11", "1_000", "9" * 500],
)
@pytest.mark.parametrize("option", ["--mem-min", "--mem-max", "--entry"])
def test_bad_addresses(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["-l", "K", f"{option}={text}"]) == 1
    assert capsys.readouterr().err.startswith(f"pykexec: Bad option value in {option}={text}\n")


@pytest.mark.parametrize("option", ["--entry", "--serial-baud", "--mem-min"])
def test_a_number_without_end(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """More digits than int() takes."""
    assert cli.exit_code(["-l", "K", f"{option}={'9' * 5000}"]) == 1
    told = capsys.readouterr().err
    assert (told.count("\n"), len(told) < 1500) == (2, True)


def test_mem_max_belongs_to_the_range(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    top = 0x2FFFFFFF
    line = ["-l", kernel, "--machine", SNAPSHOT, "--json"]
    assert cli.exit_code([*line, "--mem-min=0x10000000", f"--mem-max={top:#x}"]) == 0
    plan = require_valid("plan", capsys.readouterr().out)
    assert max(each["address"] + each["memsz"] for each in plan["segments"]) == top + 1
    assert min(each["address"] for each in plan["segments"]) >= 0x10000000
    assert cli.exit_code([*line, "--mem-min=2", "--mem-max=1"]) == 1
    assert "--mem-min" in capsys.readouterr().err


@pytest.mark.parametrize("mode", [["-l"], ["-p"], ["-f"], []])
def test_plans_for_another_machine_do_nothing(kernel: str, done: list[str], mode: list[str]) -> None:
    assert cli.exit_code([*mode, kernel, "--machine", SNAPSHOT, "--append=quiet"]) == 0
    assert done == []


def test_dry_run_shows_the_same_plan_as_text_and_json(
    kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["-p", kernel, "--machine", SNAPSHOT, "--append=quiet", "--dry-run"]
    assert cli.exit_code(line) == 0
    text = capsys.readouterr().out
    assert cli.exit_code([*line, "--json"]) == 0
    plan = require_valid("plan", capsys.readouterr().out)
    assert plan["purpose"] == "crash"
    assert plan["kernel"] == kernel
    assert f"{plan['entry']:#x}" in text
    for segment in plan["segments"]:
        assert f"{segment['address']:08x}-{segment['address'] + segment['memsz'] - 1:08x}" in text


def test_debug_tells_where_everything_goes(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["-d", "-p", kernel, "--machine", SNAPSHOT, "--json"]) == 0
    output = capsys.readouterr()
    for segment in json.loads(output.out)["segments"]:
        assert f"{segment['address']:08x}-" in output.err


def test_debug_tells_whoever_listens_now(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command's steps are told while it runs, on what then is standard error, and not once more."""
    line = ["-l", kernel, "--machine", SNAPSHOT, "--json"]
    for _ in range(2):
        assert cli.exit_code(["-d", *line]) == 0
        told = capsys.readouterr().err.splitlines()
        assert told
        assert len(told) == len(set(told))
    assert cli.exit_code(line) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("loaded", "status"), [(True, 1), (False, 0), (None, 255)])
def test_status_speaks_through_the_exit_code(
    loaded: bool | None, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loader, "status", lambda purpose, machine: loaded)
    assert cli.exit_code(["-S"]) == status
    assert capsys.readouterr().out == ""


@pytest.fixture
def receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of what pykdump has loaded on the machine that commands then act on."""
    top = tmp_path / "live"
    path = str(receipts.LOADED.relative_to("/"))
    unpacked("qemu-6.1-1g", top, {path: "{}"})
    monkeypatch.setattr(Machine, "live", lambda: Machine(Folder(top), is_live=True))
    monkeypatch.setattr(privilege, "may_boot", lambda machine: True)
    return top / path


@pytest.mark.parametrize("argv", [["-p", "-u"], ["-p"], ["-s", "-p"], ["-p", "--append=quiet"]])
def test_what_is_loaded_then_is_not_what_pykdump_has_loaded(
    argv: list[str], kernel: str, receipt: Path
) -> None:
    cli.exit_code([*argv, *([] if "-u" in argv else [kernel])])
    assert not receipt.exists()
    cli.exit_code(argv)  # once more, where there is none


def test_a_warning_is_told_once(
    kernel: str, receipt: Path, done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where kexec_file_load, which had a plan of its own, is not there."""
    assert cli.exit_code(["-p", kernel]) == 0
    assert done == ["load"]
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[2] for line in told] == [" no --initrd", " no --append or --reuse-cmdline"]
    assert cli.exit_code(["-d", "-c", "-p", kernel]) == 0
    assert capsys.readouterr().err.count("no --initrd:") == 1


def test_a_receipt_that_stays_is_told_of(
    kernel: str, receipt: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receipt.unlink()
    receipt.mkdir()
    cli.exit_code(["-p", "-u"])
    (told,) = caplog.messages
    assert told.startswith(f"{receipt} stays, and pykdump status tells what it says: ")


@pytest.mark.parametrize(
    "argv", [["-l", "K"], ["-u"], ["-p", "-S"], ["-p", "--dry-run", "K"], ["-p", "/none"]]
)
def test_what_leaves_the_crash_kernel_alone(argv: list[str], kernel: str, receipt: Path) -> None:
    cli.exit_code([kernel if each == "K" else each for each in argv])
    assert receipt.exists()


def test_crash_kernel_without_reservation(
    kernel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top = tmp_path / "machine"
    iomem = unpacked("qemu-6.1-1g", top).read("proc/iomem") or b""
    lines = [line for line in iomem.decode().splitlines() if "Crash kernel" not in line]
    write(top, "proc/iomem", "\n".join(lines) + "\n")
    for file in (kernel, str(tmp_path / "none")):  # before any file is looked at
        assert cli.exit_code(["-p", file, "--machine", str(top)]) == 1
        first, hint = capsys.readouterr().err.splitlines()
        assert "Memory for crashkernel is not reserved" in first
        assert "crashkernel=" in hint


def test_unreadable_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (
        ["-l", str(tmp_path / "none"), "--machine", SNAPSHOT],
        ["-l", str(tmp_path), "--machine", SNAPSHOT],
        ["-l", "vmlinuz", "--machine", str(tmp_path / "none.tar")],
    ):
        assert cli.exit_code(argv) in (1, 255)
        assert 1 <= len(capsys.readouterr().err.splitlines()) <= 2


def test_what_the_terminal_cannot_show_is_escaped(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    line = ["-l", kernel, "--machine", SNAPSHOT, "--append", "é"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "pykexec", *line]
    ran = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert b"\\xe9" in ran.stdout


def test_a_closed_pipe_is_quiet(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    line = [sys.executable, "-m", "pykexec", "-l", kernel, "--machine", SNAPSHOT]
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (1, b"")


@pytest.mark.programs
def test_a_load_leaves_keyrings_and_sessions_alone(
    kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session's keyring holds the keys of encrypted disks for the capture kernel."""
    monkeypatch.undo()
    trace = tmp_path / "trace"
    calls = "keyctl,add_key,request_key,setsid,setpgid,fork,vfork,execve"
    strace = ["strace", "-f", "-qq", "-e", f"trace={calls}", "-o", str(trace)]
    command = [sys.executable, "-m", "pykexec", "-p", kernel, "--machine", SNAPSHOT]
    subprocess.run([*strace, *command], check=True, capture_output=True, timeout=60)
    names = {line.split("(")[0].split()[-1] for line in trace.read_text().splitlines() if "(" in line}
    assert names == {"execve"}


def test_without_privilege_nothing_is_begun(
    kernel: str, done: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(privilege, "may_boot", lambda machine: False)
    for argv in (["-l", kernel], ["-p", kernel], ["-u"], ["-e"], ["-f", kernel]):
        assert cli.exit_code(argv) == 255
        assert "CAP_SYS_BOOT" in capsys.readouterr().err
    assert done == []


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("-h", "--help"):
        assert cli.exit_code([option]) == 0
        output = capsys.readouterr()
        assert output.err == ""
        for name in ("--load-panic", "--reuse-cmdline", "--initrd", "--mem-max", "--dry-run"):
            assert name in output.out
    for option in ("-v", "--version"):
        assert cli.exit_code([option]) == 0
        found = re.fullmatch(r"kexec-tools (\d+)\.(\d+)\.(\d+) \(pykexec \S+\)\n", capsys.readouterr().out)
        assert found
        # From 2.0.27 on, scripts expect kexec_file_load to be tried first.
        assert tuple(map(int, found.groups())) >= (2, 0, 27)


def test_a_load_needs_a_kernel() -> None:
    with pytest.raises(PykexecError, match="No kernel specified"):
        resolve(options.Options())


def test_a_map_takes_the_place_of_the_text(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(complete(kernel, "--map")) == 0
    alone = capsys.readouterr().out
    assert "crashkernel: 20000000-2fffffff, 256 MiB" in alone
    assert "segments (" not in alone
    assert cli.exit_code(complete(kernel, "--map", "--dry-run")) == 0
    both = capsys.readouterr().out
    assert both.endswith(f"\n\n{alone}")
    assert "segments (" in both


def test_a_picture_is_a_file_and_all_that_is_made(
    kernel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], done: list[str]
) -> None:
    picture = tmp_path / "plan.svg"
    assert cli.exit_code(complete(kernel, f"--svg={picture}")) == 0
    assert capsys.readouterr().out == f"{picture}: a picture of crash load for x86_64\n"
    root = ET.parse(picture).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "elfcorehdr" in {each.text for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.svg", "vmlinuz"]
    assert cli.exit_code(complete(kernel, "--svg", str(picture), "--json")) == 0
    json.loads(capsys.readouterr().out)
    assert done == []


def test_a_plan_in_a_file_is_drawn_too(
    kernel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], done: list[str]
) -> None:
    plan, pictures = tmp_path / "plan", [tmp_path / "one.svg", tmp_path / "other.svg"]
    assert cli.exit_code(complete(kernel, f"--output={plan}", f"--svg={pictures[0]}")) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1].startswith(f"{plan}: ")
    load = ["--load-plan", str(plan), "--machine", SNAPSHOT, f"--svg={pictures[1]}"]
    assert cli.exit_code(load) == 0
    one, other = (
        re.findall(r"<title>(.*?)[:<]", picture.read_text().partition("capture kernel")[0])
        for picture in pictures
    )
    assert set(one) >= {"crashkernel at 20000000-2fffffff, 256 MiB"} <= set(other)
    assert done == []


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["-s", "--map"], "--map: with kexec_file_load the kernel decides"),
        (["-s", "--svg=FILE"], "--svg: with kexec_file_load the kernel decides"),
        (["--map", "--json"], "--json and --map cannot go together"),
        (["--svg=/proc/none/x.svg"], "cannot write /proc/none/x.svg"),
        (["--svg="], "cannot write"),
    ],
)
def test_what_cannot_be_drawn(
    argv: list[str], told: str, kernel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "old.svg"
    picture.write_text("old")
    assert cli.exit_code(complete(kernel, *(word.replace("FILE", str(picture)) for word in argv))) == 1
    assert told in capsys.readouterr().err
    assert picture.read_text() == "old"


@pytest.mark.parametrize("action", ["-u", "-e", "-S"])
@pytest.mark.parametrize("option", ["--map", "--svg=x"])
def test_there_is_no_plan_to_draw(action: str, option: str) -> None:
    with pytest.raises(PykexecError, match=r"^--(map|svg) is for loading a kernel"):
        resolve(parse(action, option))
