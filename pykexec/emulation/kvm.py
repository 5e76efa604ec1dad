"""Whether a machine runs on a processor of the host's (KVM), or on emulated ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec.emulation.errors import EmulationError
from pykexec.emulation.machine import KVM, SOFTWARE, VirtualMachine
from pykexec.emulation.programs import is_native
from pykexec.emulation.running import Running

_DEVICE = Path("/dev/kvm")
_SECONDS = 20.0
"""How long a kernel has to say something and to find no root; where KVM works that takes two."""
_GAVE_UP = "KVM internal error"
"""What QEMU says of a machine that stands still from then on (accel/kvm/kvm-all.c)."""
_FIRST_LINE = "Linux version "


@dataclass(frozen=True, slots=True)
class Accelerator:
    """How the instructions of a machine are carried out."""

    name: str
    """KVM or SOFTWARE."""
    why: str = ""
    """Why it is not KVM."""


def accelerator(
    machine: VirtualMachine, *, device: Path = _DEVICE, seconds: float = _SECONDS
) -> Accelerator:
    """Return KVM where the machine's kernel runs with it, which is tried; else emulation.

    That /dev/kvm is there says little: in a machine that is virtual itself, QEMU may start, and the kernel
    never come to its first line. So the kernel is booted, without a root, until it panics. Raises
    EmulationError where QEMU cannot be started at all.
    """
    why = _hindrance(machine, device) or _trial(machine, seconds)
    return Accelerator(SOFTWARE, why) if why else Accelerator(KVM)


def _hindrance(machine: VirtualMachine, device: Path) -> str:
    """Return why there is nothing to try; "" where there is."""
    if machine.emulation.kvm is None:
        return "there is no KVM for such machines"
    if not is_native(machine.emulation, os.uname().machine):
        return "the machine is of another architecture than this one"
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{device} cannot be used: {error.strerror}"
    return ""


def _trial(machine: VirtualMachine, seconds: float) -> str:
    """Return why the machine's kernel does not run with KVM; "" where it does."""
    line = f"console={machine.emulation.console} panic=-1"
    tried = replace(machine, initrd=None, command_line=line, devices=(), accelerator=KVM)
    with (
        tempfile.TemporaryDirectory(prefix="pykexec-") as folder,
        Running(tried, Path(folder), seconds) as running,
    ):
        return _fault(running) or ("" if _FIRST_LINE in running.console else "its kernel said nothing")


def _fault(running: Running) -> str:
    """Return what went wrong until the machine ended; "" where it ended by itself."""
    why = "QEMU failed without a word"
    try:
        while running.goes_on() and _GAVE_UP not in running.said:
            pass
        if running.poll() == 0:
            return ""
    except EmulationError as error:
        why = error.what
    return next(_complaints(running.said), why)


def _complaints(said: str) -> Iterator[str]:
    """Yield the lines in which QEMU says more than a warning."""
    for line in said.splitlines():
        if line.strip() and " warning: " not in line:
            yield line
