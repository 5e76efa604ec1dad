"""The device tree for the next kernel: the running one's, with /chosen rewritten."""

import os
from collections.abc import Sequence

from pykexec.devicetree import DeviceTree
from pykexec.errors import DeviceTreeError, MachineError
from pykexec.files import FileData
from pykexec.machine import Machine
from pykexec.memory import KIB, MIB, Range, align_up

FIRMWARE_TREE = "sys/firmware/fdt"
UNPACKED_TREE = "proc/device-tree"
SIZE_MAX = 2 * MIB  # booting.rst, "Setup the device tree"

_CHOSEN = "/chosen"
_OF_A_CRASH = ("linux,elfcorehdr", "linux,usable-memory-range")
_IMA = "linux,ima-kexec-buffer"
_HANDED_OVER = {
    _IMA: "IMA's list of measurements",
    "linux,kho-fdt": "state kept by KHO",
    "linux,kho-scratch": "memory kept for KHO",
}
"""What kexec_file_load gives to one kernel, in memory that has other uses since (drivers/of/kexec.c)."""
_PAGE_MAX = 64 * KIB
_KASLR_SEED_SIZE = 8
_RNG_SEED_SIZE = 32


def read_tree(machine: Machine, given: FileData | None) -> DeviceTree:
    """The device tree given, else the one the running kernel was given, else what /proc/device-tree shows.

    Raises MachineError when there is none.
    """
    if given is not None:
        return DeviceTree(bytes(given.data), given.path)
    tree = of_machine(machine)
    if tree is not None:
        return tree
    raise MachineError(
        f"there is no device tree: neither /{FIRMWARE_TREE} nor /{UNPACKED_TREE}",
        hint="give one with --dtb",
    )


def of_machine(machine: Machine) -> DeviceTree | None:
    """Return the device tree the running kernel was given, else what /proc/device-tree shows, if any."""
    data = machine.read(FIRMWARE_TREE)
    if data is not None:
        return DeviceTree(data, f"/{FIRMWARE_TREE}")
    if machine.root.names(UNPACKED_TREE):
        return DeviceTree.from_folder(machine.root, UNPACKED_TREE)
    return None


def not_handed_on(machine: Machine, tree: DeviceTree) -> list[str]:
    """What the running kernel has, or was given by the one before it, and the next one will not be given."""
    has = {name for name in _HANDED_OVER if tree.get(_CHOSEN, name) is not None}
    has |= {_IMA} if machine.has_measured else set()
    return [what for name, what in _HANDED_OVER.items() if name in has]


def rewrite(
    tree: DeviceTree,
    *,
    command_line: str,
    initrd: Range | None,
    seed: bytes | None,
    elfcorehdr: Range | None = None,
    usable: Sequence[Range] = (),
) -> bytes:
    """The blob with its /chosen set for this load; ranges are physical.

    `elfcorehdr` and `usable`, in its order, make it a capture kernel's. What an earlier load left there is
    taken out. Raises DeviceTreeError when something does not fit.
    """
    tree.set(_CHOSEN, "bootargs", os.fsencode(command_line) + b"\0")
    _set_initrd(tree, initrd)
    _set_seeds(tree, seed)
    for name in (*_OF_A_CRASH, *_HANDED_OVER):
        tree.remove(_CHOSEN, name)
    if elfcorehdr is not None:
        tree.set(_CHOSEN, "linux,elfcorehdr", tree.ranges([(elfcorehdr.start, elfcorehdr.size)]))
        ranges = tree.ranges([(each.start, each.size) for each in usable])
        tree.set(_CHOSEN, "linux,usable-memory-range", ranges)
    data = tree.to_bytes()
    if len(data) > SIZE_MAX:
        raise DeviceTreeError(f"the device tree has {len(data)} bytes; the boot protocol allows {SIZE_MAX}")
    return data


def _set_initrd(tree: DeviceTree, initrd: Range | None) -> None:
    """Addresses of the running kernel's initrd would make the next one unpack whatever is there now.

    Nor must its memory stay reserved for good, which firmware does in whole pages (drivers/of/kexec.c).
    """
    names = "linux,initrd-start", "linux,initrd-end"
    start, end = (int.from_bytes(tree.get(_CHOSEN, name) or b"") for name in names)
    if start < end:
        tree.unreserve(Range(start, align_up(end, _PAGE_MAX)))
    for name in names:
        tree.remove(_CHOSEN, name)
    if initrd is not None:
        tree.set(_CHOSEN, "linux,initrd-start", initrd.start.to_bytes(8))
        tree.set(_CHOSEN, "linux,initrd-end", initrd.end.to_bytes(8))


def _set_seeds(tree: DeviceTree, seed: bytes | None) -> None:
    """A seed is for one boot; without fresh bytes the next kernel gets none."""
    tree.remove(_CHOSEN, "kaslr-seed")
    tree.remove(_CHOSEN, "rng-seed")
    if seed is not None:
        tree.set(_CHOSEN, "kaslr-seed", seed[:_KASLR_SEED_SIZE])
        tree.set(_CHOSEN, "rng-seed", seed[_KASLR_SEED_SIZE : _KASLR_SEED_SIZE + _RNG_SEED_SIZE])
