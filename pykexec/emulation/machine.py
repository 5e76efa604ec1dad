"""A virtual machine, and QEMU's command line for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pykexec.emulation.part import Emulation
from pykexec.memory import GIB, KIB, MIB

KVM, SOFTWARE = "kvm", "tcg"

CONSOLE = "console.log"
"""The file that gets the console's text. What is there stays: a saved machine goes on with its own."""
RESULTS = "out.tar"
"""The file that gets what the guest writes to its port `out`."""
TOLD = "go"
"""The pipe through which the guest is told something, at its port of the same name."""
SAID = "qemu.log"
"""The file that gets what QEMU itself says."""


@dataclass(frozen=True, slots=True)
class VirtualMachine:
    """A machine that boots a kernel from files of the host's."""

    emulation: Emulation
    kernel: Path
    """A file that QEMU boots."""
    initrd: Path | None
    command_line: str
    """The kernel's, with its console."""
    memory: int
    """Bytes."""
    cpus: int = 1
    devices: tuple[str, ...] = ()
    """Further QEMU options, such as those of disks."""
    accelerator: str = SOFTWARE
    """KVM or SOFTWARE."""
    parallel: bool = False
    """Whether emulated processors are to run side by side: see `Emulation.software`."""
    hotplug: str = ""
    """What may be added to the memory later, as QEMU's -m has it: "slots=4,maxmem=8G"."""
    firmware: Path | None = None
    """What it starts with, where that is not QEMU's own."""
    program: tuple[str, ...] = ()
    """QEMU's program and its first options; none: the architecture's, from PATH."""


def command(machine: VirtualMachine, folder: Path) -> list[str]:
    """Return QEMU's command line for a machine whose files are in `folder`."""
    emulation = machine.emulation
    bus, _ = emulation.virtio
    kvm = emulation.kvm if machine.accelerator == KVM else None
    return [
        *(machine.program or (emulation.command,)),
        *(emulation.machine if kvm is None else kvm.machine),
        "-accel", emulation.software(parallel=machine.parallel) if kvm is None else KVM,
        "-m", ",".join(filter(None, (size(machine.memory), machine.hotplug))),
        "-smp", str(machine.cpus),
        *(() if machine.firmware is None else ("-bios", os.fspath(machine.firmware))),
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display", "none",
        "-chardev", f"file,id=console,path={value(folder / CONSOLE)},append=on",
        *emulation.serial,
        "-device", f"virtio-serial-{bus}",
        "-chardev", f"file,id=out,path={value(folder / RESULTS)}",
        "-device", "virtserialport,chardev=out,name=out",
        "-chardev", f"pipe,id=go,path={value(folder / TOLD)}",
        "-device", "virtserialport,chardev=go,name=go",
        "-kernel", os.fspath(machine.kernel),
        *(() if machine.initrd is None else ("-initrd", os.fspath(machine.initrd))),
        "-append", machine.command_line,
        *machine.devices,
    ]  # fmt: skip


def value(path: Path) -> str:
    """Return a path as a value in a list of QEMU's options: there a comma stands twice."""
    return os.fspath(path).replace(",", ",,")


def size(count: int) -> str:
    """Return a number of bytes as QEMU reads it, in the largest unit that has it in whole ones."""
    for unit, letter in ((GIB, "G"), (MIB, "M"), (KIB, "K")):
        if count % unit == 0:
            return f"{count // unit}{letter}"
    return f"{count}B"
