"""pykdump doctor of many machines, and what its checks are about."""

import io
import json
import re
import tarfile
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.kdump import cli, doctor
from pykexec.kdump.doctor import catalogue, fleet
from pykexec.kdump.doctor.finding import Check, Finding, Stage, Verdict
from pykexec.kdump.doctor.fleet import Result
from pykexec.machine import IDENTITY
from tests.support.bombs import gzip_of_zeros
from tests.support.footprint import takes_at_most
from tests.support.machines import FOLDER
from tests.support.schemas import require_valid
from tests.support.stopwatch import Stopwatch

GOOD = [str(FOLDER / f"{name}.tar") for name in ("qemu-6.1-1g", "qemu-arm64-6.1-1g")]


def snapshot(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


def hostile(folder: Path) -> list[str]:
    """Snapshots of strangers: none is one, or each fact in it is nonsense."""
    (folder / "noise.tar").write_bytes(bytes(range(256)) * 100)
    (folder / "empty.tar").write_bytes(b"")
    (folder / "bomb.tar").write_bytes(gzip_of_zeros(1024))
    whole = Path(GOOD[0]).read_bytes()
    (folder / "cut.tar").write_bytes(whole[: len(whole) // 2])
    names = ("proc/cmdline", "proc/iomem", "proc/kcore", "etc/kdump.conf", "run/pykdump/loaded.json")
    noise = {
        **dict.fromkeys(names, b"\xff\x00\x1b[2J" * 1000),
        "proc/sys/kernel/osrelease": b"6.1\x1b[2J" * 500,
        "proc/sys/kernel/arch": b"\x1b]0;x\x07" * 500,
        IDENTITY: b"[" * 10_000,
    }
    snapshot(folder / "facts.tar", noise)
    snapshot(folder / "places.tar", {"pykdump-places.json": b"{}", "proc/sys/kernel/arch": b"x86_64"})
    return sorted(str(path) for path in folder.glob("*.tar"))


def test_one_hostile_snapshot_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [GOOD[0], *hostile(tmp_path), "/no/such/file", GOOD[1]]
    stopwatch = Stopwatch()
    with takes_at_most(200 << 20):
        assert cli.exit_code(["doctor", *(f"--machine={path}" for path in paths), "--json"]) == 3
    assert stopwatch.seconds() < 2
    told = capsys.readouterr()
    lines = [require_valid("fleet", line) for line in told.out.splitlines()]
    assert told.err == ""
    assert [line["machine"] for line in lines] == paths
    by_name = {line["name"]: line for line in lines}
    assert [by_name[name]["armed"] for name in ("qemu-6.1-1g", "qemu-arm64-6.1-1g")] == [False, False]
    assert {"noise", "cut", "places", "file"} <= {name for name, line in by_name.items() if line["error"]}
    assert not [line for line in lines if line["armed"]]
    assert cli.exit_code(["doctor", "--machine", *paths]) == 3
    table = capsys.readouterr().out
    assert table.replace("\n", "").isprintable()
    assert all(len(line) <= 80 for line in table.splitlines() if "/" not in line)


def finding(id: str, cause: str) -> Finding:
    return Finding(id, Stage.LOAD, "title", Verdict.WRONG, cause, (), "remedy", "pykdump start")


def found(id: str) -> Finding:
    return Finding(id, Stage.LOAD, "title", Verdict.FINE, "", (), "")


NO_MEMORY = finding("R1", "no memory was asked for")
NOTHING_LOADED = finding("L17", "no crash kernel is loaded: a crash would leave nothing")
ARMED = (found("L17"), found("L19"))
FLEET = [
    Result("fleet/db1.tar", "x86_64", "6.1.0-50-amd64", (*ARMED, finding("T1", "an oops leaves no dump"))),
    Result("fleet/db2.tar.gz", "x86_64", "6.1.0-50-amd64", (found("L17"),)),
    Result("fleet/db3.tar", "x86_64", "6.1.0-50-amd64", (found("L17"), found("L20"))),
    Result("fleet/web1.tar", "arm64", "6.12.95+deb13-cloud-arm64", (NO_MEMORY, NOTHING_LOADED)),
    Result("fleet/web2.tar", "arm64", "6.12.95+deb13-cloud-arm64", (NO_MEMORY, NOTHING_LOADED)),
    Result("fleet/a-name-that-is-much-longer-than-others.example.com.tar", "ppc64le", "6.1.0-50-powerpc64le",
           (NOTHING_LOADED,)),
    Result("fleet/old.tar", error="cannot read the snapshot fleet/old.tar: no tar archive"),
]  # fmt: skip
SCREEN = """\
MACHINE                     ARCH     KERNEL                     ARMED      FIRST
db1                         x86_64   6.1.0-50-amd64             proven     T1
db2                         x86_64   6.1.0-50-amd64             unproven
db3                         x86_64   6.1.0-50-amd64             rehearsed
web1                        arm64    6.12.95+deb13-cloud-arm64  no         R1
web2                        arm64    6.12.95+deb13-cloud-arm64  no         R1
a-name-that-...example.com  ppc64le  6.1.0-50-powerpc64le       no         L17
old                         -        -                          unknown    error
  L17   no crash kernel is loaded: a crash would leave nothing
  R1    no memory was asked for
  T1    an oops leaves no dump
  error old: cannot read the snapshot fleet/old.tar: no tar archive
7 machines: 3 armed, 3 not armed, 1 cannot be told
pykdump doctor --machine FILE says all of one, --explain ID what a check is
about
"""


def test_a_screen_of_80_columns() -> None:
    assert fleet.as_table(FLEET) == SCREEN


@pytest.mark.parametrize(
    ("results", "status"), [(FLEET[:1], 1), (FLEET[1:2], 0), (FLEET[:4], 3), (FLEET[-1:], 3)]
)
def test_the_exit_status_is_the_worst(results: list[Result], status: int) -> None:
    assert max(result.exit_code for result in results) == status


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=100)


@given(st.lists(st.builds(Result, TEXTS, TEXTS, TEXTS), min_size=1, max_size=5), st.integers(60, 200))
def test_no_line_is_wider_whatever_a_machine_says(results: list[Result], columns: int) -> None:
    rows = fleet.as_table(results, columns).split("\n")[: len(results) + 1]
    assert all(len(row) <= columns for row in rows)
    for result in results:
        (line,) = fleet.as_json_line(result).splitlines()
        assert require_valid("fleet", line)["kernel"] == result.kernel


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["a.tar"], "--machine a.tar?"),
        (["--machine", "a.tar", "b.tar", "--all"], "are for one machine"),
        (["--machine", "a.tar", "b.tar", "--console-log", "x"], "are for one machine"),
        (["--list", "--machine", "a.tar"], "--list and --explain"),
        (["--list", "--explain", "R1"], "--list and --explain"),
        (["--explain", "R99"], "no check has the id 'R99'"),
        (["--explain", ""], "pykdump doctor --list names all"),
    ],
)
def test_wrong_usage(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["doctor", *argv]) == 1
    told = capsys.readouterr()
    assert (told.out, words in told.err) == ("", True)


# What checks are about


@pytest.mark.parametrize("check", doctor.CATALOGUE, ids=lambda check: check.id)
def test_each_check_is_explained(check: Check) -> None:
    """In whole sentences, which fit a screen, and name commands that there are."""
    commands = {*cli.group.list_commands(click.Context(cli.group)), "setup"}
    for text in (check.looks_at, check.matters, check.mend):
        assert text.endswith(".")
        assert set(re.findall(r"\bpykdump (\w+)", text)) <= commands
    assert len({check.looks_at, check.matters, check.mend}) == 3
    lines = catalogue.as_explanation(check).splitlines()
    assert len(lines) <= 8
    assert all(len(line) <= 80 for line in lines)


def test_a_check_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["doctor", "--explain", "t1"]) == 0
    assert (
        capsys.readouterr().out
        == """\
T1: an oops leads to a dump (trigger)
  looks at: The sysctl kernel.panic_on_oops, and those that turn other faults
            into a panic.
  matters:  An oops that only ends a process leaves no dump, and lets a damaged
            kernel go on.
  to mend:  Set kernel.panic_on_oops=1 in /etc/sysctl.d.
"""
    )
    assert cli.exit_code(["doctor", "--explain", "t1", "--json"]) == 0
    (told,) = require_valid("checks", capsys.readouterr().out)["checks"]
    assert (told["id"], told["stage"]) == ("T1", "trigger")


def test_all_checks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["doctor", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert sorted(listed) == sorted(check.id for check in doctor.CATALOGUE)
    assert cli.exit_code(["doctor", "--list", "--json"]) == 0
    told = require_valid("checks", capsys.readouterr().out)
    assert [each["id"] for each in told["checks"]] == [check.id for check in doctor.CATALOGUE]
    assert json.dumps(told)


def test_one_machine_has_the_whole_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["doctor", "--machine", GOOD[0]]) == 3
    told = capsys.readouterr().out
    assert told.startswith("armed: no\nmend first: ")
    assert all(len(line) <= 80 for line in told.splitlines() if "$" not in line)
