"""QEMU's devices have the drivers that the engine says: by what modules say, and by QEMU's bus."""

import fnmatch
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pykexec.emulation.devices import (
    DISKS,
    NETWORKS,
    Device,
    disk_options,
    drives_hardware,
    known,
    network_options,
)
from tools.lab import Kernel
from tools.lab.arches.i386 import ARCH as I386
from tools.lab.machine import emulator

MACHINE = I386.emulation
"""Debian's kernel for it has all drivers there are for a PC."""


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel.get("6.1", I386)


@pytest.fixture(scope="module")
def qemu() -> Sequence[str]:
    return emulator(I386)


@pytest.fixture(scope="module")
def devices(qemu: Sequence[str]) -> Sequence[Device]:
    """Those that this QEMU has."""
    has = known(qemu)
    return [each for each in (*DISKS, *NETWORKS) if each.on(MACHINE) in has]


def test_qemu_has_most(devices: Sequence[Device]) -> None:
    """Else all of this file would pass with a QEMU that tells nothing."""
    lacking = {*DISKS, *NETWORKS} - {*devices}
    assert {each.name for each in lacking} <= {"igb", "piix3-ide"}, "of QEMU 8.0 and later, or not of it"


@pytest.fixture(scope="module")
def on_bus(
    qemu: Sequence[str], devices: Sequence[Device], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, str]:
    """What a kernel would find of each on the PCI bus, as in `modalias` of sysfs; without the interface."""
    disk = tmp_path_factory.mktemp("disks") / "disk"
    disk.write_bytes(bytes(1 << 20))
    command = [*qemu, *MACHINE.machine, "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"]
    always = _pci(command).keys()
    found = {}
    for device in devices:
        is_disk = device in DISKS
        options = disk_options(device, MACHINE, 0, disk) if is_disk else network_options(device, MACHINE, 0)
        there = _pci([*command, *options])
        (place,) = there.keys() - always
        found[device.name] = there[place]
    return found


def _pci(command: Sequence[str]) -> Mapping[tuple[int, int], str]:
    """Ask QEMU for what is on its bus, by slot and function."""
    done = subprocess.run(
        command,
        input='{"execute": "qmp_capabilities"} {"execute": "query-pci"} {"execute": "quit"}',
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    (buses,) = (each["return"] for each in answers if isinstance(each.get("return"), list))
    return {(each["slot"], each["function"]): _alias(each) for bus in buses for each in bus["devices"]}


def _alias(device: Mapping[str, Any]) -> str:
    number, kind = device["id"], device["class_info"]["class"]
    subsystem = number.get("subsystem-vendor", 0), number.get("subsystem", 0)
    ids = "pci:v{:08X}d{:08X}sv{:08X}sd{:08X}".format(number["vendor"], number["device"], *subsystem)
    return f"{ids}bc{kind >> 8:02X}sc{kind & 0xFF:02X}"


def test_the_driver_is_for_the_device(
    devices: Sequence[Device], on_bus: Mapping[str, str], kernel: Kernel
) -> None:
    folder = _modules(kernel)
    for device in devices:
        module, alias = device.modules[0], on_bus[device.name]
        # What drives virtio's devices is on a bus of their own, which virtio_pci has.
        driver = MACHINE.virtio[1] if device.name.startswith("virtio") else module
        patterns = [re.sub("i[0-9A-F*]+$", "", each) for each in _aliases(folder[driver])]
        assert any(fnmatch.fnmatchcase(alias, each) for each in patterns), f"{device}: {alias}"


def test_who_drives_hardware(kernel: Kernel) -> None:
    """By depmod's own list of what is for which device, of which a module's file is the source."""
    for name, data in _modules(kernel).items():
        if name in {module for each in (*DISKS, *NETWORKS) for module in each.modules} - {"sd_mod"}:
            assert drives_hardware(data), name
        elif name in ("ext4", "dm_mod", "raid1", "sd_mod", "virtio_ring"):
            assert not drives_hardware(data), name


def _modules(kernel: Kernel) -> Mapping[str, bytes]:
    names = {module for each in (*DISKS, *NETWORKS) for module in each.modules}
    wanted = sorted({*names, MACHINE.virtio[1], "ext4", "raid1"})
    files = kernel.module_folder(each for each in wanted)
    return {Path(path).stem.replace("-", "_"): data for path, data in files.items() if path.endswith(".ko")}


def _aliases(module: bytes) -> Iterator[str]:
    for found in re.finditer(rb"\0alias=(pci:[^\0]+)", module):
        yield found[1].decode()
