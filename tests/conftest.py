"""For all tests."""

import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.effort import examples
from tests.support.remembered import Remembered
from tools.lab import LabError, ledger
from tools.lab.testing import FROM_PACKAGES, SLOW, install_programs

# How long an example takes is for tests that ask for it: a busy machine takes as long as it likes.
settings.register_profile("any machine", deadline=None, max_examples=examples(100))
settings.load_profile("any machine")

_PURE = [Path(__file__).parent / folder for folder in ("unit", "emulated", "arches")]
_SMALL = [
    Path(__file__).parent / "differential" / f"test_{name}.py"
    for name in ("clients", "options", "system_calls")
]
_MEMORY = Path("/dev/shm")
_NAMES = frozenset(Path(name).name for name in FROM_PACKAGES)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the test; of those that make many small files, in memory.

    On a disk each file takes half a millisecond of the kernel's time, many times as long as there.
    """
    is_small = _is_pure(request.path) or request.path in _SMALL
    if not (is_small and _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)):
        yield tmp_path_factory.mktemp(re.sub(r"\W", "_", request.node.name)[:30])
        return
    with tempfile.TemporaryDirectory(dir=_MEMORY, prefix="pykexec-test-") as folder:
        yield Path(folder)


def _is_pure(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _PURE)


class Programs:
    """Refuses a program of Debian's packages to tests that are not marked as starting some.

    tools/test --quick leaves the marked ones out, so that it runs where no such package is installed.
    """

    def __init__(self) -> None:
        self._unmarked = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Remember whose the programs are that start now."""
        self._unmarked = (
            item.nodeid if _is_pure(item.path) and not item.get_closest_marker("programs") else ""
        )
        result = yield
        self._unmarked = ""
        return result

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See sys.addaudithook."""
        if self._unmarked and event in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
            words = arguments[1]
            first = words[0] if isinstance(words, list | tuple) else words
            program = Path(os.fsdecode(first)).name
            if program in _NAMES:
                raise AssertionError(f"{self._unmarked} starts {program} without pytest.mark.programs")


class Times:
    """Tells the ledger what each test took, and at the end says what the ledger has."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """With its fixtures, and the processes that it starts."""
        started, cpu = time.monotonic(), _cpu_seconds()
        result = yield
        taken = {"seconds": time.monotonic() - started, "cpu": _cpu_seconds() - cpu}
        ledger.note("test", **{"test": item.nodeid, **taken})
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Called where the tests are reported, not in each process that runs some."""
        text = list(ledger.report(ledger.lines()))
        if text:
            terminalreporter.section("what it took")
            terminalreporter.write("".join(f"{line}\n" for line in text))


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def pytest_addoption(parser: pytest.Parser) -> None:
    """Of tools/test."""
    texts = {
        "--remember": "leave out cases in machines that have passed with the same contents",
        "--install": "install the Debian packages whose programs the tests run",
    }
    for name, text in texts.items():
        parser.addoption(name, action="store_true", help=text)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Called in each process that runs tests."""
    slow = [session.config.rootpath / folder for folder in SLOW]
    if session.config.getoption("--install") and any(
        item.get_closest_marker("programs") or any(item.path.is_relative_to(folder) for folder in slow)
        for item in session.items
    ):
        try:
            install_programs()
        except LabError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_configure(config: pytest.Config) -> None:
    """Called once, as an audit hook stays for good."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's job in the background ignores it, and so would what tests start and interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    programs = Programs()
    config.pluginmanager.register(programs)
    config.pluginmanager.register(Times())
    config.pluginmanager.register(Remembered())
    sys.addaudithook(programs.watch)
