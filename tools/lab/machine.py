"""What is run: a machine, as QEMU is told of it, and the guest in it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .arches import Arch
from .arches.x86_64 import ARCH as X86_64
from .debian import architecture, fetch
from .host import LabError, ensure_commands
from .kernels import Kernel


@dataclass(frozen=True, slots=True)
class Machine:
    """An emulated machine."""

    arch: Arch = X86_64
    memory: str = "1G"
    cpus: int = 2
    append: str | None = None
    """Added to the first kernel's command line; None: the usual reservation for a capture kernel."""
    uefi: bool = False
    """Start through UEFI firmware, and on arm64 with ACPI instead of a device tree."""
    parallel: bool = False
    """Run the CPUs side by side, for what is measured: see `_command` for what comes of it at times."""
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
    arch = machine.arch
    append = f"crashkernel={arch.reservation}" if machine.append is None else machine.append
    command_line = f"{arch.line} {append}"
    bios = firmware(machine)
    bus, _ = arch.virtio
    return [
        *emulator(arch),
        *arch.machine,
        # KVM may be there without working; software emulation works everywhere alike. All CPUs share a
        # thread: with one each, QEMU 7.2 was seen to run text that the kernel had just patched as it was
        # before (an int3 that nobody expected: a panic), or to die itself; and two machines at a time are no
        # faster on two cores.
        "-accel", accelerator(arch, "multi" if machine.parallel or arch.parallel else "single"),
        "-m", machine.memory,
        "-smp", str(machine.cpus),
        *(("-bios", os.fspath(bios)) if bios is not None else ()),
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display", "none",
        # What is there stays: a saved machine goes on with the console's text of its boot.
        "-chardev", f"file,id=console,path={folder / 'console.log'},append=on",
        *arch.serial,
        "-device", f"virtio-serial-{bus}",
        "-chardev", f"file,id=out,path={folder / 'out.tar'}",
        "-device", "virtserialport,chardev=out,name=out",
        "-chardev", f"pipe,id=go,path={folder / 'go'}",
        "-device", "virtserialport,chardev=go,name=go",
        "-kernel", os.fspath(kernel.for_emulator()),
        "-initrd", os.fspath(folder / "initrd.img"),
        "-append", command_line,
        *(option for number, disk in enumerate(machine.disks) for option in _drive(number, disk, bus)),
        *machine.extra,
    ]  # fmt: skip


def accelerator(arch: Arch, threads: str) -> str:
    """QEMU's option for emulation with one thread for all processors ("single"), or one each ("multi").

    When there is no room for more translated code, all of it is thrown away. In the room that QEMU takes by
    default what the first kernel left behind stays, and slows the second one down, which writes to those
    pages: arm64's boots took twice as long.
    """
    return f"tcg,thread={threads},tb-size={arch.translations}"


def _drive(number: int, disk: Path, bus: str) -> tuple[str, ...]:
    drive = f"file={disk},if=none,id=disk{number},format=raw,cache=unsafe"
    return ("-drive", drive, "-device", f"virtio-blk-{bus},drive=disk{number}")


def emulator(arch: Arch) -> Sequence[str]:
    """The emulator's command, installed or fetched if need be. Raises LabError."""
    qemu = arch.qemu
    if qemu.suite is None:
        ensure_commands(qemu.packages)
        return [qemu.command]
    folders = fetch(qemu.suite, architecture(), sorted(set(qemu.packages.values())))
    programs = [path for folder in folders if (path := folder / "usr/bin" / qemu.command).exists()]
    if not programs:
        names = ", ".join(qemu.packages.values())
        raise LabError(f"there is no {qemu.command} in {qemu.suite}'s {names}")
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
