"""Receipts of rehearsals: kept whole, read as data, and taken back by what has changed."""

import dataclasses
import errno
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.errors import FileError, MachineError, printable
from pykexec.kdump.config.settings import (
    Action,
    Collector,
    CommandLinePolicy,
    Dialect,
    KernelChoice,
    Settings,
    Target,
    TargetKind,
)
from pykexec.kdump.console.rules import Stage
from pykexec.kdump.rehearsal import receipt
from pykexec.kdump.rehearsal.receipt import PASSED, Now, Rehearsed, changes
from pykexec.machine.root import Folder
from pykexec.memory import MIB
from tests.support import faults

GOOD = Rehearsed(
    time="2026-12-01T00:40:12Z",
    kernel_sha256="1",
    initrd_sha256="2",
    command_line="nr_cpus=1",
    configuration="3",
    verdict=PASSED,
    cause="",
    reservation=256 * MIB,
    smallest=None,
    high_water=117 * MIB,
    seconds=41.5,
    first_kernel="6.1.0-50-amd64",
    version="1",
)
SAME = Now("1", "2", "nr_cpus=1", "3", 256 * MIB)
FAILED = replace(GOOD, verdict="out_of_memory", cause="the capture kernel ran out of memory")

# The files


def loaded(folder: Path) -> Mapping[str, Rehearsed]:
    return receipt.load(Folder("/"), str(folder))


SIZES = st.integers(0, 1 << 62)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=100)
REHEARSED = st.builds(
    Rehearsed,
    time=st.datetimes().map(lambda when: when.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)),
    kernel_sha256=TEXTS,
    initrd_sha256=TEXTS,
    command_line=TEXTS,
    configuration=TEXTS,
    verdict=st.sampled_from([PASSED, *(stage.name.lower() for stage in Stage)]),
    cause=TEXTS.map(printable),
    reservation=SIZES,
    smallest=st.none() | SIZES,
    high_water=st.none() | SIZES,
    seconds=st.floats(0, 1e9),
    first_kernel=st.from_regex(r"[0-9A-Za-z_.+~-]{1,100}", fullmatch=True),
    version=st.just("1"),
)


@given(REHEARSED)
def test_what_was_saved_is_loaded(rehearsed: Rehearsed) -> None:
    with tempfile.TemporaryDirectory() as folder:
        receipt.save(rehearsed, Path(folder, "lib"))
        assert receipt.load(Folder(folder), "/lib") == {rehearsed.first_kernel: rehearsed}


def test_it_is_for_root_alone(tmp_path: Path) -> None:
    """The command line tells what the capture system can be asked for."""
    receipt.save(GOOD, tmp_path / "lib")
    (file,) = (tmp_path / "lib").iterdir()
    assert [stat.S_IMODE(each.stat().st_mode) for each in (file.parent, file)] == [0o700, 0o600]


def test_each_kernel_has_its_last_one(tmp_path: Path) -> None:
    other = replace(FAILED, first_kernel="6.1.0-58-amd64")
    for each in (FAILED, other, GOOD):
        receipt.save(each, tmp_path)
    assert loaded(tmp_path) == {each.first_kernel: each for each in (GOOD, other)}


def test_the_oldest_go(tmp_path: Path) -> None:
    (tmp_path / "initrd-6.1.0-1-amd64.img").write_bytes(b"")
    releases = [f"6.1.0-{number}-amd64" for number in range(20)]
    for number, release in enumerate(releases):
        receipt.save(replace(GOOD, first_kernel=release), tmp_path)
        os.utime(tmp_path / f"rehearsed-{release}.json", (number, number))
    kept = set(loaded(tmp_path))
    assert kept == set(releases[-len(kept) :])
    assert 1 < len(kept) < 20
    assert (tmp_path / "initrd-6.1.0-1-amd64.img").exists()


@pytest.mark.parametrize("release", ["", "../6.1", "6.1\n", "6.1/x", "x" * 101, "6.1\0"])
def test_a_release_that_is_no_name(release: str, tmp_path: Path) -> None:
    """It is what the kernel's file says."""
    with pytest.raises(FileError, match="no kernel has the release"):
        receipt.save(replace(GOOD, first_kernel=release), tmp_path / "lib")
    assert not (tmp_path / "lib").exists()


def test_nothing_half_is_left(tmp_path: Path) -> None:
    def save() -> int:
        receipt.save(GOOD, tmp_path / "lib")
        return 0

    for fault in faults.possible(save):
        receipt.save(FAILED, tmp_path / "lib")
        faults.run(save, fault)
        assert loaded(tmp_path / "lib")[GOOD.first_kernel] in (FAILED, GOOD), fault


CONTENT = json.dumps(asdict(GOOD))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        CONTENT[:-1],
        json.dumps({**asdict(GOOD), "more": ""}),
        json.dumps({name: value for name, value in asdict(GOOD).items() if name != "smallest"}),
        json.dumps({**asdict(GOOD), "first_kernel": "6.1.0-58-amd64"}),
        *(
            json.dumps({**asdict(GOOD), "reservation": value})
            for value in (None, -1, 1.5, True, 1 << 70, "1")
        ),
        *(json.dumps({**asdict(GOOD), "seconds": value}) for value in (float("nan"), float("inf"), "1")),
        *(json.dumps({**asdict(GOOD), "time": value}) for value in ("", "today", GOOD.time + "\n", 1)),
        json.dumps({**asdict(GOOD), "verdict": 1}),
    ],
)
def test_what_is_damaged_is_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / f"rehearsed-{GOOD.first_kernel}.json"
    path.write_text(CONTENT)
    assert loaded(tmp_path) == {GOOD.first_kernel: GOOD}
    path.write_text(text)
    assert loaded(tmp_path) == {}


@given(st.integers(0, len(CONTENT) - 1), st.characters(codec="utf-8"))
def test_what_was_changed_is_none_or_can_be_shown(place: int, character: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"rehearsed-{GOOD.first_kernel}.json")
        path.write_text(CONTENT[:place] + character + CONTENT[place + 1 :])
        for each in loaded(Path(folder)).values():
            assert (each.failure + each.date + each.version).isprintable()
            assert each.reservation >= 0


def test_other_files_are_none(tmp_path: Path) -> None:
    for name in ("rehearsed-.json", "rehearsed-a b.json", "proven.json", f"rehearsed-{'x' * 101}.json"):
        (tmp_path / name).write_text(CONTENT)
    (tmp_path / f"rehearsed-{GOOD.first_kernel}.json").mkdir()
    assert loaded(tmp_path) == {}
    assert loaded(tmp_path / "no/such/folder") == {}


def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(MachineError, match="Permission denied"):
        loaded(tmp_path)


def test_what_failed_is_told_in_doctors_words() -> None:
    assert FAILED.failure == f"{Stage.OUT_OF_MEMORY.value}: {FAILED.cause}"
    assert replace(FAILED, verdict="exploded").failure == f"exploded: {FAILED.cause}"


# What has changed

CHANGED: Mapping[str, object] = {
    "kernel_sha256": "the kernel",
    "initrd_sha256": "the capture image",
    "command_line": "the command line",
    "configuration": "the configuration",
}


@given(st.sets(st.sampled_from(sorted(CHANGED))), st.sets(st.sampled_from(sorted(CHANGED))))
def test_each_change_is_named_where_it_is_known(changed: set[str], unknown: set[str]) -> None:
    now = replace(SAME, **dict.fromkeys(changed, "other"))  # type: ignore[arg-type]
    now = replace(now, **dict.fromkeys(unknown))
    assert set(changes(GOOD, now)) == {CHANGED[each] for each in changed - unknown}


@pytest.mark.parametrize(
    ("rehearsed", "reservation", "is_change"),
    [
        (GOOD, 255 * MIB, True),
        (GOOD, 512 * MIB, False),
        (GOOD, 256 * MIB - 4096, False),
        (FAILED, 256 * MIB + 4096, False),
        (FAILED, 255 * MIB, False),
        (FAILED, 512 * MIB, True),
        (GOOD, None, False),
    ],
)
def test_more_memory_is_no_change_for_the_better(
    rehearsed: Rehearsed, reservation: int | None, is_change: bool
) -> None:
    found = changes(rehearsed, replace(SAME, reservation=reservation))
    assert found == (("the reservation",) if is_change else ())


# The configuration

PLAIN = Settings(Dialect.FEDORA)
OTHERS = [
    replace(PLAIN, dialect=Dialect.DEBIAN),
    replace(PLAIN, path="/srv/crash"),
    replace(PLAIN, target=Target(TargetKind.NFS, "192.0.2.1:/crash")),
    replace(PLAIN, target=Target(TargetKind.NFS, "192.0.2.2:/crash")),
    replace(PLAIN, target=Target(TargetKind.CIFS, "//192.0.2.1/x", user="a")),
    replace(PLAIN, collector=Collector(("makedumpfile", "-d", "1"))),
    replace(PLAIN, keep_old_dumps=3),
    replace(PLAIN, failure_action=Action.SHELL),
    replace(PLAIN, final_action=Action.SHELL),
    replace(PLAIN, command_line=CommandLinePolicy(append=None)),
    replace(PLAIN, kernel=KernelChoice(version="6.1")),
    replace(PLAIN, kernel=KernelChoice(image="6.1")),
    replace(PLAIN, kexec_arguments=("-s",)),
    replace(PLAIN, extra_programs=("a", "b")),
    replace(PLAIN, extra_programs=("a b",)),
    replace(PLAIN, extra_modules=("a", "b")),
]


def test_each_setting_counts() -> None:
    found = {receipt.configuration(each) for each in (PLAIN, *OTHERS)}
    assert len(found) == len(OTHERS) + 1


def test_files_words_and_secrets_do_not_count() -> None:
    """Secrets are in the image. A digest in a receipt would let them be guessed."""
    shared = Target(TargetKind.CIFS, "//192.0.2.1/x", user="a")
    same = replace(PLAIN, target=shared, files=("/etc/kdump.conf",), warnings=("w",), mail=(("a", "b"),))
    for each in (same, replace(same, target=replace(shared, password="secret"))):
        assert receipt.configuration(each) == receipt.configuration(replace(PLAIN, target=shared))


def test_a_setting_that_is_new_changes_nothing_where_it_is_not_made() -> None:
    later = dataclasses.make_dataclass("Settings", [("news", str, "")], bases=(Settings,), frozen=True)
    assert receipt.configuration(later(Dialect.FEDORA)) == receipt.configuration(PLAIN)
    assert receipt.configuration(later(Dialect.FEDORA, news="x")) != receipt.configuration(PLAIN)
