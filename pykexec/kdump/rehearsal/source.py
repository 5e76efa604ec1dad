"""What is to be rehearsed: of the running machine what start would load, of another one its files."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec import formats, names
from pykexec.booting import kernel as kernels
from pykexec.emulation import room
from pykexec.errors import FileError, MachineError, UsageError
from pykexec.files import FileData
from pykexec.kdump import capture, config, mounts
from pykexec.kdump.capture import Destination
from pykexec.kdump.config.settings import KernelChoice, Rebuild
from pykexec.kdump.config.targets import FileName, Unfit
from pykexec.kdump.rehearsal.asked import Rehearsal
from pykexec.kdump.reservation import crashkernel, running
from pykexec.kdump.reservation.crashkernel import Form
from pykexec.kdump.service import plan as plans
from pykexec.kdump.service.plan import ServicePlan
from pykexec.machine import Machine
from pykexec.memory import GIB, MIB, align_up
from pykexec.runningkernel import running_kernel

_BESIDE_RESERVATION, _LEAST_BESIDE = 768 * MIB, 256 * MIB
"""What the first kernel has for itself, its system and the plan."""
_MEMINFO = Path("/proc/meminfo")
_CPUS_MAX = 8
"""With more of them an emulated machine is slow; each adds a note to the core headers."""


@dataclass(frozen=True, slots=True)
class Named:
    """What the user names instead of what is found; None for what is not named."""

    kernel: str | None = None
    initrd: str | None = None
    append: str | None = None
    crashkernel: str | None = None
    arch: str | None = None
    memory: int | None = None
    cpus: int | None = None

    @property
    def is_as_started(self) -> bool:
        """Whether that leaves what start would load, or would load for another kernel."""
        return self.initrd is None and self.append is None and self.crashkernel is None


def of_files(named: Named, root: Path) -> Rehearsal:
    """Return the rehearsal of files of another machine, whose modules are below `root`.

    Raises UsageError where something is not named that only that machine knows, FileError, and ImageError.
    """
    if named.kernel is None or named.initrd is None or named.append is None or named.crashkernel is None:
        raise UsageError(
            "of another machine's files all have to be named",
            hint="--kernel, --initrd, --append and --crashkernel",
        )
    kernel = Path(named.kernel)
    release, arch = _identity(FileData.open(kernel, "kernel"))
    reserved = size(named.crashkernel)
    return Rehearsal(
        named.arch or arch,
        kernel,
        release,
        kernel,
        Path(named.initrd),
        named.append,
        named.crashkernel,
        named.memory or memory_for(reserved, None, _free()),
        named.cpus or 1,
        root=root,
    )


def of_machine(named: Named, folder: Path, machine: Machine) -> Rehearsal:
    """Return the rehearsal of what start would load on the running machine. An image goes into `folder`.

    Raises PykexecError.
    """
    plan = _plan(named, machine)
    image, to = _image(plan, folder)
    first, release = Path(plan.kernel), plan.release
    if named.kernel is None and release != machine.kernel_release:
        release = machine.kernel_release
        first = Path("/", running_kernel(machine.root, release, machine.command_line).kernel)
    reserved = running.reserved(machine) if named.crashkernel is None else size(named.crashkernel)
    if not reserved:
        raise MachineError(
            "no memory is reserved for a capture kernel", hint="--crashkernel SIZE says how much would be"
        )
    memory = named.memory or memory_for(reserved, machine.iomem.system_ram.size, _free())
    asked = Rehearsal(
        names.name_of_uname(machine.uname_machine),
        first,
        release,
        Path(plan.kernel),
        image,
        plan.command_line if named.append is None else named.append,
        named.crashkernel or f"{align_up(reserved, MIB) // MIB}M",
        memory,
        named.cpus or min(os.cpu_count() or 1, _CPUS_MAX),
        arguments=plan.settings.kexec_arguments,
    )
    return asked if to is None else _with_target(asked, to, machine)


def _plan(named: Named, machine: Machine) -> ServicePlan:
    """Return what start would load, were that the capture kernel. Raises PykexecError."""
    if named.kernel is None:
        return plans.make(machine, initrd=named.initrd)
    settings = replace(config.required(machine.root), kernel=KernelChoice(path=named.kernel))
    return plans.of_settings(settings, machine, initrd=named.initrd)


def _image(plan: ServicePlan, folder: Path) -> tuple[Path, Destination | None]:
    """Return the capture image, and its target where that is known."""
    if not plan.own_image:
        return Path(plan.initrd), None
    contents = capture.contents(plan.settings, plan.release)
    if plan.settings.rebuild is Rebuild.NEVER and Path(plan.initrd).is_file():
        return Path(plan.initrd), contents.destination
    image = folder / "capture.img"
    capture.build(contents, image)
    return image, contents.destination


def _with_target(asked: Rehearsal, to: Destination, machine: Machine) -> Rehearsal:
    """Return the rehearsal with what is known of the target on this machine."""
    free = None if to.device is None else _room(to.device.number)
    if free is not None:
        # As much of memory as there would be room for on the machine.
        free = free * asked.memory // max(machine.iomem.system_ram.size, asked.memory)
    uuid = to.superblock.uuid if to.superblock else ""
    return replace(asked, controllers=to.drivers, uuid=uuid, room=free)


def _room(number: str) -> int | None:
    """Return the bytes that are free on a mounted file system; None where it is not mounted."""
    point = next((each.point for each in mounts.read() if each.number == number), None)
    if point is None:
        return None
    try:
        status = os.statvfs(point)
    except OSError as error:
        raise FileError(f"cannot look at {point}: {error.strerror}") from error
    return status.f_bavail * status.f_frsize


def _identity(kernel: FileData) -> tuple[str, str]:
    """Return a kernel's release and architecture. Raises UsageError where the file does not tell."""
    facts = kernels.identify(formats.unwrap(kernel)[0])
    release = None if facts is None else facts.release
    if facts is None or release is None:
        raise UsageError(f"{kernel.path} does not tell which kernel it is", hint="name a kernel's image")
    try:
        return FileName(release), facts.arch
    except Unfit as error:
        raise UsageError(f"{kernel.path}: its release{error.fault}") from None


def size(text: str) -> int:
    """Return the bytes that a value of crashkernel= asks for. Raises PykexecError."""
    clause = crashkernel.parse(text)
    if clause.form is Form.RANGES:
        return max((each.size for each in clause.ranges), default=0)
    return clause.size


def memory_for(reservation: int, real: int | None, free: int) -> int:
    """Return the bytes of memory of an emulated machine with such a reservation.

    It is not larger than it has to be, nor, where it works with less, than the real machine. `free` is what
    this machine has. Raises EmulationError where that is too little.
    """
    least = align_up(reservation, MIB) + _LEAST_BESIDE
    wanted = max(GIB, align_up(reservation, MIB) + _BESIDE_RESERVATION)
    return room.memory_for(wanted if real is None else min(wanted, max(real, least)), least, free).size


def _free() -> int:
    """Return the bytes of memory that this machine can spare. Raises FileError, EmulationError."""
    try:
        return room.available(_MEMINFO.read_text())
    except OSError as error:
        raise FileError(f"cannot read {_MEMINFO}: {error.strerror}") from error
