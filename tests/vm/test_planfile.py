"""Plans that travel: a machine without Python tells of itself, this one plans for it, and it loads the plan.

Both times the machine goes on from where it was saved: that is one boot. Where it cannot be saved it boots
twice, with an initrd of the same size, of which /proc/iomem tells.
"""

import hashlib
import secrets
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec import loader, planfile
from pykexec.files import FileData
from pykexec.machine import Machine as Facts
from pykexec.plan import LoadPlan, Purpose, Request
from pykexec.values import replace as plan_with
from tests.vm import jobs
from tools.lab import ARM64, PANIC, X86_64, Arch, Guest, Kernel, Machine, Result, Stage, images, run
from tools.lab.arches import find
from tools.lab.arches.arm import ARCH as ARM
from tools.lab.arches.i386 import ARCH as I386
from tools.lab.arches.loongarch64 import ARCH as LOONGARCH64
from tools.lab.arches.riscv64 import ARCH as RISCV64

_HELPERS = Path(planfile.__file__).parents[1] / "purgatory/exec/prebuilt"
_WITHOUT_PYTHON = "set -e\nrm /usr/bin/python3*\nchmod 755 /kexec\n"


def _helper(arch: Arch) -> Mapping[str, bytes]:
    return {"/kexec": (_HELPERS / f"{arch.name}.elf").read_bytes()}


def _run(machine: Machine, guest: Guest, folder: Path, size: int) -> Result:
    """Run a guest, which is given files of so many bytes at most."""
    if not machine.arch.can_be_saved:
        given = {name: guest.files.get(name, b"") for name in ("/kexec", "/plan", "/damaged", "/changed")}
        padding = bytes(size - sum(map(len, given.values())))
        job, then = guest.job.ljust(_JOB_SIZE), (guest.then or "true").ljust(_JOB_SIZE)
        guest = replace(guest, job=job, then=then, files={**given, "/padding": padding})
    return run(machine, guest, folder, saved=True)


_JOB_SIZE = 1000


def _snapshot(kernel: Kernel, machine: Machine, folder: Path, size: int) -> Path:
    """Return the archive in which a machine tells of itself; `folder` is for the machine's own files."""
    job = f'{_WITHOUT_PYTHON}/kexec --snapshot > "$OUT/machine.tar"\n'
    stage = _run(machine, Guest(kernel, job, files=_helper(kernel.arch)), folder, size).stage("first")
    return stage.folder / "machine.tar"


def _plan(facts: Facts, request: Request) -> LoadPlan:
    plan = loader.plan(facts, request, "load")
    assert isinstance(plan, LoadPlan)
    return plan


def _initrd(kernel: Kernel, job: str, files: Mapping[str, bytes]) -> FileData:
    """The second system as the lab makes it in a guest."""
    system = images.second_system(kernel, with_pykexec=False)
    return FileData.from_bytes("initrd", system + images.overlay("second", job, files))


def _room(request: Request) -> int:
    """Return how many bytes the files of a guest that loads that may have: kernels may come packed."""
    return sum(each.size for each in request.files) + (32 << 20)


def _changed(archive: Path, folder: Path, path: str, old: str, new: str) -> Facts:
    """Return the machine of a snapshot with one file in which something else stands first."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    text = (folder / path).read_text()
    assert old in text
    (folder / path).write_text(text.replace(old, new, 1))
    return Facts.from_snapshot(folder)


def _is_refused(stage: Stage, name: str, why: str) -> None:
    """The file was refused for that reason, and what was loaded stayed."""
    assert stage.read(f"{name}.status").split() == ["255", "1"]
    assert why in stage.read(f"{name}.stderr")


def _load(option: str, loaded: str) -> str:
    """Loads a plan, unloads and loads it again; then two that are refused."""
    return f"""
/kexec {option} --load-plan /plan
test $(cat {loaded}) = 1
/kexec {option.replace("-l", "")} -u
test $(cat {loaded}) = 0
/kexec --load-plan /plan
for name in damaged changed; do
    status=0
    /kexec {option} --load-plan /$name 2> "$OUT/$name.stderr" || status=$?
    echo $status $(cat {loaded}) > "$OUT/$name.status"
done
"""


def _files(plan: LoadPlan, facts: Facts, other: Facts) -> Mapping[str, bytes]:
    """What the machine is given: the helper, the plan, one that is damaged, and one for another machine.

    The last two, which must be refused before a segment matters, have one only.
    """
    small = plan_with(plan, segments=plan.segments[-1:])
    damaged = planfile.build(small, planfile.identify(facts, plan.purpose))
    return {
        **_helper(find(plan.arch)),
        "/plan": planfile.build(plan, planfile.identify(facts, plan.purpose)),
        "/damaged": damaged[:-1] + bytes([damaged[-1] ^ 1]),
        "/changed": planfile.build(small, planfile.identify(other, plan.purpose)),
    }


@pytest.mark.parametrize(
    ("arch", "version"),
    jobs.cases(
        "boot",
        {ARM64: ["7.2"]},
        {X86_64: ["7.2"], RISCV64: ["7.2"], I386: ["6.1"], ARM: ["6.1"], LOONGARCH64: ["7.2"]},
    ),
)
def test_boot(arch: Arch, version: str, tmp_path: Path) -> None:
    kernel, machine = Kernel.get(version, arch), Machine(arch)
    content = secrets.token_bytes(1 << 20)
    look = 'cp /proc/cmdline "$OUT"; sha256sum < /content > "$OUT/sha256"'
    line = f"{arch.line} marker={secrets.token_hex(8)}"
    request = Request(
        FileData.open(kernel.image, "kernel"),
        initrd=_initrd(kernel, look, {"/content": content}),
        append=line,
    )
    size = _room(request)
    snapshot = _snapshot(kernel, machine, tmp_path / "asked", size)
    facts = Facts.from_snapshot(snapshot)
    release = "proc/sys/kernel/osrelease"
    other = _changed(snapshot, tmp_path / "changed", release, kernel.release, f"{kernel.release}x")
    files = _files(_plan(facts, request), facts, other)
    job = _WITHOUT_PYTHON + _load("-l", "/sys/kernel/kexec_loaded")
    result = _run(machine, Guest(kernel, job, "/kexec -e", files=files), tmp_path / "loads", size)
    first, second = result.stage("first"), result.stage("second")
    _is_refused(first, "damaged", "a damaged plan")
    _is_refused(first, "changed", f"the plan is for the kernel {kernel.release}x")
    assert jobs.own_words(arch, second.read("cmdline")) == line
    assert second.read("sha256").split()[0] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("arch", "version"), jobs.cases("crash", {X86_64: ["6.1"]}, {ARM64: ["6.1"], I386: ["6.1"]})
)
def test_crash(arch: Arch, version: str, tmp_path: Path) -> None:
    """The capture kernel finds the log, so the plan has this boot's addresses."""
    kernel, machine = Kernel.get(version, arch), Machine(arch)
    marker = secrets.token_hex(8)
    request = Request(
        FileData.open(kernel.image, "kernel"),
        Purpose.CRASH,
        _initrd(kernel, jobs.capture(kernel, saved=False), {}),
        append=jobs.capture_command_line(marker, kernel),
    )
    size = _room(request)
    snapshot = _snapshot(kernel, machine, tmp_path / "asked", size)
    facts = Facts.from_snapshot(snapshot)
    other = _changed(snapshot, tmp_path / "changed", "proc/iomem", ": System RAM", ": Reserved")
    files = _files(_plan(facts, request), facts, other)
    job = f"{_WITHOUT_PYTHON}{_load('-p', '/sys/kernel/kexec_crash_loaded')}echo {marker} > /dev/kmsg\n"
    guest = Guest(kernel, job, PANIC, files=files)
    result = _run(machine, guest, tmp_path / "loads", size)
    first, second = result.stage("first"), result.stage("second")
    _is_refused(first, "damaged", "a damaged plan")
    _is_refused(first, "changed", "or this one has changed: /proc/iomem differs")
    log = second.read("dmesg.txt")
    assert "Kernel panic - not syncing: sysrq triggered crash" in log
    assert marker in log
