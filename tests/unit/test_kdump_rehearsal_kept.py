"""pykdump rehearse leaves a receipt, by which status knows of what start would load."""

import hashlib
from pathlib import Path

import pytest

from pykexec.emulation import SOFTWARE, Accelerator
from pykexec.kdump.cli import exit_code
from pykexec.kdump.config.settings import Dialect, Settings
from pykexec.kdump.console.diagnosis import Ending, Stage
from pykexec.kdump.rehearsal import receipt
from pykexec.kdump.rehearsal.asked import Rehearsal
from pykexec.kdump.rehearsal.receipt import Now
from pykexec.kdump.rehearsal.verdict import Result
from pykexec.machine.root import Folder
from pykexec.memory import MIB

ENDINGS = [Ending(Stage.SAVED, "the dump was saved"), Ending(Stage.OUT_OF_MEMORY, "there was too little")]


def told(monkeypatch: pytest.MonkeyPatch, ending: Ending) -> None:
    """Have a rehearsal come to that end."""
    result = Result(ending, (), None, (), Accelerator(SOFTWARE), 12.5, "")
    monkeypatch.setattr("pykexec.kdump.rehearsal.cli.rehearse", lambda *_: result)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a configuration; its receipts are below the folder."""
    asked = Rehearsal(
        "x86_64", tmp_path / "k", "6.1.0", tmp_path / "k", tmp_path / "i", "x", "256M", 1 << 30
    )
    for path in (asked.capture_kernel, asked.image):
        path.write_bytes(path.name.encode())
    monkeypatch.setattr("pykexec.kdump.rehearsal.cli.source.of_machine", lambda *_: asked)
    monkeypatch.setattr("pykexec.kdump.rehearsal.keeping.config.required", lambda _: Settings(Dialect.SUSE))
    monkeypatch.setattr(receipt.save, "__defaults__", (tmp_path / "state",))
    return tmp_path


@pytest.mark.parametrize("ending", ENDINGS)
def test_status_knows_of_what_start_would_load(
    ending: Ending, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, ending)
    is_good = ending.stage is Stage.SAVED
    assert exit_code(["rehearse", f"--keep={here}/log"]) == (0 if is_good else 3)
    (found,) = receipt.load(Folder("/"), str(here / "state")).values()
    assert (found.is_passed, found.first_kernel, found.reservation) == (is_good, "6.1.0", 256 * MIB)
    now = Now(
        hashlib.sha256(b"k").hexdigest(),
        hashlib.sha256(b"i").hexdigest(),
        "x",
        receipt.configuration(Settings(Dialect.SUSE)),
        256 * MIB,
    )
    assert receipt.changes(found, now) == ()
    assert is_good or found.failure == f"{ending.stage.value}: {ending.cause}"


@pytest.mark.parametrize("option", ["--initrd=x", "--append=x", "--crashkernel=64M"])
def test_what_was_named_tells_nothing_of_the_next_crash(
    option: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, ENDINGS[0])
    assert exit_code(["rehearse", f"--keep={here}/log", option]) == 0
    assert not (here / "state").exists()


def test_a_receipt_that_cannot_be_kept_costs_no_verdict(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told(monkeypatch, ENDINGS[0])
    (here / "state").touch()
    assert exit_code(["rehearse", f"--keep={here}/log"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("pykdump: warning: status will not know of this: ")
    assert said.out
