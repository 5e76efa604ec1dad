"""Running guests: a kernel with a job, and what the job, and the kernel after it, left behind."""

import fcntl
import os
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from . import images, saves
from .emulator import Emulator
from .host import LabError, locked
from .kernels import Kernel
from .machine import Guest, Machine, command
from .results import Stream

PANIC = "echo c > /proc/sysrq-trigger"
_TAIL_LINES = 40
_PIPE_SIZE = 1 << 20
"""The most that Linux lets anyone have, by default."""


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
        log = self.folder / "console.log"
        return log.read_text(errors="replace").replace("\r", "") if log.exists() else ""

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
        return "\n".join([f"last lines of {self.folder / 'console.log'}:", *lines])


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
        self._results = Stream(folder / "out.tar", folder / "out")
        folder.mkdir(parents=True, exist_ok=True)
        os.mkfifo(folder / "go")
        # Open for reading, too, so that neither this nor a write waits for QEMU.
        self._port = os.open(folder / "go", os.O_RDWR | os.O_NONBLOCK)
        self._to_guest = memoryview(b"")
        """What the guest is told, as far as the port has no room for it yet."""
        fcntl.fcntl(self._port, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._started = time.monotonic()
        self._was_up = False
        """Whether its first system came up before the machine was saved."""
        waits = saved and saves.fits(machine, guest)
        self._emulator = self._waiting(machine, guest) if waits else self._booted(machine, guest)

    def _booted(self, machine: Machine, guest: Guest) -> Emulator:
        second = images.second_system(guest.kernel, with_pykexec=guest.second_then is not None)
        self._write_image(*images.first_system(guest.kernel, second), images.job(guest))
        return Emulator(
            command(machine, guest.kernel, self._folder),
            self._folder / "qemu.log",
            self._timeout + 10,
            start="booted",
        )

    def _waiting(self, machine: Machine, guest: Guest) -> Emulator:
        """A machine that waited for a job, and gets this one: one that was saved, or will be."""
        place = saves.place(machine, guest.kernel)
        with locked(place):
            emulator = None if place.exists() else self._saved(machine, guest.kernel, place)
        if emulator is None:
            try:
                emulator = saves.resume(machine, guest.kernel, place, self._folder, self._timeout + 10)
            except saves.NotResumed as error:
                warnings.warn(f"a saved machine is of no use, and another one boots: {error}", stacklevel=2)
                return self._booted(machine, guest)
            self._was_up = True
        self._tell(b"%d\n" % time.time() + images.job(guest))
        return emulator

    def _saved(self, machine: Machine, kernel: Kernel, place: Path) -> Emulator:
        second = images.second_system(kernel, with_pykexec=False)
        self._write_image(*images.first_system(kernel, second))
        self._emulator = saves.start(machine, kernel, self._folder, self._timeout + 10)
        try:
            self.wait_for("ready")
            saves.save(self._emulator, self._folder, place)
        except BaseException:
            self._emulator.end()
            raise
        return self._emulator

    def _write_image(self, *archives: bytes) -> None:
        with (self._folder / "initrd.img").open("wb") as image:
            image.writelines(archives)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._emulator.end()
        os.close(self._port)
        (self._folder / "initrd.img").unlink(missing_ok=True)

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
        self._tell(b"go\n")

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
        if self._emulator.poll() is not None:
            return False
        elapsed = time.monotonic() - self._started
        if elapsed > self._timeout:
            raise LabError(f"the machine did not end within {self._timeout:g} s\n{self._unpack().tail()}")
        boot = self._timeout / 2
        if elapsed > boot and not (self._was_up or self._results.have_begun):
            raise EmulatorFailed(f"no system came up within {boot:g} s\n{self._unpack().tail()}")
        self._tell(b"")
        time.sleep(0.01 if self._to_guest else 0.05)
        return True

    def _check_status(self) -> None:
        status = self._emulator.status
        if not status:
            return
        # `timeout` dies of the signal that its command died of, as far as it can.
        error = EmulatorFailed if status < 0 or status > 128 else LabError
        said = (self._folder / "qemu.log").read_text(errors="replace")
        raise error(f"QEMU ended with status {status}: {said}\n{self._unpack().tail()}")

    def _tell(self, text: bytes) -> None:
        """Tell the guest this, after all that it was told before, as far as the port has room now."""
        self._to_guest = memoryview(bytes(self._to_guest) + text) if text else self._to_guest
        with suppress(BlockingIOError):
            while self._to_guest:
                self._to_guest = self._to_guest[os.write(self._port, self._to_guest) :]

    def _unpack(self) -> Result:
        self._results.unpack()
        return Result(self._folder, time.monotonic() - self._started)


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
