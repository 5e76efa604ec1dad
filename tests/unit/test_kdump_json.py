"""What commands of pykdump print as facts: on a screen of 80 columns, and as JSON by their schemas."""

from pathlib import Path
from typing import Any, cast

import pytest

from pykexec.kdump import capture
from pykexec.kdump.capture import Contents, Entry
from pykexec.kdump.cli import exit_code
from pykexec.machine import Machine
from pykexec.machine.root import Folder
from pykexec.memory import MIB
from tests.support.machines import FOLDER, unpacked, write
from tests.support.schemas import require_valid

# crashkernel


def booted(folder: Path, line: str, size: str | None, iomem: str = "") -> str:
    """A machine with 4 GiB, booted with that line, that says it has reserved so much."""
    for path, content in (
        ("proc/cmdline", f"{line}\n"),
        ("proc/iomem", f"00001000-bfffffff : System RAM\n{iomem}100000000-13fffffff : System RAM\n"),
        ("proc/sys/kernel/arch", "x86_64"),
        ("proc/sys/kernel/osrelease", "6.1.0\n"),
    ):
        write(folder, path, content)
    if size is not None:
        write(folder, "sys/kernel/kexec_crash_size", f"{size}\n")
    return str(folder)


RESERVED = "  20000000-2fffffff : Crash kernel\n"
SCREENS = [
    (
        "quiet crashkernel=256M",
        "268435456",
        RESERVED,
        """\
crashkernel=256M decides: 256M (0x10000000 bytes)
below 4G; if there is no room, above
if it comes to lie above 4G, 256M below as well, for devices' DMA
reserved: 256M (20000000-2fffffff)
""",
    ),
    (
        "quiet",
        "0",
        "",
        """\
the kernel's command line has no crashkernel=
reserved: nothing; pykdump estimate says how much it takes, pykdump setup asks
for it
""",
    ),
    (
        "crashkernel=0M",
        "0",
        "",
        """\
nothing will be reserved: the size is 0
reserved: nothing; pykdump doctor says why
""",
    ),
    (
        "crashkernel=256M@16M",
        None,
        "",
        """\
crashkernel=256M@16M decides: 256M (0x10000000 bytes)
exactly at 0x1000000, or not at all
reserved: not known, as this kernel does not say it
""",
    ),
]


@pytest.mark.parametrize(("line", "size", "iomem", "screen"), SCREENS)
def test_the_parameter_of_the_running_machine(
    line: str,
    size: str | None,
    iomem: str,
    screen: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = booted(tmp_path, line, size, iomem)
    assert exit_code(["crashkernel", "--machine", machine]) == 0
    assert capsys.readouterr().out == screen
    assert exit_code(["crashkernel", "--machine", machine, "--json"]) == 0
    told = require_valid("crashkernel", capsys.readouterr().out)
    assert told["reserved"]["size"] == (None if size is None else int(size))
    assert told["reserved"]["regions"] == ([{"start": 0x20000000, "end": 0x30000000}] if iomem else [])


def test_a_parameter_that_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = booted(tmp_path, "crashkernel=256M", "268435456", RESERVED)
    assert exit_code(["crashkernel", "1G-3G:128M,3G-:192M", "--machine", machine, "--json"]) == 0
    told = require_valid("crashkernel", capsys.readouterr().out)
    assert (told["values"], told["size"]) == (["1G-3G:128M,3G-:192M"], 192 * MIB)
    assert told["reserved"] is None, "it is not what the machine was booted with"
    assert exit_code(["crashkernel", "8G", "--machine", machine, "--json"]) == 0
    told = require_valid("crashkernel", capsys.readouterr().out)
    assert (told["size"], "not less than all memory" in told["why_nothing"]) == (0, True)


# resize


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine in the place of this one."""
    unpacked("qemu-6.1-1g", tmp_path, {"etc/kdump.conf": "path /var/crash\n"})
    monkeypatch.setattr(Machine, "live", lambda: Machine(Folder(tmp_path)))
    return tmp_path


def test_what_would_be_given_back(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (region,) = Machine.live().crash_regions
    assert exit_code(["resize", "64M", "--dry-run", "--json"]) == 0
    told = require_valid("resize", capsys.readouterr().out)
    kept, freed = [(each["start"], each["end"]) for each in (*told["kept"], *told["freed"])]
    assert kept == (region.start, region.start + 64 * MIB)
    assert freed == (kept[1], region.end)
    assert exit_code(["resize", "64M", "--dry-run"]) == 0
    assert f"echo {told['value']} > {told['path']}\n" in capsys.readouterr().out


# Lists


def test_what_would_be_in_the_image(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = here / "tool"
    source.write_bytes(bytes(1234))
    entries = (Entry("/usr/bin/tool", source, 0o755), Entry("/init", b"#!/bin/sh\n", 0o755))
    monkeypatch.setattr(capture, "contents", lambda *_: Contents(cast(Any, "a disk"), entries))
    assert exit_code(["mkinitrd", "--list", "--json"]) == 0
    told = require_valid("image-list", capsys.readouterr().out)
    assert [(each["path"], each["size"], each["source"]) for each in told["files"]] == [
        ("/init", 10, None),
        ("/usr/bin/tool", 1234, str(source)),
    ]
    assert (told["target"], told["release"]) == ("a disk", Machine.live().kernel_release)
    source.unlink()
    assert exit_code(["mkinitrd", "--list", "--json"]) == 1
    assert f"cannot read {source}" in capsys.readouterr().err


def test_what_would_be_in_a_snapshot(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["snapshot", "--list", "--json"]) == 0
    told = require_valid("snapshot-list", capsys.readouterr().out)
    assert exit_code(["snapshot", "--list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    # The listing of the machine's files has times and free space, which change meanwhile.
    found = [(each["path"], each["size"]) for each in told["files"] if each["path"].startswith("proc/")]
    assert found == [(path, int(size)) for size, path in lines if path.startswith("proc/")] != []


WRONG = [
    (["resize", "64M", "--json"], "--json is for --dry-run"),
    (["mkinitrd", "--json"], "--json is for --list"),
    (["snapshot", "--json", "x.tar"], "--json is for --list"),
    (["crashkernel", "12x", "--json", "--machine", str(FOLDER / "qemu-6.1-1g.tar")], "column 3"),
]


@pytest.mark.parametrize(("argv", "words"), WRONG)
def test_json_of_what_is_no_fact(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(argv) == 1
    told = capsys.readouterr()
    assert (told.out, words in told.err) == ("", True)
