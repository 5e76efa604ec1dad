"""Running guests: a kernel with a job, and what the job, and the kernel after it, left behind."""

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pykexec import emulation
from pykexec.emulation import EmulationError
from pykexec.emulation.machine import CONSOLE
from pykexec.emulation.running import text

from . import images, ledger, saves
from .host import LabError, locked
from .kernels import Kernel
from .machine import INITRD, Guest, Machine, virtual

PANIC = "echo c > /proc/sysrq-trigger"
_TAIL_LINES = 40


class EmulatorFailed(LabError):
    """QEMU itself was ended by a signal, or brought up no first system: that says nothing about pykexec."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The results of one job."""

    folder: Path
    """What the job left in $OUT, and its output in the file `log`."""
    status: int
    """The job's exit status."""

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(errors="replace")

    @property
    def log(self) -> str:
        return self.read("log")


@dataclass(frozen=True, slots=True)
class Result:
    """All that came out of a machine that has ended."""

    folder: Path
    seconds: float

    @property
    def console(self) -> str:
        """The serial console's text, for people, and for what the purgatory says there."""
        return text(self.folder / CONSOLE)

    def reached(self, stage: str) -> bool:
        """Whether the job of that stage ("first" or "second") ended."""
        return (self.folder / "out" / stage / "status").exists()

    def stage(self, name: str) -> Stage:
        """The results of the first or the second job, which must have succeeded. Raises LabError."""
        folder = self.folder / "out" / name
        if not self.reached(name):
            raise LabError(f"the {name} job did not end\n{self.tail()}")
        stage = Stage(folder, int((folder / "status").read_text()))
        if stage.status != 0:
            raise LabError(f"the {name} job failed with status {stage.status}:\n{stage.log}")
        return stage

    def tail(self) -> str:
        """The end of the console's text and where all of it is, for an error message."""
        lines = self.console.splitlines()[-_TAIL_LINES:]
        return "\n".join([f"last lines of {self.folder / CONSOLE}:", *lines])


class Running:
    """A machine that is running; leaving the context ends it.

    `folder` gets the console's text (console.log) and the results (out/). With `saved` the machine may go on
    from where one like it was saved, instead of booting: see saves.py. Raises LabError where the machine
    cannot be started.
    """

    def __init__(
        self, machine: Machine, guest: Guest, folder: Path, timeout: float, *, saved: bool = False
    ) -> None:
        self._folder = folder
        self._timeout = timeout
        folder.mkdir(parents=True, exist_ok=True)
        self._was_up = False
        """Whether its first system came up before the machine was saved."""
        waits = saved and saves.fits(machine, guest)
        self._running = self._waiting(machine, guest) if waits else self._booted(machine, guest)

    def _booted(self, machine: Machine, guest: Guest) -> emulation.Running:
        second = images.second_system(guest.kernel, with_pykexec=guest.second_then is not None)
        self._write_image(*images.first_system(guest.kernel, second), images.job(guest))
        return emulation.Running(
            virtual(machine, guest.kernel, self._folder),
            self._folder,
            self._timeout,
            ended=ledger.machine("booted"),
        )

    def _waiting(self, machine: Machine, guest: Guest) -> emulation.Running:
        """A machine that waited for a job, and gets this one: one that was saved, or will be."""
        place = saves.place(machine, guest.kernel)
        with locked(place):
            running = None if place.exists() else self._saved(machine, guest.kernel, place)
        if running is None:
            try:
                running = saves.resume(machine, guest.kernel, place, self._folder, self._timeout)
            except saves.NotResumed as error:
                warnings.warn(f"a saved machine is of no use, and another one boots: {error}", stacklevel=2)
                return self._booted(machine, guest)
            self._was_up = True
        running.tell(b"%d\n" % time.time() + images.job(guest))
        return running

    def _saved(self, machine: Machine, kernel: Kernel, place: Path) -> emulation.Running:
        second = images.second_system(kernel, with_pykexec=False)
        self._write_image(*images.first_system(kernel, second))
        self._running = saves.start(machine, kernel, self._folder, self._timeout)
        try:
            self.wait_for("ready")
            saves.save(self._running, self._folder, place)
        except BaseException as error:
            self._running.end()
            if isinstance(error, EmulationError):
                raise LabError(f"the machine cannot be saved: {error}") from error
            raise
        return self._running

    def _write_image(self, *archives: bytes) -> None:
        with (self._folder / INITRD).open("wb") as image:
            image.writelines(archives)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.end()
        (self._folder / INITRD).unlink(missing_ok=True)

    def wait_for(self, stage: str) -> Stage:
        """The results of a job, as soon as the host has them, while the machine goes on. Raises LabError."""
        while not self._unpack().reached(stage) and self._goes_on():
            pass
        result = self._unpack()
        if not result.reached(stage):
            self._check_status()
        return result.stage(stage)

    def go(self) -> None:
        """Let a job go on that waits with `read -r < $GO`."""
        self._running.tell(b"go\n")

    def last_line(self) -> str:
        """The newest line on the console."""
        return next(reversed(Result(self._folder, 0).console.splitlines()), "")

    def wait(self) -> Result:
        """What came out of the machine, once it has ended by itself. Raises LabError when it does not."""
        while self._goes_on():
            pass
        self._check_status()
        return self._unpack()

    def _goes_on(self) -> bool:
        """Whether the machine still runs, a moment later. Raises LabError when its time is over."""
        try:
            goes_on = self._running.goes_on()
        except EmulationError as error:
            raise LabError(f"{error}\n{self._unpack().tail()}") from error
        boot = self._timeout / 2
        if goes_on and self._running.seconds > boot and not (self._was_up or self._running.has_told):
            raise EmulatorFailed(f"no system came up within {boot:g} s\n{self._unpack().tail()}")
        return goes_on

    def _check_status(self) -> None:
        status = self._running.poll()
        if not status:
            return
        # `timeout` dies of the signal that its command died of, as far as it can.
        error = EmulatorFailed if status < 0 or status > 128 else LabError
        raise error(f"QEMU ended with status {status}: {self._running.said}\n{self._unpack().tail()}")

    def _unpack(self) -> Result:
        self._running.unpack()
        return Result(self._folder, self._running.seconds)


def run(
    machine: Machine, guest: Guest, folder: Path, *, timeout: float = 600, saved: bool = False
) -> Result:
    """Run a guest until its machine ends by itself, as it does where a real one would reset.

    That is when the last job is done, or when a kernel fails. `saved` is as for Running. Raises LabError
    after `timeout` seconds.

    QEMU 7.2 without KVM was seen to die of a SIGSEGV of its own, once in thousands of machines, and firmware
    to start two processors as the first one; such a machine is started a second time, with a warning. What
    the first left stays in a folder beside.
    """
    try:
        with Running(machine, guest, folder, timeout, saved=saved) as running:
            return running.wait()
    except EmulatorFailed as error:
        warnings.warn(f"started again: {error}", stacklevel=2)
        folder.rename(folder.with_name(f"{folder.name}-failed"))
    with Running(machine, guest, folder, timeout, saved=saved) as running:
        return running.wait()
