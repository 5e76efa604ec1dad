"""Remember cases in machines that have passed, by the contents of all files they depend on.

With `--remember`, cases that have passed with the same contents are left out; the end of the run says how
many. They are remembered in the ignored folder .cache, beside the Debian packages from which the machines
are made; those never change there.
"""

import itertools
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.lab import ARCHES, X86_64, Arch, Machine, ledger
from tools.lab.host import CACHE, PROJECT, digest

_FOLDER = CACHE / "results"
_CASES = PROJECT / "tests/vm"
_OF_ARCHITECTURES = ("arch", "purgatory")
_SHARED = ("pykexec", *_OF_ARCHITECTURES, "tests/support", "tests/vm", "tools/lab", "pyproject.toml")
_PACKAGES = Path("/var/lib/dpkg/status")
"""The versions of what is installed here, such as QEMU."""


class Remembered:
    """The plugin, for one test run."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out cases that have passed."""
        if not config.getoption("--remember"):
            return
        contents = _Contents()
        passed = [_is_case(item) and contents.place(item).exists() for item in items]
        if any(passed):
            config.hook.pytest_deselected(items=[*itertools.compress(items, passed)])
            items[:] = [item for item, left_out in zip(items, passed, strict=True) if not left_out]
            if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":  # all workers find the same
                ledger.note("remembered", count=sum(passed))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Remember a case that passes, unless a file has changed meanwhile."""
        if not _is_case(item):
            return (yield)
        place, failed = _Contents().place(item), item.session.testsfailed
        result = yield
        if item.session.testsfailed == failed and _Contents().place(item) == place:
            _FOLDER.mkdir(parents=True, exist_ok=True)
            place.touch()
        return result


class _Contents:
    """The project's files as they are now, each read once."""

    def __init__(self) -> None:
        self._digests = {str(path.relative_to(PROJECT)): digest(path.read_bytes()) for path in _files()}
        self._around = digest(_PACKAGES.read_bytes() if _PACKAGES.exists() else b"", sys.version)

    def place(self, item: pytest.Item) -> Path:
        """Return the file that exists if that case has passed with these contents."""
        names = [name for name in self._digests if _matters(Path(name), item.path, _arch(item))]
        parts = (f"{name} {self._digests[name]}" for name in names)
        ways = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("PYKEXEC_TEST_")]
        return _FOLDER / digest(item.nodeid, self._around, *sorted(ways), *parts)


def _files() -> Iterator[Path]:
    for root in (PROJECT / name for name in _SHARED):
        paths = sorted(root.rglob("*")) if root.is_dir() else [root]
        yield from (path for path in paths if path.is_file() and path.parent.name != "__pycache__")


def _matters(name: Path, case: Path, arch: Arch | None) -> bool:
    """Return whether a case in that file, for that architecture, may depend on that file of the project."""
    if name.is_relative_to("tests/vm") and name.name.startswith("test_"):
        used = re.findall(r"^from tests\.vm\.(test_\w+) import", case.read_text(), re.MULTILINE)
        return name.stem in (case.stem, *used)
    if arch is None or name.parts[0] not in _OF_ARCHITECTURES:
        return True
    others = ARCHES.keys() - {arch.name}
    return not any(part in others for part in (*name.parts, name.stem))


def _is_case(item: pytest.Item) -> bool:
    return item.path.is_relative_to(_CASES)


def _arch(item: pytest.Item) -> Arch | None:
    """Return the architecture that the case is for; None where it may be for several."""
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec is not None else ():
        if isinstance(value, Arch):
            return value
        if isinstance(value, Machine):
            return value.arch
    return X86_64 if "kernel" in getattr(item, "fixturenames", ()) else None
