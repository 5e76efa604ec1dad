"""Rehearsals: a good configuration is rehearsed, and each bad one is found out by stage and cause."""

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.kdump.capture.layers import Layer
from pykexec.kdump.console.diagnosis import Stage
from pykexec.kdump.rehearsal.asked import Rehearsal
from pykexec.kdump.rehearsal.rehearsal import rehearse, saves
from pykexec.kdump.rehearsal.smallest import STEP, smallest
from pykexec.kdump.rehearsal.verdict import Milestone, Result
from pykexec.memory import MIB
from tests.vm import jobs
from tests.vm.rehearsing import UUID, machine
from tools.lab import ARM64, X86_64, Arch, Kernel

_OTHER_UUID = UUID.replace("1", "2")


def _rehearsed(asked: Rehearsal, folder: Path) -> Result:
    (folder / "run").mkdir()
    return rehearse(asked, folder / "run")


@pytest.mark.parametrize(
    ("arch", "version"),
    jobs.cases("good", {X86_64: ["6.1"], ARM64: ["6.1"]}, {X86_64: ["5.10"]}),
)
def test_a_good_machine_is_rehearsed(arch: Arch, version: str, tmp_path: Path) -> None:
    found = _rehearsed(machine(Kernel.get(version, arch), tmp_path), tmp_path)
    assert found.is_good, found.ending
    assert found.dump is not None
    assert found.dump.size > MIB
    assert found.dump.problems == ()
    assert [each.milestone for each in found.passed] == list(Milestone)
    seconds = [each.seconds for each in found.passed]
    assert seconds == sorted(seconds)


def test_too_little_memory(tmp_path: Path) -> None:
    asked = machine(Kernel.get("6.1", X86_64), tmp_path, reserved="64M")
    found = _rehearsed(asked, tmp_path)
    assert found.ending.stage is Stage.OUT_OF_MEMORY
    assert "memory" in found.ending.cause


def test_a_bad_parameter(tmp_path: Path) -> None:
    asked = machine(Kernel.get("6.1", X86_64), tmp_path, append="rdinit=/none")
    found = _rehearsed(asked, tmp_path)
    assert found.ending.stage is Stage.ROOT
    assert found.dump is None


@jobs.FURTHER
def test_a_file_system_that_is_not_there(tmp_path: Path) -> None:
    asked = replace(machine(Kernel.get("6.1", X86_64), tmp_path), uuid=_OTHER_UUID)
    found = _rehearsed(asked, tmp_path)
    assert found.ending.stage is Stage.TARGET
    assert (
        found.ending.cause
        == f"the image looks for the file system {UUID}, and the target's is {_OTHER_UUID}"
    )


@jobs.FURTHER
def test_a_missing_driver(tmp_path: Path) -> None:
    asked = machine(Kernel.get("6.1", X86_64), tmp_path, drivers=("nvme",))
    found = _rehearsed(replace(asked, controllers=("virtio_blk",)), tmp_path)
    assert found.ending.stage is Stage.TARGET
    assert "no driver for the target's disk: the module virtio_blk" in found.ending.cause


@jobs.FURTHER
def test_a_volume_on_an_array(tmp_path: Path) -> None:
    """As many a server has its root: xfs on LVM, that on a mirror."""
    layers = (Layer("md", "01234567:89abcdef:01234567:89abcdef"), Layer("lvm", "the-group/root"))
    asked = machine(Kernel.get("6.1", X86_64), tmp_path, filesystem="xfs", layers=layers)
    found = _rehearsed(asked, tmp_path)
    assert found.is_good, found.ending
    assert "pykdump: putting together lvm:the-group/root" in found.console
    assert "active with 1 out of 1 mirrors" in found.console


@jobs.FURTHER
def test_a_full_disk(tmp_path: Path) -> None:
    asked = replace(machine(Kernel.get("6.1", X86_64), tmp_path), room=0)
    assert _rehearsed(asked, tmp_path).ending.stage is Stage.DISK_FULL


@jobs.FURTHER
def test_a_makedumpfile_that_is_too_old(tmp_path: Path) -> None:
    """Where there is no room for all of memory."""
    asked = replace(machine(Kernel.get("6.1", X86_64), tmp_path, fits=False), room=400 * MIB)
    assert _rehearsed(asked, tmp_path).ending.stage is Stage.COLLECTOR


@jobs.FURTHER
def test_a_silent_console(tmp_path: Path) -> None:
    """The dump is found nevertheless; where there is none, that is what can be told."""
    asked = replace(machine(Kernel.get("6.1", X86_64), tmp_path), command_line="nr_cpus=1 reset_devices")
    found = _rehearsed(asked, tmp_path)
    assert found.is_good
    assert "the console does not tell" in found.ending.cause


@jobs.FURTHER
def test_nothing_is_left_after_ctrl_c(tmp_path: Path) -> None:
    """Neither QEMU nor a file, whenever it comes."""
    asked = machine(Kernel.get("6.1", X86_64), tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    options = {
        "--root": asked.root,
        "--kernel": asked.kernel,
        "--initrd": asked.image,
        "--append": asked.command_line,
        "--crashkernel": asked.crashkernel,
    }
    words = [str(word) for word in itertools.chain(*options.items())]
    command = [sys.executable, "-m", "pykexec.kdump", "rehearse", *words]
    with subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(scratch)}, stderr=subprocess.PIPE, text=True
    ) as program:
        while not list(scratch.glob("*/rehearsal/crash/console.log")):
            assert program.poll() is None
            time.sleep(0.1)
        (qemu,) = [
            each.parent for each in Path("/proc").glob("[0-9]*/cmdline") if _is_qemu(each, str(scratch))
        ]
        program.send_signal(signal.SIGINT)
        _, told = program.communicate(timeout=30)
    assert "Traceback" not in told
    assert program.returncode != 0
    assert list(scratch.iterdir()) == []
    assert not qemu.exists()


def _is_qemu(file: Path, folder: str) -> bool:
    try:
        program, *words = file.read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it has ended meanwhile
        return False
    return "qemu-system" in program and any(folder in word for word in words)


@jobs.FURTHER
def test_the_smallest_reservation(tmp_path: Path) -> None:
    """One step less, and there is no dump; what was found is tried once more."""
    asked = machine(Kernel.get("6.1", X86_64), tmp_path)

    def works(size: int) -> bool:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return saves(replace(asked, crashkernel=f"{size // MIB}M"), folder)

    found = smallest(works, 192 * MIB, 32 * MIB)
    assert found is not None
    assert works(found)
    assert not works(found - STEP)
