"""The device that stands for a machine's own is one that the image can drive and QEMU has."""

import os
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec import emulation
from pykexec.emulation import EmulationError
from pykexec.emulation.devices import (
    DISKS,
    NETWORKS,
    Device,
    choose,
    disk_options,
    known,
    network_options,
    unproven,
)

PC, CHANNELS = emulation.find("x86_64"), emulation.find("s390x")
ALL = frozenset(each.on(PC) for each in (*DISKS, *NETWORKS))
_MODULES = sorted({module for each in (*DISKS, *NETWORKS) for module in each.modules})
_SETS = st.frozensets(st.sampled_from(_MODULES))


def _name(device: Device | None) -> str | None:
    return None if device is None else device.name


@pytest.mark.parametrize(
    ("modules", "own", "name"),
    [
        # A rack server, a virtual machine, and a workstation, with the images that they get.
        ("megaraid_sas sd_mod", "megaraid_sas sd_mod", "megasas"),
        ("virtio_blk virtio_scsi sd_mod", "virtio_scsi sd_mod", "virtio-scsi"),
        ("virtio_blk nvme ahci sd_mod", "nvme", "nvme"),
        ("vmw_pvscsi sd_mod mptspi", "vmw_pvscsi sd_mod", "pvscsi"),
        # What QEMU has nothing for is stood for by what the image can drive besides.
        ("mpt3sas sd_mod virtio_blk", "mpt3sas sd_mod", "virtio-blk"),
        ("mpt3sas sd_mod ahci", "mpt3sas sd_mod", "ich9-ahci"),
        ("mpt3sas sd_mod", "mpt3sas sd_mod", None),
        # A controller without what drives the disks behind it is no disk.
        ("megaraid_sas", "megaraid_sas", None),
        ("usb_storage sd_mod", "usb_storage", None),
        ("", "", None),
    ],
)
def test_disk(modules: str, own: str, name: str | None) -> None:
    found = choose(DISKS, PC, {*modules.split()}, known=ALL, own={*own.split()})
    assert _name(found) == name


def test_what_an_older_qemu_does_not_have() -> None:
    modules = {"igb", "virtio_net"}
    assert _name(choose(NETWORKS, PC, modules, known=ALL, own={"igb"})) == "igb"
    assert _name(choose(NETWORKS, PC, modules, known=ALL - {"igb"}, own={"igb"})) == "virtio-net"


def test_machines_without_pci_have_virtio_alone() -> None:
    modules = {"nvme", "virtio_blk"}
    known = ALL | {"virtio-blk-ccw"}
    assert _name(choose(DISKS, CHANNELS, modules, known=known, own={"nvme"})) == "virtio-blk"
    assert choose(DISKS, CHANNELS, {"nvme"}, known=known, own={"nvme"}) is None


@given(_SETS, _SETS, st.frozensets(st.sampled_from(sorted(ALL))))
def test_choice(modules: frozenset[str], own: frozenset[str], known: frozenset[str]) -> None:
    for devices in (DISKS, NETWORKS):
        found = choose(devices, PC, modules, known=known, own=own)
        possible = [each for each in devices if modules >= {*each.modules} and each.on(PC) in known]
        if found is None:
            assert not possible
            continue
        assert found in possible
        if any(each.modules[0] in own for each in possible):
            assert found.modules[0] in own, "the machine's own comes first"
        rest = unproven(own, [found])
        assert {*rest} == own - {*found.modules}


def test_options_do_not_leave_their_place() -> None:
    """A path with a comma, and two disks of one kind."""
    for device in DISKS:
        first, second = (disk_options(device, PC, number, Path("/a,b=c/d")) for number in (0, 1))
        assert "file=/a,,b=c/d" in first[1]
        ids = [
            {word for option in options for word in option.split(",") if word.startswith("id=")}
            for options in (first, second)
        ]
        assert not ids[0] & ids[1]


def test_a_network_leads_nowhere_unless_it_is_asked_for() -> None:
    (device,) = (each for each in NETWORKS if each.name == "e1000e")
    assert "restrict=on" in network_options(device, PC, 0)[1]
    told = network_options(device, PC, 0, address="52:54:00:00:00:01", restricted=False)
    assert "restrict" not in told[1]
    assert told[3] == "e1000e,netdev=net0,mac=52:54:00:00:00:01"


def test_a_qemu_that_fails_is_said(tmp_path: Path) -> None:
    program = tmp_path / "qemu"
    program.write_text('#!/bin/sh\necho \'name "nvme", bus PCI, desc "x"\'\necho \'name "igb", bus PCI\'\n')
    program.chmod(0o755)
    assert known([os.fspath(program)]) == {"nvme", "igb"}
    program.write_text(f"#!/bin/sh\necho {shlex.quote('no such thing')} >&2; exit 1\n")
    with pytest.raises(EmulationError, match="does not tell its devices: no such thing"):
        known([os.fspath(program)])
