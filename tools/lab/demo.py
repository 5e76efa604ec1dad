"""What tools/run does: pykexec at work in an emulated machine, from a crash to the saved dump."""

import argparse
import hashlib
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from . import images, progress
from .arches import ARCHES, Arch
from .host import PROJECT, LabError
from .kernels import Kernel
from .machine import Guest, Machine, emulator
from .qemu import PANIC, Result, Running

_MARKER = "/marker"

_CRASH_LOAD = """
set -e
load="pykexec -c -p $KERNEL --initrd $SECOND_IMAGE"
append="console={console} panic=-1 nr_cpus=1 irqpoll reset_devices"
$load --append "$append" --dry-run > "$OUT/plan.txt"
$load --append "$append"
"""
_CAPTURE = """
set -e
makedumpfile -l -d 31 /proc/vmcore "$OUT/vmcore"
makedumpfile --dump-dmesg /proc/vmcore "$OUT/dmesg.txt"
"""
_BOOT_LOAD = """
set -e
cp /proc/meminfo "$OUT"
pykexec -c -l "$KERNEL" --initrd "$SECOND_IMAGE" --append "console={console} panic=-1 loaded-by=pykexec"
"""
_LOOK_AROUND = """
cp /proc/cmdline /proc/meminfo "$OUT"
sha256sum /marker > "$OUT/marker"
"""


def main() -> int:
    """The command line of tools/run. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="tools/run", description=__doc__)
    parser.add_argument("--boot", action="store_true", help="boot a second kernel instead of crashing")
    parser.add_argument(
        "--arch",
        choices=sorted(name for name in ARCHES if ARCHES[name].kernels),
        default="x86_64",
        help="the machine's architecture",
    )
    versions = {version: None for arch in ARCHES.values() for version in arch.kernels}
    parser.add_argument("--kernel", choices=versions, default="6.1", help="Debian's kernel of that version")
    options = parser.parse_args()
    demonstration = _boot if options.boot else _crash
    try:
        demonstration(ARCHES[options.arch], options.kernel)
    except LabError as error:
        print(f"tools/run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _crash(arch: Arch, version: str) -> None:
    if version in arch.no_dump:
        readable = next(version for version in arch.kernels if version not in arch.no_dump)
        raise LabError(
            f"makedumpfile reads no dump of Linux {version} on {arch.name}: {arch.no_dump[version]}"
            f"\nTake --kernel {readable}, or --boot."
        )
    kernel = prepare(arch, version)
    guest = Guest(
        kernel,
        job=_CRASH_LOAD.format(console=arch.emulation.console),
        then=PANIC,
        second_job=_CAPTURE,
        second_image="/boot/capture.img",
    )
    with tempfile.TemporaryDirectory(prefix="pykexec-run-") as scratch:
        result = _run(f"Crashing Linux {kernel.release}", Machine(arch), guest, Path(scratch))
        first, second = result.stage("first"), result.stage("second")
        crash = PROJECT / "crash" / time.strftime("%Y%m%d-%H%M%S")
        crash.mkdir(parents=True)
        for file in (second.folder / "vmcore", second.folder / "dmesg.txt", first.folder / "plan.txt"):
            shutil.move(file, crash / file.name)
        shutil.move(result.folder / "console.log", crash / "console.log")
    lines = (crash / "dmesg.txt").read_text(errors="replace").splitlines()
    panic = next((number for number, line in enumerate(lines) if "Kernel panic" in line), len(lines))
    print(f"The log of the crashed kernel, Linux {kernel.release}, ends with")
    print("\n".join(lines[max(0, panic - 5) :]))
    dump = crash / "vmcore"
    print(f"\nThe dump is {dump.relative_to(PROJECT)} ({dump.stat().st_size / 1e6:.0f} MB);", end=" ")
    print("beside it are dmesg.txt, plan.txt and console.log.")


def _boot(arch: Arch, version: str) -> None:
    kernel = prepare(arch, version)
    marker = secrets.token_bytes(1 << 20)
    guest = Guest(
        kernel,
        job=_BOOT_LOAD.format(console=arch.emulation.console),
        then="pykexec -e",
        second_job=_LOOK_AROUND,
        second_files={_MARKER: marker},
    )
    with tempfile.TemporaryDirectory(prefix="pykexec-run-") as scratch:
        machine = Machine(arch, append="")
        result = _run(f"Booting Linux {kernel.release} twice", machine, guest, Path(scratch))
        first, second = result.stage("first"), result.stage("second")
        seen = second.read("marker").split()[0]
        if seen != hashlib.sha256(marker).hexdigest():
            raise LabError("the second kernel's initramfs is not what was given to it")
        print(f"The second kernel, Linux {kernel.release}, says of itself")
        print(f"  command line    {second.read('cmdline').strip()}")
        print(f"  memory          {_memory(second.read('meminfo'))}; the first kernel's: ", end="")
        print(_memory(first.read("meminfo")))
        print(f"  initramfs       SHA-256 of its marker file {seen}, as it should be")


def prepare(arch: Arch, version: str) -> Kernel:
    """Fetch and build what a run needs. Raises LabError."""
    with progress.step("Setting up the emulator"):
        emulator(arch)
    with progress.step(f"Fetching Debian's Linux {version} for {arch.name}"):
        kernel = Kernel.get(version, arch)
    with progress.step("Building the guest's system"):
        images.full(arch)
        images.small(arch)
    return kernel


def _run(title: str, machine: Machine, guest: Guest, folder: Path) -> Result:
    with Running(machine, guest, folder, timeout=180) as running, progress.step(title, running.last_line):
        return running.wait()


def _memory(meminfo: str) -> str:
    return next(line.split(":")[1].strip() for line in meminfo.splitlines() if line.startswith("MemTotal"))
