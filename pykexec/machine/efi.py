"""Facts about EFI that the running kernel shows below /sys/firmware/efi."""

from collections.abc import Mapping

from pykexec.errors import MachineError
from pykexec.machine.root import Root
from pykexec.machine.sysfs import number, read_number, read_text
from pykexec.values import dataclass

_EFI = "sys/firmware/efi"
_SYSTAB_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class EfiRuntimeRegion:
    """A region of the runtime services: addresses in bytes, size in EFI pages (4 KiB)."""

    type: int
    physical: int
    virtual: int
    pages: int
    attribute: int


@dataclass(frozen=True, slots=True)
class EfiFacts:
    """The facts by which a second kernel goes on using EFI."""

    systab: Mapping[str, int]
    """The physical addresses of the tables that the kernel lists: ACPI20, ACPI, SMBIOS, SMBIOS3 ..."""
    fw_vendor: int
    runtime: int
    config_table: int
    runtime_map: tuple[EfiRuntimeRegion, ...]
    """Ascending by physical address; empty when the kernel does not show it."""


def read_efi(root: Root) -> EfiFacts | None:
    """Return the facts about EFI; None on a machine without EFI."""
    if not root.names(_EFI):
        return None
    return EfiFacts(
        systab=_systab(root),
        fw_vendor=read_number(root, f"{_EFI}/fw_vendor") or 0,
        runtime=read_number(root, f"{_EFI}/runtime") or 0,
        config_table=read_number(root, f"{_EFI}/config_table") or 0,
        runtime_map=_runtime_map(root),
    )


def _systab(root: Root) -> dict[str, int]:
    tables = {}
    for line in (read_text(root, f"{_EFI}/systab", _SYSTAB_MAX) or "").splitlines():
        name, _, value = line.partition("=")
        try:
            tables[name.strip()] = number(value, 16)
        except ValueError:
            raise MachineError(
                f"/{_EFI}/systab has a line that is not NAME=0xADDRESS: {line[:60]!r}"
            ) from None
    return tables


def _runtime_map(root: Root) -> tuple[EfiRuntimeRegion, ...]:
    folder = f"{_EFI}/runtime-map"
    regions = []
    for entry in filter(str.isdecimal, root.names(folder)):
        names = ("type", "phys_addr", "virt_addr", "num_pages", "attribute")
        values = [read_number(root, f"{folder}/{entry}/{name}") for name in names]
        if None in values:
            raise MachineError(f"/{folder}/{entry} has not all of the files {', '.join(names)}")
        regions.append(EfiRuntimeRegion(*(value for value in values if value is not None)))
    return tuple(sorted(regions, key=lambda region: region.physical))
