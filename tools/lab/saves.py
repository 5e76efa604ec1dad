"""Machines that have booted, saved at the point where they wait for a job, to go on from there with any job.

A machine that goes on is the one that was saved: with the same random numbers, the same layout of its kernel
(KASLR), and its state at the end of the boot. Only the time it is told.
"""

import functools
import shlex
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from pykexec.emulation import EmulationError, Running
from pykexec.emulation.machine import CONSOLE

from . import images, ledger
from .host import CACHE, LabError, digest, ensure_commands, run
from .kernels import Kernel
from .machine import INITRD, Guest, Machine, command, emulator, firmware, virtual

_MEMORY = "memory.lz4"
_SPEED = 1 << 40
"""No limit, in bytes a second."""


class NotResumed(LabError):
    """QEMU does not go on with a saved machine."""


def fits(machine: Machine, guest: Guest) -> bool:
    """Whether a saved machine may be taken: where all that it is made of is in what is saved.

    Not where there are further devices, which may have files of their own, nor where the second kernel has
    Python, whose large system comes with the first one's.
    """
    can_be = machine.arch.can_be_saved and not machine.extra and not machine.parallel
    return can_be and guest.second_then is None


def place(machine: Machine, kernel: Kernel) -> Path:
    """The folder of that machine when it is saved. Raises LabError."""
    system = images.first_system(kernel, images.second_system(kernel, with_pykexec=False))
    # Nothing of a disk is in a machine whose kernel has no driver yet: any other may take its place.
    disks = tuple(Path(str(number)) for number, _ in enumerate(machine.disks))
    which = digest(kernel.release, *command(replace(machine, disks=disks), kernel, Path()))
    bios = firmware(machine)
    parts = (kernel.image.read_bytes(), bios.read_bytes() if bios is not None else b"", *system)
    contents = digest(_version(emulator(machine.arch)[0]), *parts)
    return CACHE / "machines" / f"{machine.arch.name}-{kernel.version}-{which}-{contents}"


def start(machine: Machine, kernel: Kernel, folder: Path, timeout: float) -> Running:
    """A machine that boots, and can be saved."""
    return Running(
        virtual(machine, kernel, folder), folder, timeout, monitored=True, ended=ledger.machine("saved")
    )


def save(running: Running, folder: Path, place: Path) -> None:
    """Save a machine as it is now, instead of older ones of its kind; it then goes on. Raises LabError."""
    ensure_commands({"lz4": "lz4"})
    for old in place.parent.glob(f"{place.name.rpartition('-')[0]}-*"):
        shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        state = Path(scratch, "state")
        state.mkdir()
        monitor = running.monitor()
        monitor.execute("stop")
        monitor.execute("migrate-set-parameters", **{"max-bandwidth": _SPEED})
        monitor.execute("migrate", uri=f"exec:lz4 -q -1 -c > {shlex.quote(str(state / _MEMORY))}")
        monitor.migrated()
        shutil.copy(folder / CONSOLE, state)
        state.rename(place)
        monitor.execute("cont")


def resume(machine: Machine, kernel: Kernel, place: Path, folder: Path, timeout: float) -> Running:
    """The machine that was saved there, as it goes on with its files in `folder`. Raises NotResumed."""
    (folder / INITRD).write_bytes(bytes(4096))  # all of memory is replaced, and what came of this
    running = Running(
        virtual(machine, kernel, folder),
        folder,
        timeout,
        options=("-incoming", "defer"),
        monitored=True,
        ended=ledger.machine("resumed"),
    )
    try:
        shutil.copy(place / CONSOLE, folder)
        monitor = running.monitor()
        monitor.execute("migrate-incoming", uri=f"exec:lz4 -q -d -c {shlex.quote(str(place / _MEMORY))}")
        monitor.migrated()
        monitor.execute("cont")
    except (EmulationError, OSError) as error:
        running.end()
        (folder / CONSOLE).unlink(missing_ok=True)
        ledger.note("refused", place=place.name)
        shutil.rmtree(place, ignore_errors=True)
        raise NotResumed(f"{error}: {running.said}") from None
    return running


@functools.cache
def _version(qemu: str) -> str:
    return run([qemu, "--version"], "asking QEMU for its version")
