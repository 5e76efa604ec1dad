"""One rehearsal: boot the machine's kernel, load its capture kernel, crash, and look at the dump."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec import cli, emulation, loader, optionparser, planfile
from pykexec.emulation import Accelerator, Emulation, Running, VirtualMachine, devices, kernelfile, room
from pykexec.emulation.devices import Device
from pykexec.errors import PykexecError
from pykexec.files import FileData
from pykexec.initramfs import Addition, newc
from pykexec.kdump.capture.modules import Index
from pykexec.kdump.console.diagnosis import Ending, Stage
from pykexec.kdump.rehearsal import captureimage, firstsystem, limits, scratch, verdict
from pykexec.kdump.rehearsal.asked import Rehearsal
from pykexec.kdump.rehearsal.captureimage import CaptureImage
from pykexec.kdump.rehearsal.firstsystem import Job
from pykexec.kdump.rehearsal.scratch import Scratch
from pykexec.kdump.rehearsal.verdict import Found, Milestone, Result, Timeline
from pykexec.machine import Machine
from pykexec.memory import MIB
from pykexec.plan import LoadPlan
from pykexec.purpose import Purpose

Tell = Callable[[str], None]
"""A function that reports progress, a line each time."""

_PAUSE = 0.1
"""Seconds between looks at the machine."""
_LEAVING = 10
"""Seconds for a reset, once the capture kernel or its system has said that it is at its end."""
_LATER = 60
"""Seconds that the emulator has longer than the crash: its end would be no result."""
_ROOM_BESIDE = 256 * MIB
"""What a file system takes itself, and logs."""


@dataclass(frozen=True, slots=True)
class _Setup:
    """What a rehearsal takes, read and chosen."""

    asked: Rehearsal
    image: FileData
    contents: CaptureImage
    index: Index
    disk: Device
    accelerated: Accelerator
    machine: VirtualMachine
    """Without the initrd of one of its boots."""
    folder: Path
    """Where its files are."""

    @property
    def file(self) -> Path:
        """The disk's contents."""
        return self.folder / "disk"

    @property
    def drivers(self) -> frozenset[str]:
        """The modules that the capture system has, in its image or built in."""
        return _drivers(self.contents, self.index)


@dataclass(frozen=True, slots=True)
class _Crashed:
    """How far the crash came."""

    timeline: Timeline
    console: str
    refused: Ending | None = None
    """Why nothing was loaded."""
    in_time: bool = True
    """Whether the machine was reset in the end."""


def rehearse(asked: Rehearsal, folder: Path, tell: Tell = lambda text: None) -> Result:
    """Rehearse, and return what came of it. All files go into `folder`, which is empty.

    Raises PykexecError where that cannot be rehearsed here. What goes wrong in the rehearsal is its result.
    """
    begun, marker = time.monotonic(), f"pykdump: rehearsal {secrets.token_hex(8)}"
    setup = _prepared(asked, folder)
    tell("making the disk for the dump")
    _scratch(setup).make(setup.file)
    crashed = _crash(setup, marker, tell)
    ending, dump = (crashed.refused, None) if crashed.refused else _judged(setup, crashed, marker, tell)
    return Result(
        ending,
        crashed.timeline.passed,
        dump,
        tuple(limits.unproven(asked, setup.contents, setup.disk, setup.accelerated, dump)),
        setup.accelerated,
        time.monotonic() - begun,
        crashed.console,
    )


def saves(asked: Rehearsal, folder: Path, tell: Tell = lambda text: None) -> bool:
    """Return whether the capture system says that it saves the dump; the dump is not looked at.

    `folder` and errors are as those of `rehearse`.
    """
    setup = _prepared(asked, folder)
    _scratch(setup).make(setup.file)
    crashed = _crash(setup, "pykdump: rehearsal", tell)
    return crashed.refused is None and crashed.in_time and crashed.timeline.has(_last(setup.contents))


def _last(image: CaptureImage) -> Milestone:
    """Return the milestone behind which all that is wanted is saved."""
    return Milestone.DUMP if image.saves_memory else Milestone.LOG


def _prepared(asked: Rehearsal, folder: Path) -> _Setup:
    """Read the files, and choose the machine. Raises PykexecError."""
    image = FileData.open(asked.image, "capture image")
    contents = captureimage.read(image)
    captureimage.require_possible(contents)
    index = Index(asked.release, asked.root)
    room.check_disk(folder, asked.memory)
    emulated = emulation.find(asked.arch)
    program = emulation.program(emulated)
    known = devices.known(program)
    disk = scratch.device(asked.controllers, emulated, _drivers(contents, index), known)
    machine = VirtualMachine(
        emulated,
        kernelfile.bootable(asked.kernel, folder),
        None,
        _command_line(asked, emulated),
        asked.memory,
        asked.cpus,
        tuple(devices.disk_options(disk, emulated, 0, folder / "disk")),
        firmware=emulation.firmware(emulated),
        program=program,
    )
    accelerated = asked.accelerated or emulation.accelerator(machine)
    machine = replace(machine, accelerator=accelerated.name)
    return _Setup(asked, image, contents, index, disk, accelerated, machine, folder)


def _command_line(asked: Rehearsal, emulated: Emulation) -> str:
    words = (
        f"console={emulated.console} panic=-1",
        emulated.parameters,
        f"crashkernel={asked.crashkernel} rdinit={firstsystem.RUNS}",
        asked.parameters,
    )
    return " ".join(filter(None, words))


def _drivers(image: CaptureImage, index: Index) -> frozenset[str]:
    builtin = (name for disk in devices.DISKS for name in disk.modules if index.is_builtin(name))
    return frozenset((*image.modules, *builtin))


def _scratch(setup: _Setup) -> Scratch:
    asked, contents = setup.asked, setup.contents
    size = asked.memory + _ROOM_BESIDE if asked.room is None else asked.room
    return Scratch(contents.filesystem, asked.uuid or contents.uuid, size, contents.layers)


def _crash(setup: _Setup, marker: str, tell: Tell) -> _Crashed:
    timeline, begun = Timeline(), time.monotonic()
    tell("booting the first kernel")
    with _booted(setup, firstsystem.crash(marker), "crash") as machine:
        facts = _step(machine, "facts")
        if _read(facts / "status") != "0":
            raise PykexecError(f"the first kernel does not tell its facts: {_read(facts / 'messages')}")
        timeline.note(Milestone.FIRST_KERNEL, time.monotonic() - begun)
        tell("loading the capture kernel")
        try:
            plan = _plan(setup.asked, Machine.from_snapshot(facts / "machine.tar"))
        except PykexecError as error:
            refused = Ending(Stage.NOT_LOADED, error.what, (), error.hint or "")
            return _Crashed(timeline, machine.console, refused)
        machine.tell(newc([Addition("plan", memoryview(plan))]))
        loaded = _step(machine, "load")
        if _read(loaded / "status") != "0":
            return _Crashed(timeline, machine.console, Ending(Stage.NOT_LOADED, _read(loaded / "messages")))
        timeline.note(Milestone.LOADED, time.monotonic() - begun)
        tell("crashing")
        in_time = _watch(machine, timeline, begun, begun + setup.asked.seconds, tell)
        return _Crashed(timeline, machine.console, in_time=in_time)


def _watch(machine: Running, timeline: Timeline, begun: float, deadline: float, tell: Tell) -> bool:
    """Watch until the machine is reset, or halts, or waits at a shell; return whether it is in time."""
    ending = deadline
    while machine.poll() is None:
        now = time.monotonic()
        if now > ending:
            return ending < deadline
        before = len(timeline.passed)
        timeline.look(machine.console, now - begun)
        for each in timeline.passed[before:]:
            tell(each.milestone.value)
        if timeline.is_over:
            ending = min(ending, now + _LEAVING)
        time.sleep(_PAUSE)
    now = time.monotonic()
    timeline.look(f"{machine.console}\n", now - begun)
    timeline.note(Milestone.RESET, now - begun)
    return True


def _judged(setup: _Setup, crashed: _Crashed, marker: str, tell: Tell) -> tuple[Ending, Found | None]:
    told = verdict.judge(crashed.console, None)
    if not crashed.in_time:
        seconds = f"{setup.asked.seconds:g} seconds"
        return replace(told, cause=f"{told.cause}; it had not come to its end after {seconds}"), None
    is_silent = not crashed.timeline.has(Milestone.CAPTURE_KERNEL, Milestone.INIT)
    is_written = told.stage is Stage.SAVED or crashed.timeline.has(Milestone.DUMP)
    if not is_written and not is_silent:
        return _explained(setup, told), None
    tell("looking at the dump")
    dump = _found(setup, marker)
    return verdict.judge(crashed.console, dump, fits=setup.contents.fits), dump


def _explained(setup: _Setup, told: Ending) -> Ending:
    """Return an ending with the cause that is known from the files alone."""
    asked, contents = setup.asked, setup.contents
    if not any("no disk has it" in line.text for line in told.evidence):
        return told
    told = replace(told, stage=Stage.TARGET)
    if missing := [each for each in setup.disk.modules if each not in setup.drivers]:
        return replace(
            told,
            cause=f"the capture image has no driver for the target's disk: the module {', '.join(missing)}",
            remedy="make the image again on that machine: pykdump mkinitrd",
        )
    if asked.uuid and asked.uuid != contents.uuid:
        return replace(
            told,
            cause=f"the image looks for the file system {contents.uuid}, and the target's is {asked.uuid}",
            remedy="make the image again: pykdump start does",
        )
    return told


def _found(setup: _Setup, marker: str) -> Found:
    """Return the dump on the scratch disk, which another boot brings out. Raises PykexecError."""
    contents = setup.contents
    _scratch(setup).lay_bare(setup.file)
    options = contents.settings.get("OPTIONS", "")
    job = firstsystem.bring(contents.filesystem, contents.folder, options, setup.disk.modules)
    with _booted(setup, job, "bring") as machine:
        brought = _step(machine, "bring")
        if _read(brought / "status") != "0":
            return Found(0, (f"the disk cannot be read: {_read(brought / 'messages')}",))
        folder = machine.results / f"disk{contents.folder}"
    return verdict.check(folder, marker, setup.asked.arch, saves_memory=contents.saves_memory)


def _booted(setup: _Setup, job: Job, name: str) -> Running:
    """Return the machine, running. Raises PykexecError."""
    asked = setup.asked
    initrd = setup.folder / f"{name}.img"
    archive = job.archive(asked.arch, setup.machine.emulation.virtio[1], setup.index)
    with initrd.open("wb") as file:
        file.write(firstsystem.image(setup.image, archive))
    machine = replace(setup.machine, initrd=initrd)
    return Running(machine, setup.folder / name, asked.seconds + _LATER)


def _step(machine: Running, name: str) -> Path:
    """Return the results of a step of the first system. Raises PykexecError where it does not come."""
    while not (machine.results / name / "status").exists():
        if machine.poll() is not None and not (machine.results / name / "status").exists():
            said = (machine.console.strip() or machine.said.strip()).splitlines()[-1:]
            raise PykexecError(
                f"the first kernel does not come up in QEMU: {''.join(said) or 'it says nothing'}",
                hint="try another --memory or --crashkernel",
            )
        time.sleep(_PAUSE)
    return machine.results / name


def _plan(asked: Rehearsal, machine: Machine) -> bytes:
    """Return the file of the plan that the service would load on that machine. Raises PykexecError."""
    words = [*asked.arguments, "-p", f"--initrd={asked.image}", f"--append={asked.command_line}"]
    options = optionparser.parse([*words, str(asked.capture_kernel)])
    request = cli.request_of(options, Purpose.CRASH, machine)
    plan = loader.plan(machine, request, "load")
    assert isinstance(plan, LoadPlan)
    return planfile.build(plan, planfile.identify(machine, plan.purpose))


def _read(file: Path) -> str:
    return file.read_text("utf-8", "replace").strip()
