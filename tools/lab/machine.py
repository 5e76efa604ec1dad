"""What is run: a machine, as QEMU is told of it, and the guest in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pykexec.emulation import SOFTWARE, VirtualMachine
from pykexec.emulation import machine as engine
from pykexec.emulation.devices import VIRTIO_BLK, disk_options
from pykexec.memory import GIB, MIB

from .arches import Arch
from .arches.x86_64 import ARCH as X86_64
from .debian import architecture, fetch
from .host import LabError, ensure_commands
from .kernels import Kernel

INITRD = "initrd.img"
_UNITS = {"M": MIB, "G": GIB}


@dataclass(frozen=True, slots=True)
class Machine:
    """An emulated machine."""

    arch: Arch = X86_64
    memory: str = "1G"
    """In M or G, then what QEMU's -m may have besides, as in "1G,slots=4,maxmem=8G"."""
    cpus: int = 2
    append: str | None = None
    """Added to the first kernel's command line; None: the usual reservation for a capture kernel."""
    uefi: bool = False
    """Start through UEFI firmware, and on arm64 with ACPI instead of a device tree."""
    parallel: bool = False
    """Run the CPUs side by side, for what is measured: see `Emulation.software` for what may come of it."""
    disks: tuple[Path, ...] = ()
    """Files that are its disks, vda and so on."""
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


def command(machine: Machine, kernel: Kernel, folder: Path) -> list[str]:
    """QEMU's command line for a machine whose files are in `folder`. Raises LabError."""
    return engine.command(virtual(machine, kernel, folder), folder)


def virtual(machine: Machine, kernel: Kernel, folder: Path) -> VirtualMachine:
    """The same for the engine: its initramfs is in `folder`, too. Raises LabError."""
    arch = machine.arch
    append = f"crashkernel={arch.reservation}" if machine.append is None else machine.append
    memory, _, hotplug = machine.memory.partition(",")
    disks = (
        disk_options(VIRTIO_BLK, arch.emulation, number, disk) for number, disk in enumerate(machine.disks)
    )
    return VirtualMachine(
        arch.emulation,
        kernel.for_emulator(),
        folder / INITRD,
        f"{arch.line} {append}",
        int(memory[:-1]) * _UNITS[memory[-1]],
        machine.cpus,
        (*(option for options in disks for option in options), *machine.extra),
        # KVM may be there without working, and what a test shows is to be the same everywhere.
        accelerator=SOFTWARE,
        parallel=machine.parallel,
        hotplug=hotplug,
        firmware=firmware(machine),
        program=tuple(emulator(arch)),
    )


def emulator(arch: Arch) -> Sequence[str]:
    """The emulator's command, installed or fetched if need be. Raises LabError."""
    qemu, program = arch.qemu, arch.emulation.command
    if qemu.suite is None:
        ensure_commands(qemu.packages)
        return [program]
    folders = fetch(qemu.suite, architecture(), sorted(set(qemu.packages.values())))
    programs = [path for folder in folders if (path := folder / "usr/bin" / program).exists()]
    if not programs:
        names = ", ".join(qemu.packages.values())
        raise LabError(f"there is no {program} in {qemu.suite}'s {names}")
    data = [folder for folder in folders if (folder / "usr/share/qemu").exists()]
    return [str(programs[0]), *(word for each in data for word in ("-L", f"{each}/usr/share/qemu"))]


def firmware(machine: Machine) -> Path | None:
    """The firmware that the machine starts with, where that is not QEMU's own. Raises LabError."""
    arch = machine.arch
    wanted = arch.uefi if machine.uefi else arch.bios
    if wanted is None:
        if machine.uefi:
            raise LabError(f"the lab knows no UEFI firmware for {arch.name}")
        return None
    (folder,) = fetch(wanted.package.suite, arch.debian, [wanted.package.name])
    return folder / wanted.path
