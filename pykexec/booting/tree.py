"""The device tree for the next kernel: the running kernel's, with /chosen rewritten."""

import os
from collections.abc import Sequence

from pykexec.devicetree import FIRMWARE_TREE, UNPACKED_TREE, DeviceTree
from pykexec.errors import DeviceTreeError, MachineError
from pykexec.files import FileData
from pykexec.machine import Machine
from pykexec.memory import KIB, MIB, Range, align_up

SIZE_MAX = 2 * MIB  # booting.rst, "Setup the device tree"

_CHOSEN = "/chosen"
_OF_A_CRASH = ("linux,elfcorehdr", "linux,usable-memory-range")
_IMA = "linux,ima-kexec-buffer"
_HANDED_OVER = {
    _IMA: "IMA's list of measurements",
    "linux,kho-fdt": "state kept by KHO",
    "linux,kho-scratch": "memory kept for KHO",
}
"""What kexec_file_load gives to one kernel; its memory has other uses by now (drivers/of/kexec.c)."""
_PAGE_MAX = 64 * KIB
_KASLR_SEED_SIZE = 8
_RNG_SEED_SIZE = 32


def read_tree(machine: Machine, given: FileData | None) -> DeviceTree:
    """Return the given device tree, else the one the running kernel got, else that in /proc/device-tree.

    Raises MachineError when there is none.
    """
    if given is not None:
        return DeviceTree(given.data, given.path)
    tree = DeviceTree.running(machine.root)
    if tree is not None:
        return tree
    raise MachineError(
        f"there is no device tree: neither /{FIRMWARE_TREE} nor /{UNPACKED_TREE}",
        hint="give one with --dtb",
    )


def not_handed_on(machine: Machine, tree: DeviceTree) -> list[str]:
    """Return what the running kernel has, or got from the one before, and the next kernel will not get."""
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
    """Return the blob with /chosen set for this load; ranges are physical.

    `elfcorehdr` and `usable` (whose order is kept) make it a capture kernel's. Raises DeviceTreeError when
    something does not fit.
    """
    renew(tree, command_line=command_line, initrd=initrd, seed=seed)
    if elfcorehdr is not None:
        tree.set(_CHOSEN, "linux,elfcorehdr", tree.ranges([(elfcorehdr.start, elfcorehdr.size)]))
        ranges = tree.ranges([(each.start, each.size) for each in usable])
        tree.set(_CHOSEN, "linux,usable-memory-range", ranges)
    data = tree.to_bytes()
    if len(data) > SIZE_MAX:
        raise DeviceTreeError(f"the device tree has {len(data)} bytes; the boot protocol allows {SIZE_MAX}")
    return data


def renew(tree: DeviceTree, *, command_line: str, initrd: Range | None, seed: bytes | None) -> None:
    """Set in /chosen what each load sets, and remove what an earlier one did."""
    tree.set(_CHOSEN, "bootargs", os.fsencode(command_line) + b"\0")
    _set_initrd(tree, initrd)
    _set_seeds(tree, seed)
    for name in (*_OF_A_CRASH, *_HANDED_OVER):
        tree.remove(_CHOSEN, name)


def _set_initrd(tree: DeviceTree, initrd: Range | None) -> None:
    """Replace the initrd's addresses: with the old ones the next kernel would unpack whatever is there now.

    The old initrd's memory must not stay reserved either; firmware reserves it in whole pages
    (drivers/of/kexec.c).
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
    """Replace the seeds. A seed is for one boot; without fresh bytes the next kernel gets none."""
    tree.remove(_CHOSEN, "kaslr-seed")
    tree.remove(_CHOSEN, "rng-seed")
    if seed is not None:
        tree.set(_CHOSEN, "kaslr-seed", seed[:_KASLR_SEED_SIZE])
        tree.set(_CHOSEN, "rng-seed", seed[_KASLR_SEED_SIZE : _KASLR_SEED_SIZE + _RNG_SEED_SIZE])
