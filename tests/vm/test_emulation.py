"""The engine's machines: a kernel finds its disks and networks, and runs as the trial of KVM says."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.emulation import Running, VirtualMachine, accelerator
from pykexec.emulation.devices import (
    DISKS,
    NETWORKS,
    Device,
    disk_options,
    known,
    network_options,
)
from pykexec.memory import GIB
from tests.vm import jobs
from tests.vm.conftest import RunGuest
from tools.lab import X86_64, Guest, Kernel, Machine
from tools.lab.arches.i386 import ARCH as I386
from tools.lab.machine import emulator

pytestmark = jobs.FURTHER

PC = I386.emulation
"""Debian's kernel for it has all drivers there are for a PC."""

_LOOK = """
for module in {modules}; do modprobe "$module"; done
sleep 10
drivers() {{
    place=$(readlink -f "$1")
    while [ "$place" != /sys ]; do
        if [ -e "$place/driver/module" ]; then basename "$(readlink "$place/driver/module")"; fi
        place=${{place%/*}}
    done
}}
for disk in /sys/block/*/size; do
    echo disk $(cat "$disk") $(drivers "${{disk%/size}}/device")
done > "$OUT/found"
for net in /sys/class/net/*/address; do
    echo net $(cat "$net") $(drivers "${{net%/address}}/device")
done >> "$OUT/found"
"""


@pytest.fixture
def devices() -> Sequence[Device]:
    """All that this QEMU has, at once."""
    has = known(emulator(I386))
    return [each for each in (*DISKS, *NETWORKS) if each.on(PC) in has]


def test_they_are_found(devices: Sequence[Device], run_guest: RunGuest, tmp_path: Path) -> None:
    kernel = Kernel.get("6.1", I386)
    modules = sorted({module for each in devices for module in each.modules})
    guest = Guest(kernel, _LOOK.format(modules=" ".join(modules)), files=kernel.module_folder(modules))
    options = [option for number, each in enumerate(devices) for option in _options(each, number, tmp_path)]
    told = run_guest(guest, Machine(I386, append="", extra=tuple(options))).stage("first").read("found")
    found = {tuple(words[:2]): {*words[2:]} for words in map(str.split, told.splitlines())}
    for number, each in enumerate(devices):
        key = ("disk", str(_sectors(number))) if each in DISKS else ("net", _address(number))
        assert found.get(key, set()) >= {*each.modules}, f"{each.name}: {told}"


def _options(device: Device, number: int, folder: Path) -> Iterator[str]:
    if device not in DISKS:
        yield from network_options(device, PC, number, address=_address(number))
        return
    disk = folder / f"disk-{number}"
    disk.touch()
    with disk.open("r+b") as file:
        file.truncate(_sectors(number) * 512)
    yield from disk_options(device, PC, number, disk)


def _sectors(number: int) -> int:
    """As many as no other disk has, and a multiple of what any controller wants."""
    return 2048 * (16 + number)


def _address(number: int) -> str:
    return f"52:54:00:00:00:{number:02x}"


def test_kvm_is_what_the_trial_says(kernel: Kernel, tmp_path: Path) -> None:
    """Whether or not there is one here that works: a machine comes to its end either way."""
    machine = VirtualMachine(
        X86_64.emulation, kernel.for_emulator(), None, X86_64.line, GIB, program=tuple(emulator(X86_64))
    )
    found = accelerator(machine)
    with Running(replace(machine, accelerator=found.name), tmp_path / "machine", 300) as running:
        running.wait()
    assert f"Linux version {kernel.release}" in running.console, found
    assert "Kernel panic - not syncing: VFS: Unable to mount root fs" in running.console, found
