"""Why loads are refused."""

import errno
from pathlib import Path

import pytest

from pykexec.explain import explain_load_failure
from pykexec.files import FileData
from pykexec.loader import plan_load
from pykexec.plan import Purpose, Request
from tests.support.bzimage import FakeBzImage
from tests.support.machines import unpacked


@pytest.mark.parametrize(("kernel", "is_hidden"), [("x86_64\n", True), ("i686\n", False), (None, False)])
def test_a_64_bit_kernel_behind_a_personality(tmp_path: Path, kernel: str | None, is_hidden: bool) -> None:
    """It takes no load for i386: kernel/kexec.c."""
    machine = unpacked("qemu-i386-6.1-1g", tmp_path, {"proc/sys/kernel/arch": kernel})
    request = Request(FileData.from_bytes("k", FakeBzImage(xloadflags=4).build()), purpose=Purpose.CRASH)
    error = explain_load_failure(errno.EINVAL, plan_load(machine, request), machine)
    assert ("the running kernel is one for x86_64" in str(error)) is is_hidden
