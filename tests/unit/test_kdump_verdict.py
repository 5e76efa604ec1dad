"""pykdump estimate: whether enough is reserved, for what start would load."""

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.errors import MachineError
from pykexec.files import FileData
from pykexec.kdump import capture, config
from pykexec.kdump.capture import Contents, Entry
from pykexec.kdump.cli import exit_code
from pykexec.kdump.config.settings import Settings
from pykexec.kdump.rehearsal import receipt
from pykexec.kdump.rehearsal.receipt import Rehearsed
from pykexec.kdump.reservation import crashkernel, running, sizing
from pykexec.kdump.reservation.estimate import Answer, Estimate, Inputs, Unpacked, as_text, estimate, judge
from pykexec.kdump.service import own, plan
from pykexec.kdump.setup import sizes
from pykexec.machine import Machine
from pykexec.machine.root import Folder
from pykexec.memory import GIB, MIB
from tests.support.bzimage import FakeBzImage
from tests.support.machines import unpacked, write
from tests.support.schemas import require_valid

RESULT = estimate(Inputs("x86_64", 8 * GIB, 51 * MIB, Unpacked(12 * MIB, 12 * MIB, 300)))
KERNEL = FakeBzImage(init_size=30 * MIB).build()
IMAGE = (Entry("/init", b"#!/bin/sh\n", 0o755), Entry("/bin/busybox", bytes(3 * MIB), 0o755))


@given(st.one_of(st.none(), st.integers(0, GIB)))
def test_a_verdict(reserved: int | None) -> None:
    found = judge(RESULT, reserved, RESULT.clause)
    assert found.is_enough == (reserved is not None and reserved >= RESULT.needed)
    assert (found.answer is Answer.ENOUGH) == (reserved is not None and reserved >= RESULT.recommended)
    assert (f"boot with crashkernel={RESULT.parameter}" in str(found)) == (found.answer is not Answer.ENOUGH)


SCREEN = """\
too little: 64M are reserved, 151M are needed; boot with crashkernel=192M
(pykdump setup)
  kernel              51.0 MiB  its image, and what it needs to unpack itself
  memory map           4.0 MiB  a struct page for each of 65536 pages
  loader               2.0 MiB  purgatory, boot parameters, ELF core headers
  initrd              12.0 MiB  the file, until it is unpacked
  its contents        12.3 MiB  300 files in memory, and their inodes
  running kernel      20.0 MiB  slabs, page tables, threads
  CPUs                 0.5 MiB  per-CPU data of 1
  drivers             24.0 MiB  a guess: what is loaded is not known
  programs            24.0 MiB  init, udev, shell, makedumpfile
  bitmaps              0.5 MiB  makedumpfile's, for 8G of memory
  needed             150.3 MiB
  recommended        192.0 MiB  crashkernel=192M
Fedora, RHEL would reserve 256.0 MiB (crashkernel=2G-64G:256M,64G-:512M): enough
Debian would reserve 128.0 MiB (crashkernel=384M-:128M): too little
Fedora CoreOS would reserve 300.0 MiB (crashkernel=300M): enough
"""


def test_a_screen_of_80_columns() -> None:
    assert as_text(RESULT, judge(RESULT, 64 * MIB, RESULT.clause)) == SCREEN


@given(st.integers(60, 120), st.integers(1, 64), st.booleans())
def test_no_line_is_wider(columns: int, gigabytes: int, network: bool) -> None:
    inputs = Inputs(
        "x86_64", gigabytes * GIB // 8, 51 * MIB, Unpacked(0, 0, 0), network=network, swiotlb=64 * MIB
    )
    result: Estimate = estimate(inputs)
    lines = as_text(result, judge(result, 0, result.clause), columns).splitlines()
    assert all(len(line) <= columns for line in lines)


# Without arguments


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine in the place of this one, with a kernel, and with what an image would be made of."""
    (tmp_path / "boot").mkdir()
    changes = {
        "etc/kdump.conf": "path /var/crash\n",
        "etc/sysconfig/kdump": f"KDUMP_BOOTDIR={tmp_path}/boot\n",
    }
    machine = unpacked("qemu-6.1-1g", tmp_path / "root", changes)
    (tmp_path / f"boot/vmlinuz-{machine.kernel_release}").write_bytes(KERNEL)
    monkeypatch.setattr(Machine, "live", lambda: Machine(Folder(tmp_path / "root"), is_live=True))
    monkeypatch.setattr(capture, "contents", lambda *_: Contents(cast(Any, None), IMAGE))
    return tmp_path


def test_the_image_that_start_would_make(here: Path) -> None:
    """As large as cpio unpacks it; and none is left behind."""
    machine = Machine.live()
    found = own.inputs(machine, own.files(machine)).initrd
    image = here / "image"
    capture.build(Contents(cast(Any, None), IMAGE), image)
    assert found.size == image.stat().st_size
    listed = subprocess.run(f"zcat {image} | cpio -tv --quiet", shell=True, capture_output=True, text=True)
    files = [line.split() for line in listed.stdout.splitlines() if line.startswith("-")]
    assert found.contents == sum(-(-int(each[4]) // 4096) * 4096 for each in files)
    assert found.entries == len(listed.stdout.splitlines())
    assert not list((here / "root/var").glob("**/initrd*"))


def test_what_start_would_load(here: Path) -> None:
    found = own.files(Machine.live())
    assert found.kernel.data == KERNEL
    assert found.command_line == plan.make(Machine.live()).command_line
    other = own.files(Machine.live(), initrd=str(here / "root/etc/kdump.conf"), append="nr_cpus=4")
    assert (other.command_line, other.initrd and bytes(other.initrd.data)) == (
        "nr_cpus=4",
        b"path /var/crash\n",
    )


def test_the_threads_that_start_would_start(here: Path) -> None:
    (here / "root/etc/kdump.conf").write_text("core_collector makedumpfile -d 31 --num-threads 4\n")
    machine = Machine.live()
    assert own.inputs(machine, own.files(machine)).threads == 4


def test_where_nothing_is_configured_yet(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("etc/kdump.conf", "etc/sysconfig/kdump"):
        (here / "root" / name).unlink()
    seen: list[Settings] = []

    def contents(settings: Settings, _: str) -> Contents:
        seen.append(settings)
        return Contents(cast(Any, None), IMAGE)

    monkeypatch.setattr(plan, "_kernel", lambda *_: str(next((here / "boot").iterdir())))
    monkeypatch.setattr(capture, "contents", contents)
    assert own.files(Machine.live()).network is False
    assert [each.path for each in seen] == ["/var/crash"]


@pytest.mark.parametrize(
    ("size", "status", "answer"),
    [("0", 3, "nothing"), ("33554432", 3, "too_little"), ("1073741824", 0, "enough")],
)
def test_the_exit_status_is_the_verdict(
    size: str, status: int, answer: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = 0x10000000 + int(size)
    reserved = f"  10000000-{end - 1:x} : Crash kernel\n" if int(size) else ""
    write(here / "root", "proc/iomem", f"00001000-ffffffff : System RAM\n{reserved}")
    write(here / "root", "sys/kernel/kexec_crash_size", f"{size}\n")
    assert exit_code(["estimate", "--json"]) == status
    told = require_valid("estimate", capsys.readouterr().out)
    assert (told["verdict"], told["reserved"]) == (answer, int(size))
    assert exit_code(["estimate"]) == status
    assert capsys.readouterr().out.startswith(Answer[answer.upper()].value)


def test_a_kernel_that_is_named_is_judged_for_a_snapshot(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = str(next((here / "boot").iterdir()))
    assert exit_code(["estimate", "--kernel", kernel, "--machine", str(here / "root")]) in (0, 3)
    assert "not counted, as it was not given: the initrd" in capsys.readouterr().out
    assert exit_code(["estimate", "--machine", str(here / "root")]) == 1
    assert "name one: --kernel FILE" in capsys.readouterr().err


def test_more_is_asked_for_where_it_is_reserved_now(here: Path) -> None:
    write(here / "root", "proc/cmdline", "crashkernel=256M,high crashkernel=128M,low\n")
    machine = Machine.live()
    assert running.clause_of(machine, MIB).form.value == "high"
    write(here / "root", "proc/cmdline", "crashkernel=256M\n")
    assert running.clause_of(machine.anew(), MIB).form.value == "size"
    assert sizing.kernel_memory(FileData.from_bytes("k", KERNEL), None) == 30 * MIB
    text = as_text(RESULT, judge(RESULT, MIB, crashkernel.Clause(crashkernel.Form.HIGH, 192 * MIB)))
    assert text.count("crashkernel=192M,high") == 2, "in the verdict and in the table"


# What a rehearsal has measured


def rehearse(here: Path, **changes: Any) -> None:
    """Leave the receipt of a rehearsal of what start would load."""
    machine = Machine.live()
    given = own.files(machine)
    assert given.initrd is not None
    found = Rehearsed(
        time="2026-12-01T00:40:12Z",
        kernel_sha256=hashlib.sha256(given.kernel.data).hexdigest(),
        initrd_sha256=hashlib.sha256(given.initrd.data).hexdigest(),
        command_line=given.command_line,
        configuration="of no account",
        verdict="passed",
        cause="",
        reservation=256 * MIB,
        smallest=None,
        high_water=77 * MIB,
        seconds=41.5,
        first_kernel="6.1.0-50-amd64",
    )
    receipt.save(replace(found, **changes), here / "root/var/lib/pykdump")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[set[str], int, int]:
    """What estimate says: the names of the terms, and what is needed and recommended."""
    exit_code(["estimate", "--json", *arguments])
    found = require_valid("estimate", capsys.readouterr().out)
    assert sum(each["size"] for each in found["terms"]) == found["needed"]
    return {each["name"] for each in found["terms"]}, found["needed"], found["recommended"]


def test_what_was_measured_beats_the_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, model, _ = told(capsys)
    rehearse(here)
    names, needed, recommended = told(capsys)
    assert names == {"measured", "bitmaps"}
    assert 77 * MIB <= needed < 78 * MIB < model
    # What one rehearsal measured, another machine, with more devices, may need a little more of.
    assert needed * 5 // 4 <= recommended <= needed * 5 // 4 + 16 * MIB
    exit_code(["estimate"])
    text = capsys.readouterr().out
    assert f"measured by a rehearsal on 2026-12-01: 77M, with margin {recommended // MIB}M\n" in text
    rehearse(here, smallest=112 * MIB)
    assert 112 * MIB <= told(capsys)[1] < 113 * MIB


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({"kernel_sha256": "x"}, []),
        ({"initrd_sha256": "x"}, []),
        ({"command_line": "x"}, []),
        ({"verdict": "target"}, []),
        ({"high_water": None}, []),
        ({}, ["--append", "nr_cpus=2"]),
        ({}, ["--network"]),
    ],
)
def test_what_was_not_rehearsed_is_told_by_the_model(
    changes: dict[str, Any], arguments: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = told(capsys, *arguments)
    rehearse(here, **changes)
    assert told(capsys, *arguments) == model


def test_who_may_not_read_the_receipts_is_told_by_the_model(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = told(capsys)
    rehearse(here)

    def refuse(*_: object) -> None:
        raise MachineError("cannot read /var/lib/pykdump: Permission denied")

    monkeypatch.setattr(receipt, "load", refuse)
    assert told(capsys) == model


def test_the_last_rehearsal_counts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for month, size in ((10, 70), (12, 80), (11, 90)):
        kernel = f"6.1.0-{month}-amd64"
        rehearse(here, time=f"2026-{month}-01T00:00:00Z", high_water=size * MIB, first_kernel=kernel)
    assert 80 * MIB <= told(capsys)[1] < 81 * MIB


def test_devices_that_no_rehearsal_has_are_added(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rehearse(here)
    without = told(capsys)[1]
    write(here / "root", "proc/modules", "mlx5_core 2000000 0 - Live 0x0\n")
    names, needed, _ = told(capsys)
    assert (names, needed) == ({"measured", "bitmaps", "devices"}, without + sizing.MLX5[4 << 10])


def test_setup_says_what_was_measured(here: Path) -> None:
    rehearse(here)
    machine = Machine.live()
    found = sizes.need(machine, config.required(machine.root), can_make_image=True)
    assert found.remark.startswith("measured by a rehearsal on 2026-12-01: 77M, with margin ")
    assert 77 * MIB <= found.least < 78 * MIB
