"""What is run: a machine, as QEMU is told of it, and the guest in it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .arches import X86_64, Arch
from .debian import fetch
from .kernels import Kernel


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
    command_line = f"console={arch.console} panic=-1 {machine.append}"
    bios = ("-bios", os.fspath(firmware(arch))) if machine.uefi else ()
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
        *bios,
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display", "none",
        # What is there stays: a saved machine goes on with the console's text of its boot.
        "-chardev", f"file,id=console,path={folder / 'console.log'},append=on",
        "-serial", "chardev:console",
        "-device", "virtio-serial-pci",
        "-chardev", f"file,id=out,path={folder / 'out.tar'}",
        "-device", "virtserialport,chardev=out,name=out",
        "-chardev", f"pipe,id=go,path={folder / 'go'}",
        "-device", "virtserialport,chardev=go,name=go",
        "-kernel", os.fspath(kernel.image),
        "-initrd", os.fspath(folder / "initrd.img"),
        "-append", command_line,
        *(option for number, disk in enumerate(machine.disks) for option in _drive(number, disk)),
        *machine.extra,
    ]  # fmt: skip


def _drive(number: int, disk: Path) -> tuple[str, ...]:
    drive = f"file={disk},if=none,id=disk{number},format=raw,cache=unsafe"
    return ("-drive", drive, "-device", f"virtio-blk-pci,drive=disk{number}")


def firmware(arch: Arch) -> Path:
    """The UEFI firmware of machines that have one. Raises LabError."""
    package, file = arch.uefi
    (folder,) = fetch("bookworm", arch.debian, [package])
    return folder / file
