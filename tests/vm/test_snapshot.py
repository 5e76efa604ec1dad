"""A plan made elsewhere from a snapshot, pykexec's or the helper's, is the plan the machine itself makes."""

import json
from pathlib import Path
from typing import Any

import pytest

from pykexec import loader, planfile, report
from pykexec.files import FileData
from pykexec.machine import Machine as Facts
from pykexec.plan import SEED_SIZE, LoadPlan, Purpose, Request
from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import ARM64, Guest, Kernel, Machine
from tools.lab.arches.arm import ARCH as ARM
from tools.lab.arches.i386 import ARCH as I386
from tools.lab.arches.loongarch64 import ARCH as LOONGARCH64
from tools.lab.arches.ppc64le import ARCH as PPC64LE
from tools.lab.arches.riscv64 import ARCH as RISCV64
from tools.lab.arches.s390x import ARCH as S390X

_INITRD = b"\x28\xb5\x2f\xfd" + bytes(range(256)) * 40000  # begins as zstd does
_HELPERS = Path(planfile.__file__).parents[1] / "purgatory/exec/prebuilt"
_OPTIONS = {Purpose.BOOT: "-l", Purpose.CRASH: "-p"}


@pytest.mark.parametrize(
    ("machine", "version"),
    [
        jobs.further(Machine(), "6.1", id="1G"),
        pytest.param(Machine(memory="6G", append="crashkernel=256M,high"), "6.1", id="6G-high"),
        jobs.further(
            Machine(memory="6G", append="crashkernel=256M,high", cpus=4), "6.1", id="6G-high-4-processors"
        ),
        pytest.param(
            Machine(ARM64, memory="6G", append="crashkernel=512M,high crashkernel=128M,low"),
            "6.1",
            id="arm64-6G-high-low",
        ),
        jobs.further(
            Machine(ARM64, memory="6G", append="crashkernel=512M,high", cpus=4), "6.1", id="arm64-6G-high"
        ),
        jobs.further(Machine(RISCV64), "7.2", id="riscv64"),
        jobs.further(Machine(I386), "6.1", id="i386"),
        jobs.further(Machine(LOONGARCH64), "7.2", id="loongarch64"),
        jobs.further(Machine(ARM), "6.1", id="arm"),
        jobs.further(Machine(PPC64LE), "6.1", id="ppc64le"),
        jobs.further(jobs.POWER8_IN_BLOCKS, "6.12", id="ppc64le-blocks"),
        jobs.further(Machine(S390X), "6.1-kdump", id="s390x"),
    ],
)
def test_plans_agree(machine: Machine, version: str, run_guest: RunGuest) -> None:
    kernel = Kernel.get(version, machine.arch)
    job = 'set -e; pykexec --snapshot "$OUT/machine.tar"\n'
    job += 'chmod 755 /helper; /helper --snapshot > "$OUT/helper.tar"\n'
    for purpose, option in _OPTIONS.items():
        plan = f'pykexec {option} "$KERNEL" --initrd /initrd --reuse-cmdline --append quiet --dry-run --json'
        job += f'{plan} > "$OUT/{purpose.value}.json"\n'
    helper = (_HELPERS / f"{machine.arch.name}.elf").read_bytes()
    files = {"/initrd": _INITRD, "/helper": helper}
    stage = run_guest(Guest(kernel, job, files=files), machine).stage("first")
    facts = Facts.from_snapshot(stage.folder / "machine.tar")
    by_helper = Facts.from_snapshot(stage.folder / "helper.tar")
    for purpose in _OPTIONS:
        request = Request(
            FileData.open(kernel.image, "kernel"),
            initrd=FileData.from_bytes("/initrd", _INITRD),
            purpose=purpose,
            reuse_command_line=True,
            append="quiet",
            seed=bytes(SEED_SIZE),
        )
        elsewhere = json.loads(report.as_json(loader.plan(facts, request)))
        there = json.loads(stage.read(f"{purpose.value}.json"))
        assert _comparable(elsewhere) == _comparable(there)
        assert _file(by_helper, request) == _file(facts, request)


def _file(machine: Facts, request: Request) -> bytes:
    plan = loader.plan(machine, request, "load")
    assert isinstance(plan, LoadPlan)
    return planfile.build(plan, planfile.identify(machine, request.purpose))


def _comparable(plan: dict[str, Any]) -> dict[str, Any]:
    """Less the names of the files, and the contents that hold fresh random bytes or their digest."""
    for segment in plan["segments"]:
        if segment["name"] in ("boot_params", "dtb", "purgatory"):
            del segment["sha256"]
    return {key: value for key, value in plan.items() if key not in ("kernel", "initrd")}
