"""Running guests: a kernel with a job, and what the job, and the kernel after it, left behind."""

import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from . import images
from .arches import X86_64, Arch
from .debian import fetch
from .emulator import Emulator
from .host import LabError, ensure_commands
from .kernels import Kernel
from .results import Stream

PANIC = "echo c > /proc/sysrq-trigger"
_TAIL_LINES = 40


class EmulatorDied(LabError):
    """QEMU itself was ended by a signal: a defect of the emulator, which says nothing about the guest."""


@dataclass(frozen=True, slots=True)
class Machine:
    """An emulated machine."""

    arch: Arch = X86_64
    memory: str = "1G"
    cpus: int = 2
    append: str = "crashkernel=256M"
    """Added to the first kernel's command line."""
    uefi: bool = False
    """Start through UEFI firmware, and on arm64 with ACPI instead of a device tree."""
    parallel: bool = False
    """Run the CPUs side by side, for what is measured: see `_command` for what comes of it at times."""
    extra: tuple[str, ...] = ()
    """Further QEMU options."""


@dataclass(frozen=True, slots=True)
class Guest:
    """What runs in a machine: shell scripts, run as root, that leave their results in the folder $OUT.

    `$KERNEL` is the path of the running kernel's own image, `$SECOND_IMAGE` that of an initramfs which runs
    `second_job`, in whatever kernel it is booted by.
    """

    kernel: Kernel
    job: str
    then: str | None = None
    """Goes over to the second kernel; runs when the job has succeeded and its results are with the host."""
    second_job: str = "true"
    second_files: Mapping[str, bytes] = field(default_factory=dict)
    """Further files of the second kernel's system, by absolute path."""
    second_then: str | None = None
    """As `then`, for the second kernel, whose system then has Python and pykexec, too."""
    second_image: str = "/boot/second.img"
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Further files of the first kernel's system, by absolute path."""


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

    `folder` gets the console's text (console.log) and the results (out/). Raises LabError where the machine
    cannot be started.
    """

    def __init__(self, machine: Machine, guest: Guest, folder: Path, timeout: float) -> None:
        self._folder = folder
        self._timeout = timeout
        self._started = time.monotonic()
        ensure_commands({machine.arch.qemu: machine.arch.qemu_package})
        _write_image(machine.arch, guest, folder)
        os.mkfifo(folder / "go")
        self._results = Stream(folder / "out.tar", folder / "out")
        command = _command(machine, guest.kernel, folder)
        self._emulator = Emulator(command, folder / "qemu.log", timeout + 10, start="booted")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._emulator.end()
        (self._folder / "initrd.img").unlink(missing_ok=True)

    def wait_for(self, stage: str) -> Stage:
        """The results of a job, as soon as the host has them, while the machine goes on. Raises LabError."""
        while not self._unpack().reached(stage):
            self._check_time()
            if self._emulator.poll() is not None:
                break
            time.sleep(0.1)
        return self._unpack().stage(stage)

    def go(self) -> None:
        """Let a job go on that waits with `read -r < $GO`."""
        (self._folder / "go").write_text("go\n")

    def last_line(self) -> str:
        """The newest line on the console."""
        return next(reversed(Result(self._folder, 0).console.splitlines()), "")

    def wait(self) -> Result:
        """What came out of the machine, once it has ended by itself. Raises LabError when it does not."""
        while self._emulator.poll() is None:
            self._check_time()
            time.sleep(0.05)
        self._check_status(self._emulator.status or 0)
        return self._unpack()

    def _check_status(self, status: int) -> None:
        if status == 0:
            return
        # `timeout` dies of the signal that its command died of, as far as it can.
        error = EmulatorDied if status < 0 or status > 128 else LabError
        said = (self._folder / "qemu.log").read_text(errors="replace")
        raise error(f"QEMU ended with status {status}: {said}\n{self._unpack().tail()}")

    def _check_time(self) -> None:
        if time.monotonic() - self._started > self._timeout:
            raise LabError(f"the machine did not end within {self._timeout:g} s\n{self._unpack().tail()}")

    def _unpack(self) -> Result:
        self._results.unpack()
        return Result(self._folder, time.monotonic() - self._started)


def run(machine: Machine, guest: Guest, folder: Path, *, timeout: float = 600) -> Result:
    """Run a guest until its machine ends by itself, as it does where a real one would reset.

    That is when the last job is done, or when a kernel fails. Raises LabError after `timeout` seconds.

    QEMU 7.2 without KVM was seen to die of a SIGSEGV of its own, once in thousands of machines; such a
    machine is started a second time, with a warning. What the first left stays in a folder beside.
    """
    try:
        with Running(machine, guest, folder, timeout) as running:
            return running.wait()
    except EmulatorDied as error:
        warnings.warn(f"started again: {error}", stacklevel=2)
        folder.rename(folder.with_name(f"{folder.name}-died"))
    with Running(machine, guest, folder, timeout) as running:
        return running.wait()


def _write_image(arch: Arch, guest: Guest, folder: Path) -> None:
    modules = guest.kernel.modules()
    second = images.second_system(arch, with_pykexec=guest.second_then is not None) + modules
    second += images.overlay("second", guest.second_job, guest.second_files, then=guest.second_then)
    files = {
        **guest.files,
        guest.second_image: second,
        f"/boot/vmlinuz-{guest.kernel.release}": guest.kernel.image.read_bytes(),
    }
    variables = f"export KERNEL=/boot/vmlinuz-{guest.kernel.release} SECOND_IMAGE={guest.second_image}\n"
    first = images.overlay("first", variables + guest.job, files, then=guest.then)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "initrd.img").open("wb") as image:
        image.writelines((images.full(arch), modules, images.project(), first))


def _command(machine: Machine, kernel: Kernel, folder: Path) -> list[str]:
    arch = machine.arch
    command_line = f"console={arch.console} panic=-1 {machine.append}"
    firmware = ("-bios", os.fspath(_firmware(arch))) if machine.uefi else ()
    return [
        arch.qemu,
        *arch.machine,
        # KVM may be there without working; software emulation works everywhere alike. All CPUs share a
        # thread: with one each, QEMU 7.2 was seen to run text that the kernel had just patched as it was
        # before (an int3 that nobody expected: a panic), or to die itself; and two machines at a time are no
        # faster on two cores.
        "-accel", f"tcg,thread={'multi' if machine.parallel else 'single'}",
        "-m", machine.memory,
        "-smp", str(machine.cpus),
        *firmware,
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display", "none",
        "-serial", f"file:{folder / 'console.log'}",
        "-device", "virtio-serial-pci",
        "-chardev", f"file,id=out,path={folder / 'out.tar'}",
        "-device", "virtserialport,chardev=out,name=out",
        "-chardev", f"pipe,id=go,path={folder / 'go'}",
        "-device", "virtserialport,chardev=go,name=go",
        "-kernel", os.fspath(kernel.image),
        "-initrd", os.fspath(folder / "initrd.img"),
        "-append", command_line,
        *machine.extra,
    ]  # fmt: skip


def _firmware(arch: Arch) -> Path:
    package, file = arch.uefi
    (folder,) = fetch("bookworm", arch.debian, [package])
    return folder / file
