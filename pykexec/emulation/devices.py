"""Devices that QEMU has for a kernel's drivers: disks and networks that an image with these finds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from pykexec import children
from pykexec.emulation.errors import EmulationError
from pykexec.emulation.machine import value
from pykexec.emulation.part import Emulation

_SECONDS = 20.0
_VIRTIO = "virtio"
_SCSI, _ATA, _USB = ("scsi-hd", "sd_mod"), ("ide-hd", "sd_mod"), ("usb-storage", "usb_storage", "sd_mod")
_HARDWARE = re.compile(rb"\0alias=(?:acpi\*?|ccw|fsl-mc|of|pci|usb|vio|virtio|vmbus|xen):")
"""What modules say that drive something (scripts/mod/file2alias.c), and that have no other name for it."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device of QEMU's, and what a kernel needs for it."""

    name: str
    """QEMU's name; of virtio ones without the bus."""
    modules: tuple[str, ...]
    """The modules that drive it, its own first; what these need is not among them."""
    disk: str = ""
    """QEMU's name for a disk that it is the controller of; none: it is the disk, or none."""
    needs: str = ""
    """Properties without which the disk is refused, or not found; `{number}` is its number."""

    def on(self, emulation: Emulation) -> str:
        """Return QEMU's name for it on machines of an architecture."""
        return f"{self.name}-{emulation.virtio[0]}" if self.name.startswith(_VIRTIO) else self.name


def _controller(name: str, module: str, behind: Sequence[str], needs: str = "") -> Device:
    disk, *modules = behind
    return Device(name, (module, *modules), disk, needs)


VIRTIO_BLK = Device("virtio-blk", ("virtio_blk",))

DISKS: Sequence[Device] = (
    VIRTIO_BLK,
    _controller("virtio-scsi", "virtio_scsi", _SCSI),
    Device("nvme", ("nvme",), needs="serial=disk{number}"),
    _controller("ich9-ahci", "ahci", _ATA),
    _controller("pvscsi", "vmw_pvscsi", _SCSI),
    _controller("megasas", "megaraid_sas", _SCSI),
    # To mptsas, a disk whose address is 0 is none.
    _controller("mptsas1068", "mptsas", _SCSI, "wwn=0x3{number:015x}"),
    _controller("lsi53c895a", "sym53c8xx", _SCSI),
    _controller("am53c974", "am53c974", _SCSI),
    _controller("piix3-ide", "ata_piix", _ATA),
    _controller("qemu-xhci", "xhci_pci", _USB),
)
"""Where nothing else decides, the first that a kernel can drive: those that cost least to emulate."""

NETWORKS: Sequence[Device] = (
    Device("virtio-net", ("virtio_net",)),
    Device("e1000e", ("e1000e",)),
    Device("igb", ("igb",)),
    Device("vmxnet3", ("vmxnet3",)),
    Device("e1000", ("e1000",)),
    Device("rtl8139", ("8139cp",)),
    Device("pcnet", ("pcnet32",)),
    Device("tulip", ("tulip",)),
    Device("i82559er", ("e100",)),
    Device("ne2k_pci", ("ne2k_pci",)),
)
"""The same for networks."""


def choose(
    devices: Iterable[Device],
    emulation: Emulation,
    modules: Set[str],
    *,
    known: Set[str],
    own: Set[str] = frozenset(),
) -> Device | None:
    """Return the one of these devices that stands best for the machine's own; None where none will do.

    A kernel has `modules`, built in or as files, and QEMU the devices in `known`. `own` are the modules that
    drive the machine's own devices: one of the same driver comes before all others.
    """
    has_pci = emulation.virtio[0] == "pci"
    fit = [
        each
        for each in devices
        if modules >= {*each.modules}
        and each.on(emulation) in known
        and (has_pci or each.name.startswith(_VIRTIO))
    ]
    return min(fit, key=lambda each: each.modules[0] not in own, default=None)


def unproven(own: Iterable[str], chosen: Iterable[Device]) -> Sequence[str]:
    """Return those modules of a machine's own hardware that none of the devices puts to use."""
    used = {module for each in chosen for module in each.modules}
    return tuple(sorted({*own} - used))


def drives_hardware(module: bytes) -> bool:
    """Tell whether a module's file says that it drives devices of some kind."""
    return _HARDWARE.search(module) is not None


def disk_options(device: Device, emulation: Emulation, number: int, file: Path) -> Sequence[str]:
    """Return QEMU's options for a disk with a file's contents, the machine's disk of that number."""
    name, disk = device.on(emulation), _properties(f"drive=disk{number}", device.needs.format(number=number))
    behind = ("-device", f"{name},id=host{number}", "-device", f"{device.disk},bus=host{number}.0,{disk}")
    return (
        *("-drive", f"file={value(file)},if=none,id=disk{number},format=raw,cache=unsafe"),
        *(behind if device.disk else ("-device", f"{name},{disk}")),
    )


def network_options(
    device: Device, emulation: Emulation, number: int, *, address: str = "", restricted: bool = True
) -> Sequence[str]:
    """Return QEMU's options for a network with no other machine in it than QEMU itself.

    Through that the guest comes to servers elsewhere, unless it is `restricted`. `address` is the device's
    MAC address; QEMU gives it one where there is none.
    """
    network = _properties(f"user,id=net{number}", "restrict=on" if restricted else "")
    own = _properties(f"netdev=net{number}", f"mac={address}" if address else "")
    return ("-netdev", network, "-device", f"{device.on(emulation)},{own}")


def _properties(*parts: str) -> str:
    return ",".join(filter(None, parts))


def known(program: Sequence[str]) -> frozenset[str]:
    """Return the names of the devices that a QEMU has. Raises EmulationError, and ChildError."""
    done = children.run([*program, "-device", "help"], seconds=_SECONDS)
    if done.returncode:
        said = done.stderr.decode(errors="replace")
        raise EmulationError(f"{program[0]} does not tell its devices: {said}")
    return frozenset(re.findall(r'^name "([^"]+)"', done.stdout.decode(errors="replace"), re.M))
