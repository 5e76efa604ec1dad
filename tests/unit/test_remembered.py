"""A case in a machine is left out only where nothing has changed that it may depend on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support import remembered
from tests.support.remembered import Remembered
from tools.lab import ARM64, X86_64, Machine, ledger

_BOOT = """\
from tests.vm import jobs
from tests.vm.test_crash import crash
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one file of each kind."""
    for name, text in {
        "arch/__init__.py": "", "arch/arm64/loader.py": "", "arch/x86_64/loader.py": "",
        "purgatory/common/sha256.c": "", "purgatory/prebuilt/arm64.elf": "", "purgatory/exec/x86_64.S": "",
        "pykexec/cli.py": "", "pyproject.toml": "", "tests/support/elf.py": "", "tools/lab/qemu.py": "",
        "tests/vm/jobs.py": "", "tests/vm/test_boot.py": _BOOT, "tests/vm/test_crash.py": "",
        "tests/vm/test_kdump.py": "", "README.md": "",
    }.items():  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(remembered, "PROJECT", tmp_path)
    monkeypatch.setattr(remembered, "_CASES", tmp_path / "tests/vm")
    monkeypatch.setattr(remembered, "_FOLDER", tmp_path / ".cache/results")
    monkeypatch.setattr(ledger, "note", lambda kind, **values: None)  # this run's own tells of this run
    return tmp_path


def case(project: Path, *, failed: int = 0, **parameters: Any) -> pytest.Item:
    item = SimpleNamespace(
        path=project / "tests/vm/test_boot.py",
        nodeid=f"tests/vm/test_boot.py::test_it[{parameters}]",
        callspec=SimpleNamespace(params=parameters),
        session=SimpleNamespace(testsfailed=failed),
    )
    return cast(pytest.Item, item)


def run(item: Any, *, failing: bool = False, meanwhile: Path | None = None) -> None:
    protocol = Remembered().pytest_runtest_protocol(item)
    next(protocol)
    item.session.testsfailed += failing
    if meanwhile is not None:
        meanwhile.write_text("changed")
    with pytest.raises(StopIteration):
        next(protocol)


def is_left_out(item: pytest.Item) -> bool:
    items = [item]
    hook = SimpleNamespace(pytest_deselected=lambda items: None)
    config = SimpleNamespace(getoption=lambda name: name == "--remember", hook=hook)
    Remembered().pytest_collection_modifyitems(cast(pytest.Config, config), items)
    return not items


@pytest.mark.parametrize(
    ("parameters", "changes"),
    [
        ({"arch": ARM64}, {"arch/arm64/loader.py", "purgatory/prebuilt/arm64.elf"}),
        ({"machine": Machine(ARM64)}, {"arch/arm64/loader.py", "purgatory/prebuilt/arm64.elf"}),
        ({"arch": X86_64}, {"arch/x86_64/loader.py", "purgatory/exec/x86_64.S"}),
        (
            {},
            {
                *("arch/arm64/loader.py", "purgatory/prebuilt/arm64.elf"),
                *("arch/x86_64/loader.py", "purgatory/exec/x86_64.S"),
            },
        ),
    ],
    ids=["arm64", "arm64-machine", "x86_64", "any"],
)
def test_what_a_case_depends_on(parameters: dict[str, Any], changes: set[str], project: Path) -> None:
    item = case(project, **parameters)
    assert not is_left_out(item)
    run(item)
    assert is_left_out(item)
    changes = changes | {
        *("arch/__init__.py", "purgatory/common/sha256.c", "pykexec/cli.py", "pyproject.toml"),
        *("tests/support/elf.py", "tools/lab/qemu.py"),
        *("tests/vm/jobs.py", "tests/vm/test_boot.py", "tests/vm/test_crash.py"),
    }
    for path in [each for each in project.rglob("*") if each.is_file() and ".cache" not in each.parts]:
        before = path.read_text()
        path.write_text(f"{before}# changed\n")
        assert is_left_out(item) is (str(path.relative_to(project)) not in changes), path
        path.write_text(before)
    (project / "pykexec/new.py").touch()
    assert not is_left_out(item)


def test_what_failed_is_run_again(project: Path) -> None:
    """And what passed beside something that failed before is not."""
    run(case(project), failing=True)
    assert not is_left_out(case(project))
    run(case(project, failed=1))
    assert is_left_out(case(project))


def test_a_change_during_the_run(project: Path) -> None:
    """Nobody knows whether it ran with the old or with the new."""
    run(case(project), meanwhile=project / "pykexec/cli.py")
    assert not is_left_out(case(project))
