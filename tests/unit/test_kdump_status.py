"""pykdump status: what it says on a screen, as JSON, and as metrics."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from pykexec.errors import FileError, NoCrashMemoryError
from pykexec.kdump import config
from pykexec.kdump.cli import exit_code
from pykexec.kdump.config.settings import Dialect, Settings
from pykexec.kdump.rehearsal import receipt as rehearsed
from pykexec.kdump.rehearsal.receipt import Compared, Rehearsed, Review
from pykexec.kdump.service import actions, cli, dumps, metrics, readiness, receipt, state, status, trial
from pykexec.kdump.service.dumps import Dump
from pykexec.kdump.service.readiness import Judgement, Readiness, Step
from pykexec.kdump.service.receipt import Receipt
from pykexec.kdump.service.state import State
from pykexec.kdump.service.trial import Outcome
from pykexec.machine import Machine
from pykexec.machine.root import Folder
from pykexec.memory import MIB
from tests.support.machines import unpacked, write
from tests.support.schemas import require_valid

LOADED = Receipt(
    boot="boot",
    kernel="/boot/vmlinuz-6.1.0-50-amd64",
    kernel_sha256="1",
    initrd="/var/lib/pykdump/initrd-6.1.0-50-amd64.img",
    initrd_sha256="2",
    command_line="nr_cpus=1",
    target="/var/crash on the ext4 of vda",
    hardware="3",
    inputs="4",
    system_call="kexec_file_load",
    time="2026-11-30T04:47:01Z",
    version="1",
)
DUMPS = (
    Dump(Path("/var/crash/127.0.0.1-2026-11-30-04:40:59"), 61 * MIB, True, True, 1796013659.5),
    Dump(Path("/var/crash/127.0.0.1-2026-11-29-10:00:00"), 3 * MIB, False, True, 1795946400.0),
)
UNPROVEN = State(
    Judgement(Readiness.UNPROVEN, "no pykdump test has been made", readiness.TEST),
    LOADED,
    256 * MIB,
    Path("/var/crash"),
    12_345 * MIB,
    310 * MIB,
    DUMPS,
    Outcome.NONE,
)
UNARMED = State(
    Judgement(
        Readiness.NOT_ARMED,
        "no memory is reserved for a capture kernel, as the kernel's command line has no crashkernel=",
        readiness.SET_UP,
    ),
    None,
    0,
    None,
    None,
    None,
    (),
    Outcome.NONE,
    "kdump is not configured here",
)

# Screens

SCREENS = [
    (
        UNARMED,
        """\
armed:    no: no memory is reserved for a capture kernel, as the kernel's
          command line has no crashkernel=
next:     pykdump setup: reserves memory, writes a configuration, and turns the
          service on
problem:  kdump is not configured here
reserved: 0 MiB
dumps:    where they go is not known
""",
    ),
    (
        UNPROVEN,
        """\
armed:    yes, but unproven: no pykdump test has been made
next:     pykdump test: crashes this machine, to prove that a dump comes of it
kernel:   /boot/vmlinuz-6.1.0-50-amd64 (kexec_file_load, 2026-11-30T04:47:01Z)
initrd:   /var/lib/pykdump/initrd-6.1.0-50-amd64.img
target:   /var/crash on the ext4 of vda
reserved: 256 MiB
size:     about 310 MiB before compression; 12,345 MiB are free
dumps:    2 in /var/crash
          127.0.0.1-2026-11-30-04:40:59  61.0 MiB
          127.0.0.1-2026-11-29-10:00:00  INCOMPLETE, 3.0 MiB, with the log
""",
    ),
]


REHEARSED = Rehearsed(
    time="2026-12-01T00:40:12Z",
    kernel_sha256="1",
    initrd_sha256="2",
    command_line="nr_cpus=1",
    configuration=rehearsed.configuration(Settings(Dialect.FEDORA)),
    verdict=rehearsed.PASSED,
    cause="",
    reservation=256 * MIB,
    smallest=None,
    high_water=117 * MIB,
    seconds=41.5,
    first_kernel="6.1.0-50-amd64",
    version="1",
)
FAILED = replace(
    REHEARSED, verdict="out_of_memory", cause="the capture kernel ran out of memory", high_water=None
)
NEWER = replace(FAILED, first_kernel="6.1.0-58-amd64")
SHOWN = replace(
    UNPROVEN,
    judgement=readiness._rehearsed(Compared(REHEARSED)),
    rehearsals=Review(Compared(REHEARSED), (Compared(NEWER),)),
)
SCREENS += [
    (
        SHOWN,
        """\
armed:    yes, rehearsed on 2026-12-01 but never proven by a crash: the same
          kernel, image, command line and configuration left a dump
next:     pykdump test: crashes this machine, to prove that a dump comes of it
update:   the new kernel 6.1.0-58-amd64: its capture failed: out of memory: the
          capture kernel ran out of memory (rehearsed on 2026-12-01)
kernel:   /boot/vmlinuz-6.1.0-50-amd64 (kexec_file_load, 2026-11-30T04:47:01Z)
initrd:   /var/lib/pykdump/initrd-6.1.0-50-amd64.img
target:   /var/crash on the ext4 of vda
reserved: 256 MiB; measured by a rehearsal on 2026-12-01: 117 MiB are needed
dumps:    2 in /var/crash
""",
    ),
    (
        replace(
            UNPROVEN,
            judgement=readiness._rehearsed(Compared(FAILED)),
            rehearsals=Review(Compared(FAILED), (Compared(replace(REHEARSED, first_kernel="6.1.0-58")),)),
            dumps=(),
        ),
        """\
armed:    yes, but unproven: the rehearsal of 2026-12-01 failed: out of memory:
          the capture kernel ran out of memory
next:     pykdump rehearse: says more of it, and whether it is mended
update:   the new kernel 6.1.0-58: its capture left a dump (rehearsed on
          2026-12-01)
kernel:   /boot/vmlinuz-6.1.0-50-amd64 (kexec_file_load, 2026-11-30T04:47:01Z)
initrd:   /var/lib/pykdump/initrd-6.1.0-50-amd64.img
target:   /var/crash on the ext4 of vda
reserved: 256 MiB
dumps:    0 in /var/crash
""",
    ),
]


@pytest.mark.parametrize(("found", "screen"), SCREENS)
def test_a_screen_of_80_columns(found: State, screen: str) -> None:
    assert status.as_text(found) == screen


TEXTS = st.text(st.characters(codec="utf-8"), max_size=2000)
PATHS = st.text(st.characters(exclude_characters="\0/"), min_size=1, max_size=100).map(Path)
"""Names of files may have bytes that are no text, which Python shows as surrogates."""


@given(TEXTS, TEXTS, PATHS, st.integers(60, 200))
def test_texts_from_outside_neither_hide_the_answer_nor_fill_the_screen(
    why: str, problem: str, folder: Path, columns: int
) -> None:
    found = replace(
        UNPROVEN,
        judgement=Judgement(Readiness.NOT_ARMED, why, readiness.LOOK),
        problem=problem,
        folder=folder,
    )
    lines = status.as_text(found, columns).splitlines()
    assert len(lines) <= 10
    assert lines[0].startswith("armed:    no:")
    assert [line for line in lines if line.startswith("next:     pykdump doctor")]
    assert [line for line in lines if line.startswith("dumps:    ")]
    assert all(line.isprintable() for line in lines)


# JSON


@pytest.mark.parametrize("found", [UNARMED, UNPROVEN, SHOWN])
def test_json(found: State) -> None:
    told = require_valid("status", status.as_json(found))
    assert next(iter(told)) == "schema"
    assert (told["armed"], told["why"]) == (found.is_armed, found.judgement.why)


@given(TEXTS, PATHS)
def test_json_of_what_others_wrote(text: str, path: Path) -> None:
    found = replace(UNPROVEN, problem=text, folder=path, dumps=(replace(DUMPS[0], folder=path),))
    told = require_valid("status", status.as_json(found))
    assert (told["problem"] or "", told["folder"], told["dumps"][0]["folder"]) == (
        text,
        str(path),
        str(path),
    )


# Why not, and what next


def machine_with(folder: Path, changes: dict[str, str]) -> Machine:
    unpacked("qemu-6.1-1g", folder)
    for path, content in changes.items():
        write(folder, path, content)
    return Machine(Folder(folder))


CONFIGURED = {"etc/kdump.conf": "path /var/crash\n"}
NOTHING_RESERVED = {"sys/kernel/kexec_crash_size": "0\n"}
NOT_ARMED: Sequence[tuple[dict[str, str], str, Step]] = [
    ({**NOTHING_RESERVED, "proc/cmdline": "quiet\n"}, "has no crashkernel=", readiness.SET_UP),
    (
        {
            **NOTHING_RESERVED,
            "proc/cmdline": "quiet\n",
            "etc/default/grub": 'GRUB_CMDLINE_LINUX="crashkernel=256M"\n',
        },
        "has no crashkernel=",
        readiness.REBOOT,
    ),
    (
        {
            **NOTHING_RESERVED,
            "proc/cmdline": "quiet\n",
            "etc/default/grub": 'GRUB_CMDLINE_LINUX="crashkernel=256M"\n',
            "etc/default/kexec": "LOAD_KEXEC=true\nUSE_GRUB_CONFIG=false\n",
            "etc/init.d/kexec": "",
            "etc/init.d/kexec-load": "",
        },
        "has no crashkernel=",
        replace(readiness.REBOOT, command="coldreboot"),
    ),
    (
        {**NOTHING_RESERVED, "proc/cmdline": "crashkernel=8G\n"},
        "crashkernel=8G: 8G is not less than all memory",
        readiness.LOOK,
    ),
    (
        {**NOTHING_RESERVED, "proc/cmdline": "crashkernel=512M\n"},
        "found no room for the 512M of crashkernel=512M",
        readiness.LOOK,
    ),
    ({}, "no capture kernel is loaded", readiness.SET_UP),
    (CONFIGURED, "no capture kernel is loaded", readiness.START),
    ({"etc/kdump.conf": "nonsense\n"}, "no capture kernel is loaded", readiness.START_CORRECTED),
    (
        {"etc/default/kdump-tools": "USE_KDUMP=0\n"},
        "etc/default/kdump-tools turns kdump off",
        readiness.START_CORRECTED,
    ),
    (
        {**CONFIGURED, "proc/sys/kernel/kexec_load_disabled": "1\n"},
        "allows no more loads",
        readiness.LOOK,
    ),
    (
        {**CONFIGURED, "proc/sys/kernel/kexec_load_limit_panic": "0\n"},
        "allows no more loads",
        readiness.LOOK,
    ),
]


@pytest.mark.parametrize(("changes", "why", "step"), NOT_ARMED)
def test_why_it_is_not_armed_and_what_comes_next(
    changes: dict[str, str], why: str, step: Step, tmp_path: Path
) -> None:
    machine = machine_with(tmp_path, {"sys/kernel/kexec_crash_loaded": "0\n", **changes})
    settings, _ = state._settings(machine)
    found = readiness.not_armed(machine, settings)
    assert found is not None
    assert found.readiness is Readiness.NOT_ARMED
    assert why in found.why
    assert found.next == step


def test_a_kernel_that_cannot_tell_is_not_armed(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    found = readiness.not_armed(Machine(Folder(tmp_path)), None)
    assert found is not None
    assert (found.readiness, found.next) == (Readiness.NOT_ARMED, readiness.LOOK)


@pytest.mark.parametrize(
    ("loaded", "proven", "outcome", "answer", "step"),
    [
        (None, None, Outcome.NONE, Readiness.UNPROVEN, readiness.START_AGAIN),
        (LOADED, LOADED, Outcome.NONE, Readiness.PROVEN, None),
        (LOADED, None, Outcome.NONE, Readiness.UNPROVEN, readiness.TEST),
        (LOADED, replace(LOADED, command_line=""), Outcome.NONE, Readiness.UNPROVEN, readiness.TEST),
        (LOADED, None, Outcome.FAILED, Readiness.UNPROVEN, readiness.LOOK),
        (LOADED, None, Outcome.UNSEEN, Readiness.UNPROVEN, readiness.PASSED),
        (LOADED, None, Outcome.RUNNING, Readiness.UNPROVEN, readiness.TEST),
    ],
)
def test_what_comes_next_where_a_kernel_is_loaded(
    loaded: Receipt | None,
    proven: Receipt | None,
    outcome: Outcome,
    answer: Readiness,
    step: Step | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receipt, "PROVEN", tmp_path / "proven.json")
    monkeypatch.setattr(trial.pending, "__defaults__", (tmp_path / "test.json",))
    if proven is not None:
        receipt.save(proven, receipt.PROVEN)
    machine = machine_with(tmp_path / "root", {"sys/kernel/kexec_crash_loaded": "1\n"})
    found = readiness.judge(machine, Settings(Dialect.FEDORA), loaded, outcome)
    assert (found.readiness, found.next) == (answer, step)


# Rehearsed, between unproven and proven

CHANGED = ("the kernel", "the capture image")
REHEARSALS: Mapping[str, tuple[Compared, Readiness, str, Step]] = {
    "passed": (Compared(REHEARSED), Readiness.REHEARSED, "left a dump", readiness.TEST),
    "failed": (Compared(FAILED), Readiness.UNPROVEN, "out of memory: the", readiness.REHEARSE_AGAIN),
    "passed before": (
        Compared(REHEARSED, CHANGED),
        Readiness.UNPROVEN,
        "changed since the rehearsal of 2026-12-01: the kernel, the capture image",
        readiness.REHEARSE,
    ),
    "failed before": (
        Compared(FAILED, CHANGED),
        Readiness.UNPROVEN,
        "changed since the rehearsal of 2026-12-01, which failed: the kernel, the capture image",
        readiness.REHEARSE,
    ),
}
CRASHES = {
    (None, Outcome.NONE): None,
    (None, Outcome.RUNNING): None,
    (None, Outcome.FAILED): (Readiness.UNPROVEN, readiness.LOOK),
    (None, Outcome.UNSEEN): (Readiness.UNPROVEN, readiness.PASSED),
    ("other", Outcome.NONE): None,
    ("other", Outcome.FAILED): (Readiness.UNPROVEN, readiness.LOOK),
    ("same", Outcome.NONE): (Readiness.PROVEN, None),
    ("same", Outcome.FAILED): (Readiness.PROVEN, None),
}
"""What crashes have shown: where they say something, that counts more than any rehearsal."""


@pytest.mark.parametrize("rehearsal", REHEARSALS.values(), ids=REHEARSALS)
@pytest.mark.parametrize(("crashed", "told"), CRASHES.items(), ids=str)
def test_a_rehearsal_counts_where_no_crash_has_shown_more(
    rehearsal: tuple[Compared, Readiness, str, Step],
    crashed: tuple[str | None, Outcome],
    told: tuple[Readiness, Step | None] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receipt, "PROVEN", tmp_path / "proven.json")
    monkeypatch.setattr(trial.pending, "__defaults__", (tmp_path / "test.json",))
    proven, outcome = crashed
    if proven is not None:
        receipt.save(LOADED if proven == "same" else replace(LOADED, kernel_sha256="x"), receipt.PROVEN)
    settings, (compared, answer, why, step) = Settings(Dialect.FEDORA), rehearsal
    machine = machine_with(tmp_path / "root", {"sys/kernel/kexec_crash_loaded": "1\n"})
    found = readiness.judge(machine, settings, LOADED, outcome, compared)
    assert (found.readiness, found.next) == (told or (answer, step))
    if told is None:
        assert why in found.why
    # Where nothing is loaded, or not known what, no rehearsal tells more.
    unknown = readiness.judge(machine, settings, None, outcome, compared)
    assert (unknown.readiness, unknown.next) == (Readiness.UNPROVEN, readiness.START_AGAIN)
    write(tmp_path / "root", "sys/kernel/kexec_crash_loaded", "0\n")
    assert readiness.judge(machine, settings, LOADED, outcome, compared).readiness is Readiness.NOT_ARMED


def test_who_may_not_look_is_told_who_may(tmp_path: Path) -> None:
    machine = machine_with(tmp_path, {"sys/kernel/kexec_crash_loaded": "1\n"})
    found = readiness.untold(machine, None, FileError("cannot read it", hint="run as root"))
    assert (found.readiness, found.next) == (Readiness.UNKNOWN, readiness.AS_ROOT)


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (["vmcore", "vmcore-dmesg.txt"], 0),
        (["vmcore-incomplete", "vmcore-dmesg.txt"], 0),
        (["dmesg.txt"], 0),
    ],
)
def test_when_a_dump_was_written(names: list[str], counts: int, tmp_path: Path) -> None:
    """That is when its file was: the log is saved before, and other files may be added later."""
    folder = tmp_path / "127.0.0.1-2026-11-30-04:40:59"
    folder.mkdir()
    for number, name in enumerate([*names, "notes"]):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (0, 1_000_000_000.5 + number))
    (found,) = dumps.in_folder(tmp_path)
    assert found.time == 1_000_000_000.5 + counts


def test_a_start_without_memory_names_the_command_that_tells_why(tmp_path: Path) -> None:
    iomem = {"proc/iomem": "00001000-3fffffff : System RAM\n"}
    with pytest.raises(NoCrashMemoryError) as raised:
        actions._require_memory(machine_with(tmp_path, iomem))
    assert raised.value.hint == "pykdump status says why, and what to do"


# Metrics


def parsed(text: str) -> dict[str, tuple[dict[str, str], float]]:
    """Return labels and value of each metric, as both of Prometheus' own parsers read them."""
    forms = (parser.text_string_to_metric_families, openmetrics.text_string_to_metric_families)
    found, same = (
        {
            sample.name: (sample.labels, sample.value)
            for family in read(text)
            for sample in family.samples
            if family.documentation and family.type == "gauge" and sample.timestamp is None
        }
        for read in forms
    )
    assert found == same
    assert len(found) == len(re.findall(r"^# TYPE ", text, re.M))
    return found


def values(found: State, machine: Machine) -> dict[str, float]:
    told = parsed(metrics.as_text(metrics.of_state(found, machine)))
    return {name.removeprefix("pykdump_"): value for name, (_, value) in told.items()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    unpacked("qemu-6.1-1g", tmp_path / "root")
    return Machine(Folder(tmp_path / "root"))


def test_metrics_of_a_machine(machine: Machine) -> None:
    assert values(UNPROVEN, machine) == {
        "info": 1,
        "armed": 1,
        "proven": 0,
        "rehearsed": 0,
        "failing_new_kernels": 0,
        "reserved_bytes": 256 * MIB,
        "expected_dump_size_bytes": 310 * MIB,
        "target_free_bytes": 12_345 * MIB,
        "dumps": 2,
        "incomplete_dumps": 1,
        "last_dump_timestamp_seconds": 1796013659.5,
        "last_dump_size_bytes": 61 * MIB,
    }


def test_what_is_not_known_is_no_metric(machine: Machine) -> None:
    nothing = dict.fromkeys(("armed", "proven", "rehearsed", "failing_new_kernels", "reserved_bytes"), 0)
    assert values(UNARMED, machine) == {"info": 1, **nothing}
    untold = replace(UNPROVEN, judgement=Judgement(Readiness.UNKNOWN, ""), dumps=(), unseen="no permission")
    assert {
        "proven",
        "rehearsed",
        "failing_new_kernels",
        "dumps",
        "incomplete_dumps",
        "last_dump_size_bytes",
    }.isdisjoint(values(untold, machine))
    assert values(replace(UNPROVEN, dumps=()), machine)["dumps"] == 0


def test_metrics_of_rehearsals(machine: Machine) -> None:
    told = values(SHOWN, machine)
    assert (told["proven"], told["rehearsed"], told["failing_new_kernels"]) == (0, 1, 1)
    changed = Review(Compared(REHEARSED, CHANGED), (Compared(NEWER, CHANGED), Compared(REHEARSED)))
    told = values(replace(SHOWN, rehearsals=changed), machine)
    assert (told["rehearsed"], told["failing_new_kernels"]) == (0, 0)


def test_labels_say_which_machine_it_is(machine: Machine) -> None:
    labels, _ = parsed(metrics.as_text(metrics.of_state(UNPROVEN, machine)))["pykdump_info"]
    assert labels["release"] == machine.kernel_release != ""
    assert labels["architecture"] == "x86_64"
    assert (labels["kernel"], labels["target"]) == (LOADED.kernel, LOADED.target)


@given(st.text(max_size=60))
def test_labels_may_have_any_character(text: str) -> None:
    gauges = [metrics.Gauge("pykdump_info", "Help.", 1, {"before": "x", "target": text, "after": "y"})]
    labels, value = parsed(metrics.as_text(gauges))["pykdump_info"]
    assert (labels["before"], labels["after"], value) == ("x", "y", 1)
    if text.isprintable():
        assert labels["target"] == text
    assert metrics.as_text(gauges).count("\n") == 4


# The command


@pytest.fixture
def here(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine in the place of this one, without receipts."""
    write(tmp_path / "root", "sys/kernel/kexec_crash_loaded", "0\n")
    write(tmp_path / "root", "etc/kdump.conf", f"path {tmp_path}/crash\n")
    monkeypatch.setattr(Machine, "live", lambda: machine)
    monkeypatch.setattr(trial.pending, "__defaults__", (tmp_path / "test.json",))
    for name in ("LOADED", "PROVEN"):
        monkeypatch.setattr(receipt, name, tmp_path / name)
    return tmp_path


def test_each_form_is_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["status"]) == 3
    assert capsys.readouterr().out.startswith(
        "armed:    no: no capture kernel is loaded\nnext:     pykdump start"
    )
    assert exit_code(["status", "--json"]) == 3
    assert require_valid("status", capsys.readouterr().out)["next"]["command"] == "pykdump start"
    assert exit_code(["status", "--metrics"]) == 0
    assert parsed(capsys.readouterr().out)["pykdump_armed"] == ({}, 0)


def rehearsed_here(here: Path, *rehearsals: Rehearsed) -> None:
    """Leave receipts of rehearsals on that machine, which has loaded LOADED."""
    write(here / "root", "sys/kernel/kexec_crash_loaded", "1\n")
    write(here / "root", "sys/kernel/kexec_crash_size", f"{256 * MIB}\n")
    receipt.save(replace(LOADED, boot=receipt.boot_id()), receipt.LOADED)
    for each in rehearsals:
        rehearsed.save(each, here / "root/var/lib/pykdump")


def status_here(capsys: pytest.CaptureFixture[str]) -> Any:
    assert exit_code(["status", "--json"]) == 0
    return require_valid("status", capsys.readouterr().out)


def test_the_receipt_of_a_rehearsal_goes_when_something_changes(
    here: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config.required(machine.root)
    good = replace(
        REHEARSED, first_kernel=machine.kernel_release, configuration=rehearsed.configuration(settings)
    )
    rehearsed_here(here, good)
    assert exit_code(["status"]) == 0
    assert capsys.readouterr().out.startswith("armed:    yes, rehearsed on 2026-12-01 but never proven by a")
    assert (told := status_here(capsys))["rehearsed"] is True
    assert (told["proven"], told["rehearsal"]["changed"]) == (False, [])
    for change in ("kernel_sha256", "initrd_sha256", "command_line"):
        receipt.save(replace(LOADED, boot=receipt.boot_id(), **{change: "other"}), receipt.LOADED)
        told = status_here(capsys)
        assert (told["rehearsed"], len(told["rehearsal"]["changed"])) == (False, 1)
        assert told["why"].endswith(f": {told['rehearsal']['changed'][0]}")
        assert told["next"]["command"] == "pykdump rehearse"
    receipt.save(replace(LOADED, boot=receipt.boot_id()), receipt.LOADED)
    for conf in ("path /srv/crash\n", "no such key\n"):
        write(here / "root", "etc/kdump.conf", conf)
        assert status_here(capsys)["rehearsal"]["changed"] == ["the configuration"]
    write(here / "root", "etc/kdump.conf", f"# the same\npath {here}/crash\n")
    assert status_here(capsys)["rehearsed"] is True
    write(here / "root", "sys/kernel/kexec_crash_size", f"{128 * MIB}\n")
    assert status_here(capsys)["rehearsal"]["changed"] == ["the reservation"]
    write(here / "root", "sys/kernel/kexec_crash_loaded", "0\n")
    assert exit_code(["status", "--json"]) == 3
    assert require_valid("status", capsys.readouterr().out)["rehearsed"] is False


def test_newer_kernels_are_told_before_the_reboot(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    releases = ("5.10.0-1-amd64", "6.1.999-1-amd64", "6.2.0-1-amd64", "6.10.0-1-amd64", "7.0-removed")
    rehearsed_here(here, *(replace(FAILED, first_kernel=each) for each in releases))
    for each in releases[:-1]:
        write(here / "root", f"lib/modules/{each}/kernel/fs/ext4/ext4.ko", "")
    found = status_here(capsys)
    assert found["rehearsal"] is None
    assert [each["kernel"] for each in found["newer_kernels"]] == [
        "6.10.0-1-amd64",
        "6.2.0-1-amd64",
        "6.1.999-1-amd64",
    ]
    assert [each["changed"] for each in found["newer_kernels"]] == [["the configuration"]] * 3
    exit_code(["status"])
    text = " ".join(capsys.readouterr().out.split())
    assert "update: the new kernel 6.10.0-1-amd64: its capture failed: out of memory: " in text
    assert "(rehearsed on 2026-12-01; changed since: the configuration)" in text
    assert "6.2.0" not in text


def test_metrics_are_written_whole_for_all_to_read(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = here / "kdump.prom"
    assert exit_code(["status", "--metrics", "--output", str(file)]) == 0
    assert capsys.readouterr().out == ""
    assert parsed(file.read_text())["pykdump_armed"] == ({}, 0)
    assert (file.stat().st_mode & 0o777, [each.name for each in here.glob("*kdump.prom*")]) == (
        0o644,
        [file.name],
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--metrics", "--json"], "two forms"),
        (["--output", "x"], "--output is for --metrics"),
        (["--metrics", "--output", "/no/such/folder/x"], "cannot write /no/such/folder/x"),
    ],
)
def test_wrong_usage(argv: list[str], words: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["status", *argv]) == 1
    assert words in capsys.readouterr().err


def test_sentences_are_folded_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line of the journal is a record."""
    text = "pykdump: " + "a sentence that goes on " * 10
    cli._say(text)
    assert capsys.readouterr().out == f"{text}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    cli._say(text)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert all(len(line) <= 60 for line in lines)
