import subprocess
from pathlib import Path

import pytest

from tests.differential.ckexec import CKexec
from tools.lab import X86_64
from tools.lab.images import kexec_tools


@pytest.fixture(scope="session")
def c_kexec(tmp_path_factory: pytest.TempPathFactory) -> CKexec:
    shim = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", shim, source, "-ldl"], check=True)
    program, libraries = kexec_tools(X86_64)
    return CKexec(program, libraries, shim)
