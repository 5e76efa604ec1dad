"""Machines that have booted, saved at the point where they wait for a job, to go on from there with any job.

A machine that goes on is the one that was saved: with the same random numbers, the same layout of its kernel
(KASLR), and its state at the end of the boot. Only the time it is told.
"""

import functools
import shlex
import shutil
import tempfile
import time
from pathlib import Path

from . import images, ledger
from .emulator import Emulator
from .host import CACHE, LabError, build_once, digest, run
from .kernels import Kernel
from .machine import Guest, Machine, command, firmware
from .monitor import MonitorError
from .results import Stream

_MEMORY, _CONSOLE = "memory", "console.log"
_BOOT_TIMEOUT = 300
_SPEED = 1 << 40
"""No limit, in bytes a second."""


class NotResumed(LabError):
    """QEMU does not go on with a saved machine."""


def fits(machine: Machine, guest: Guest) -> bool:
    """Whether a saved machine may be taken: where all that it is made of is in what is saved.

    Not where there are further devices, which have files of their own, nor where the second kernel has
    Python, whose large system comes with the first one's.
    """
    return not machine.extra and not machine.parallel and guest.second_then is None


def state(machine: Machine, kernel: Kernel) -> Path:
    """The folder of the saved machine, booted if there is none yet. Raises LabError."""
    system = images.first_system(kernel, images.second_system(kernel, with_pykexec=False))
    which = digest(kernel.release, *command(machine, kernel, Path()))
    bios = firmware(machine.arch).read_bytes() if machine.uefi else b""
    contents = digest(_version(machine.arch.qemu), kernel.image.read_bytes(), bios, *system)
    name = f"{machine.arch.name}-{kernel.version}-{which}"
    place = CACHE / "machines" / f"{name}-{contents}"
    if not place.exists():
        for old in place.parent.glob(f"{name}-*"):
            shutil.rmtree(old, ignore_errors=True)

    def save(target: Path) -> None:
        target.mkdir()
        with tempfile.TemporaryDirectory(dir=target) as scratch:
            folder = Path(scratch)
            (folder / "initrd.img").write_bytes(b"".join(system))
            _save(machine, kernel, folder)
            for name in (_MEMORY, _CONSOLE):
                (folder / name).rename(target / name)

    return build_once(place, save)


def resume(machine: Machine, kernel: Kernel, state: Path, folder: Path, timeout: float) -> Emulator:
    """The machine of that state, as it goes on with its files in `folder`. Raises NotResumed."""
    (folder / "initrd.img").write_bytes(bytes(4096))  # all of memory is replaced, and what came of this
    shutil.copy(state / _CONSOLE, folder)
    emulator = Emulator(
        [*command(machine, kernel, folder), "-qmp", "stdio", "-incoming", "defer"],
        folder / "qemu.log",
        timeout,
        start="resumed",
        monitored=True,
    )
    try:
        monitor = emulator.monitor()
        monitor.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(str(state / _MEMORY))}")
        monitor.migrated()
        monitor.execute("cont")
    except MonitorError as error:
        emulator.end()
        (folder / _CONSOLE).unlink()
        ledger.note("refused", state=state.name)
        shutil.rmtree(state, ignore_errors=True)
        said = (folder / "qemu.log").read_text(errors="replace")
        raise NotResumed(f"{error}: {said}") from None
    return emulator


def _save(machine: Machine, kernel: Kernel, folder: Path) -> None:
    """Boot the machine, and leave in `folder` its memory and what the console said."""
    run(["mkfifo", folder / "go"], "making a pipe")
    results = Stream(folder / "out.tar", folder / "out")
    emulator = Emulator(
        [*command(machine, kernel, folder), "-qmp", "stdio"],
        folder / "qemu.log",
        _BOOT_TIMEOUT,
        start="saved",
        monitored=True,
    )
    try:
        monitor = emulator.monitor()
        while not (folder / "out/ready/status").exists():
            if emulator.poll() is not None:
                console = (folder / _CONSOLE).read_text(errors="replace")
                raise LabError(f"a machine that was to be saved did not boot:\n{console}")
            time.sleep(0.1)
            results.unpack()
        monitor.execute("stop")
        monitor.execute("migrate-set-parameters", **{"max-bandwidth": _SPEED})
        monitor.execute("migrate", uri=f"exec:cat > {shlex.quote(str(folder / _MEMORY))}")
        monitor.migrated()
    finally:
        emulator.end()


@functools.cache
def _version(qemu: str) -> str:
    return run([qemu, "--version"], "asking QEMU for its version")
