"""The lab tells a guest that failed from an emulator that did."""

from pathlib import Path
from typing import cast

import pytest

from pykexec.emulation import VirtualMachine, running
from tools.lab import Guest, Kernel, LabError, Machine, images, qemu, saves


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shell script in QEMU's place; it runs in the machine's folder."""
    script = tmp_path / "emulator"

    def start(machine: VirtualMachine, folder: Path) -> list[str]:
        return ["sh", "-c", f"cd {folder} && . {script}", "sh"]

    monkeypatch.delenv("PYKEXEC_LAB_LEDGER", raising=False)  # no machine of the lab's
    monkeypatch.setattr(running, "command", start)
    for each in (qemu, saves):
        monkeypatch.setattr(each, "virtual", lambda machine, kernel, folder: None)
    monkeypatch.setattr(qemu.Running, "_write_image", lambda running, *archives: None)
    for name in ("first_system", "second_system"):
        monkeypatch.setattr(images, name, lambda *arguments, **options: [])
    monkeypatch.setattr(images, "job", lambda guest: b"")
    return script


def _run(folder: Path, timeout: float = 20) -> qemu.Result:
    return qemu.run(Machine(), Guest(cast(Kernel, None), "true"), folder, timeout=timeout)


def test_a_machine_whose_emulator_died_is_started_again(emulator: Path, tmp_path: Path) -> None:
    emulator.write_text(
        f"if mkdir {tmp_path}/once 2>&-; then echo one > console.log; kill -SEGV $$; fi\necho two"
    )
    with pytest.warns(UserWarning, match="(?s)started again: QEMU ended with status .*one"):
        result = _run(tmp_path / "machine")
    assert (result.folder / "qemu.log").read_text() == "two\n"
    assert (tmp_path / "machine-failed" / "console.log").read_text() == "one\n"


def test_an_emulator_that_always_dies_fails(emulator: Path, tmp_path: Path) -> None:
    emulator.write_text("kill -SEGV $$")
    with (
        pytest.warns(UserWarning, match="started again"),
        pytest.raises(LabError, match="ended with status"),
    ):
        _run(tmp_path / "machine")


def test_a_machine_in_which_nothing_comes_up_is_started_again(emulator: Path, tmp_path: Path) -> None:
    emulator.write_text(
        f"if mkdir {tmp_path}/once 2>&-; then echo firmware > console.log; exec sleep 60; fi\necho kernel"
    )
    with pytest.warns(UserWarning, match="(?s)started again: no system came up within 1 s.*firmware"):
        result = _run(tmp_path / "machine", timeout=2)
    assert (result.folder / "qemu.log").read_text() == "kernel\n"


def test_a_machine_that_came_up_and_hangs_is_not_started_again(emulator: Path, tmp_path: Path) -> None:
    emulator.write_text("tar -cf out.tar qemu.log; exec sleep 60")
    with pytest.raises(LabError, match="did not end within 2 s"):
        _run(tmp_path / "machine", timeout=2)
    assert not (tmp_path / "machine-failed").exists()


def test_an_emulator_that_complains_is_not_started_again(emulator: Path, tmp_path: Path) -> None:
    emulator.write_text("echo no such device; exit 1")
    with pytest.raises(LabError, match="QEMU ended with status 1: no such device"):
        _run(tmp_path / "machine")
    assert not (tmp_path / "machine-failed").exists()


def test_a_saved_machine_that_is_refused_boots(
    emulator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried again, and what it said is not taken for the other one's."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "console.log").write_text("saved")
    monkeypatch.setattr(saves, "place", lambda machine, kernel: state)
    emulator.write_text(
        'case "$*" in *-incoming*) echo of another version >&2; exit 1;; esac; echo booted >> console.log'
    )
    guest = Guest(cast(Kernel, None), "true")
    with pytest.warns(UserWarning, match="(?s)another one boots: .*of another version"):
        result = qemu.run(Machine(), guest, tmp_path / "machine", timeout=20, saved=True)
    assert result.console == "booted\n"
    assert not state.exists()
