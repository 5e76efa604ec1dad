import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.differential.ckexec import CKexec, NewestCKexec
from tests.differential.programs import Lab, make_lab
from tools.lab import X86_64
from tools.lab.images import kexec_tools, newest_kexec_tools


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shim = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", shim, source, "-ldl"], check=True)
    return shim


@pytest.fixture(scope="session")
def c_kexec(shim_library: Path) -> CKexec:
    """Debian 12's, kexec-tools 2.0.25."""
    program, libraries = kexec_tools(X86_64)
    return CKexec(program, libraries, shim_library)


@pytest.fixture(scope="session")
def newest_c_kexec(shim_library: Path) -> CKexec:
    """kexec-tools 2.0.32."""
    program, libraries, loader = newest_kexec_tools(X86_64)
    return NewestCKexec(program, libraries, shim_library, loader)


@pytest.fixture(scope="session")
def clients_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("clients") / "clients.so"
    source = Path(__file__).with_name("clients_shim.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", target, source, "-ldl"], check=True)
    return target


@pytest.fixture
def lab(
    c_kexec: CKexec,
    clients_library: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Lab:
    return make_lab(Lab(tmp_path, c_kexec, clients_library, monkeypatch, capsys), {})


@pytest.fixture
def newest_lab(lab: Lab, newest_c_kexec: CKexec) -> Lab:
    return replace(lab, c_kexec=newest_c_kexec)
