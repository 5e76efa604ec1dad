"""What is loaded: asking for it, replacing it, forgetting it."""

import pytest

from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import ARM64, X86_64, Arch, Guest, Kernel, Machine
from tools.lab.arches.i386 import ARCH as I386

# Each line of the result: the step, the loader's exit status, and what the kernel then says is loaded for a
# crash and for a boot. The files are in a folder of their own in newer kernels.
_JOB = """
step() {{
    name=$1; shift
    "$@"
    status=$?
    if [ -d /sys/kernel/kexec ]; then
        state=$(cat /sys/kernel/kexec/crash_loaded /sys/kernel/kexec/loaded)
    else
        state=$(cat /sys/kernel/kexec_crash_loaded /sys/kernel/kexec_loaded)
    fi
    echo "$name" "$status" $state >> "$OUT/steps"
}}
head -c 500 "$KERNEL" > /tmp/truncated
step none-crash {loader} -p -S
step none-boot {loader} -l -S
step crash-load {loader} -p "$KERNEL" --initrd "$SECOND_IMAGE" --append "{command_line}"
step one-crash {loader} -p -S
step one-boot {loader} -l -S
step broken-load {loader} -p /tmp/truncated --initrd "$SECOND_IMAGE" --append "{command_line}"
step still-crash {loader} -p -S
step crash-unload {loader} -p -u
step boot-load {loader} -l "$KERNEL" --initrd "$SECOND_IMAGE" --append "{command_line}"
step two-crash {loader} -p -S
step two-boot {loader} -l -S
step boot-unload {loader} -u
step nothing-to-boot {loader} -e
"""


@pytest.mark.parametrize(
    ("arch", "version"),
    jobs.cases("state", {X86_64: ["7.2"]}, {X86_64: ["5.10", "6.1", "6.12"], ARM64: ["6.1"], I386: ["6.1"]}),
)
def test_state_is_what_the_kernel_says(arch: Arch, version: str, loader: str, run_guest: RunGuest) -> None:
    check(arch, version, loader, run_guest)


@pytest.mark.parametrize(("arch", "version"), jobs.cases("state-file", {}, {X86_64: ["6.1"]}))
def test_state_of_file_loads(arch: Arch, version: str, run_guest: RunGuest) -> None:
    check(arch, version, "pykexec -s", run_guest)


def check(arch: Arch, version: str, loader: str, run_guest: RunGuest) -> None:
    kernel = Kernel.get(version, arch)
    job = _JOB.format(loader=loader, command_line=jobs.capture_command_line("state", kernel))
    first = run_guest(Guest(kernel, job), Machine(arch)).stage("first")
    steps = {name: values for name, *values in map(str.split, first.read("steps").splitlines())}
    # A status of 1 from -S is "loaded".
    assert steps.pop("broken-load")[0] not in ("0", "1"), first.log
    assert steps == {
        "none-crash": ["0", "0", "0"],
        "none-boot": ["0", "0", "0"],
        "crash-load": ["0", "1", "0"],
        "one-crash": ["1", "1", "0"],
        "one-boot": ["0", "1", "0"],
        "still-crash": ["1", "1", "0"],
        "crash-unload": ["0", "0", "0"],
        "boot-load": ["0", "0", "1"],
        "two-crash": ["0", "0", "1"],
        "two-boot": ["1", "0", "1"],
        "boot-unload": ["0", "0", "0"],
        "nothing-to-boot": ["1", "0", "0"],
    }, first.log
