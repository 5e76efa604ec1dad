"""What started the machine: UEFI, or something that only hands its tables over."""

from pykexec.machine import Machine

_EFI, _ACPI, _TREE = "sys/firmware/efi", "sys/firmware/acpi/tables", "sys/firmware/fdt"


def is_uefi(machine: Machine) -> bool:
    """Return whether UEFI started the machine.

    QEMU's own tables (hw/loongarch/boot.c) have a device tree and no ACPI.
    """
    names = machine.root.names
    has_tree_alone = not names(_ACPI) and machine.read(_TREE) is not None
    return bool(names(_EFI)) and not has_tree_alone
