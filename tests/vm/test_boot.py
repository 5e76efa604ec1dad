"""Normal loads: the loaded kernel is booted, and tells what it has."""

import hashlib
import secrets

import pytest

from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import SUITES, X86_64, Guest, Kernel, Machine

_LOOK_AROUND = """
set -e
cp /proc/cmdline /proc/meminfo /proc/iomem "$OUT"
sha256sum < /content > "$OUT/sha256"
"""


@pytest.mark.parametrize("version", [pytest.param(version, id=f"boot-{version}") for version in SUITES])
def test_second_kernel_has_what_it_was_given(version: str, loader: str, run_guest: RunGuest) -> None:
    command_line = f'console=ttyS0 panic=-1 marker={secrets.token_hex(8)} quoted="two words"'
    content = secrets.token_bytes(1 << 20)
    job = f"""
set -e
cp /proc/meminfo /proc/iomem "$OUT"
{loader} -l "$KERNEL" --initrd "$SECOND_IMAGE" --append '{command_line}'
"""
    guest = Guest(Kernel.get(version, X86_64), job, f"{loader} -e", _LOOK_AROUND, {"/content": content})
    result = run_guest(guest, Machine(append=""))
    first, second = result.stage("first"), result.stage("second")
    assert second.read("cmdline").strip() == command_line
    assert second.read("sha256").split()[0] == hashlib.sha256(content).hexdigest()
    assert jobs.memory_total(second.read("meminfo")) == pytest.approx(
        jobs.memory_total(first.read("meminfo")), abs=1 << 20
    )
    ram = "System RAM"
    assert jobs.ranges(second.read("iomem"), ram) == jobs.ranges(first.read("iomem"), ram)
