"""kexec_file_load(2): the kernel loads by itself, and says which way it was done."""

import gzip
import re
import secrets

import pytest

from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tests.vm.test_crash import crash
from tools.lab import ARM64, X86_64, Arch, Guest, Kernel, Machine
from tools.lab.arches.i386 import ARCH as I386
from tools.lab.arches.ppc64le import ARCH as PPC64LE
from tools.lab.arches.riscv64 import ARCH as RISCV64
from tools.lab.arches.s390x import ARCH as S390X


@pytest.mark.parametrize(
    ("arch", "version"), jobs.cases("file-crash", {X86_64: ["7.2"]}, {S390X: ["6.1-kdump"]})
)
def test_crash(arch: Arch, version: str, run_guest: RunGuest) -> None:
    crash(Kernel.get(version, arch), "pykexec -s", run_guest, Machine(arch))


_PACKED = "/boot/Image.gz"
_NO_TREE = "mount --bind /dev/null /sys/firmware/fdt"
_BOOT = """
set -e
{prepare}
pykexec {options} -d -l {kernel} --initrd "$SECOND_IMAGE" --append "{line}" 2> "$OUT/story"
"""


@pytest.mark.parametrize(
    ("arch", "version", "prepare", "options", "kernel_path", "calls"),
    [
        pytest.param(X86_64, "6.1", "", "", '"$KERNEL"', ["kexec_file_load"], id="x86_64"),
        jobs.further(S390X, "6.1-kdump", "", "", '"$KERNEL"', ["kexec_file_load"], id="s390x"),
        jobs.further(X86_64, "6.1", "", "--mem-min=1", '"$KERNEL"', ["kexec_load"], id="unfit"),
        pytest.param(
            ARM64,
            "6.1",
            _NO_TREE,  # so that the tree comes from /proc/device-tree
            "",
            _PACKED,
            ["kexec_file_load", "kexec_load"],  # Debian's arm64 kernels lack the first
            id="arm64-gzip",
        ),
    ],
)
def test_boot(
    arch: Arch,
    version: str,
    prepare: str,
    options: str,
    kernel_path: str,
    calls: list[str],
    run_guest: RunGuest,
) -> None:
    kernel = Kernel.get(version, arch)
    line = f"{arch.line} marker={secrets.token_hex(8)}"
    job = _BOOT.format(prepare=prepare, options=options, kernel=kernel_path, line=line)
    files = {_PACKED: gzip.compress(kernel.image.read_bytes(), 1)} if kernel_path == _PACKED else {}
    guest = Guest(kernel, job, "pykexec -e", 'cp /proc/cmdline "$OUT"', files=files)
    result = run_guest(guest, Machine(arch))
    assert result.stage("second").read("cmdline").strip() == line
    story = result.stage("first").read("story")
    # Kernels before 6.8 refuse the debug flag, and are asked again without it.
    made = re.findall(r"^pykexec: (kexec_\w+): ", story, re.MULTILINE)
    assert list(dict.fromkeys(made)) == calls


_REFUSED = """
pykexec -s -l "$KERNEL" --append a 2> "$OUT/refusal"
echo $? > "$OUT/answer"
cat /sys/kernel/kexec_loaded > "$OUT/loaded"
"""


@jobs.FURTHER
@pytest.mark.parametrize(
    ("arch", "version", "why"),
    [
        pytest.param(ARM64, "6.1", "built without CONFIG_KEXEC_FILE", id="arm64"),
        pytest.param(RISCV64, "7.2", "built without CONFIG_KEXEC_FILE", id="riscv64"),
        pytest.param(PPC64LE, "6.1", "built without CONFIG_KEXEC_FILE", id="ppc64le"),
        pytest.param(I386, "6.1", "no kernel for i386 has it", id="i386"),
        pytest.param(S390X, "6.1", "built without CONFIG_KEXEC_FILE", id="s390x"),
    ],
)
def test_a_kernel_without_it(arch: Arch, version: str, why: str, run_guest: RunGuest) -> None:
    """What was asked for by name is not done in another way."""
    first = run_guest(Guest(Kernel.get(version, arch), _REFUSED), Machine(arch)).stage("first")
    assert first.read("answer") == "253\n"
    assert first.read("loaded") == "0\n"
    assert why in first.read("refusal")
