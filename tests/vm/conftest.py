"""Fixtures for tests in emulated machines."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.lab import X86_64, Guest, Kernel, Machine, Result, run

_LOADERS = {"pykexec": "pykexec -c", "kexec": "kexec -c"}

RunGuest = Callable[[Guest, Machine], Result]


@pytest.fixture
def loader() -> str:
    """The command under test; with PYKEXEC_TEST_LOADER=kexec the C tool, to check the tests themselves."""
    return _LOADERS[os.environ.get("PYKEXEC_TEST_LOADER", "pykexec")]


@pytest.fixture
def kernel() -> Kernel:
    """The kernel of the cases that do not depend on one."""
    return Kernel.get("6.1", X86_64)


@pytest.fixture
def run_guest(tmp_path: Path) -> RunGuest:
    """Runs a guest in a machine until that ends; that machine may have booted for another case."""
    return lambda guest, machine: run(machine, guest, tmp_path / "machine", saved=True)
