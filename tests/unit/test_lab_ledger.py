"""What a test run took is said of the processes that took it."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest

from pykexec.emulation.process import Process
from tools.lab import ledger

_TEST = "tests/vm/test_x.py::test_it[a (b)]"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYKEXEC_LAB_LEDGER", "")  # so that it is put back
    path = tmp_path / "ledger"
    path.touch()
    ledger.open_for_this_run(path)
    return path


def test_without_a_file_nothing_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYKEXEC_LAB_LEDGER", raising=False)
    ledger.note("machine", cpu=1)
    assert ledger.lines() == []


def _write(number: int) -> None:
    for each in range(200):
        ledger.note("test", number=number, each=each, text="x" * 500)


@pytest.mark.usefixtures("file")
def test_processes_do_not_mix_their_lines() -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_write, range(4))
    found = [(line["number"], line["each"]) for line in ledger.lines()]
    assert sorted(found) == [(number, each) for number in range(4) for each in range(200)]


@pytest.mark.usefixtures("file")
def test_an_emulator_tells_what_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what its own children took: `timeout` is between."""
    monkeypatch.setenv("PYTEST_CURRENT_TEST", f"{_TEST} (call)")
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    ended = ledger.machine("booted")
    process = Process([sys.executable, "-c", burn], tmp_path / "log", 60, ended=ended)
    while process.poll() is None:
        pass
    (line,) = ledger.lines()
    assert (line["kind"], line["test"], line["start"]) == ("machine", _TEST, "booted")
    assert 0.3 <= line["cpu"] < sum(os.times()[:4])


def test_report() -> None:
    lines = [
        {"kind": "step", "test": "", "title": "Getting ready", "seconds": 3.0},
        {"kind": "test", "test": _TEST, "seconds": 12.0, "cpu": 10.5},
        {"kind": "machine", "test": _TEST, "start": "booted", "cpu": 6.0},
        {"kind": "machine", "test": _TEST, "start": "resumed", "cpu": 3.0},
        {"kind": "test", "test": "tests/unit/test_y.py::test_it", "seconds": 1.0, "cpu": 0.5},
    ]
    assert list(ledger.report(lines)) == [
        "     3.0 s  Getting ready",
        "The longest tests:",
        f"    12.0 s  {_TEST}",
        "     1.0 s  tests/unit/test_y.py::test_it",
        "CPU seconds of tests, and of their emulators:",
        "     1.5 s  tests/vm/test_x.py and 9.0 s in 2 machines",
        "     0.5 s  tests/unit",
        "Machines: 1 booted, 1 resumed",
    ]
    assert list(ledger.report([])) == []
