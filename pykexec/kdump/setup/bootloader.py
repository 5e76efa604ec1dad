"""The boot loader of a system: which one there is, and what setup changes of its configuration."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.bootpaths import GRUB_CONFIG_MAX, GRUB_CONFIGS, efi_variable, text
from pykexec.errors import PykexecError
from pykexec.kdump.setup import defaults, entries, grubby, textfiles
from pykexec.kdump.setup.change import Change, program
from pykexec.kdump.setup.need import Need
from pykexec.machine.root import Root


def change(root: Root, machine: str, need: Need) -> Change:
    """Return what makes this system's boot loader reserve what is needed; `machine` is ``uname -m``'s word.

    Raises PykexecError, with what to do by hand, for a configuration that cannot be read.
    """
    try:
        found = next(_changes(root, machine, need), None)
    except PykexecError as error:
        error.add_hint(f"put {need.parameter} on the kernel's command line there by hand")
        raise
    return found or Change("none", by_hand=_by_hand(root, machine, need))


def _changes(root: Root, machine: str, need: Need) -> Iterator[Change]:
    """Yield the change of each boot loader that is there, the most likely one first."""
    if root.names("ostree/repo"):
        return
    has_entries_first = (efi_variable(root, "LoaderInfo") or "").startswith("systemd-boot")
    if not has_entries_first:
        yield from _there(grubby.of_grubby(root, machine, need))
        has_entries_first = _grub_starts_entries(root)
    if has_entries_first:
        yield from _there(entries.of_entries(root, machine, need))
    yield from _there(defaults.of_grub(root, need))
    yield from _there(entries.of_entries(root, machine, need))
    yield from _there(textfiles.of_extlinux(root, need))
    yield from _there(textfiles.of_zipl(root, need))
    yield from _there(textfiles.of_raspberry(root, need))


def _there(change: Change | None) -> tuple[Change, ...]:
    return (change,) if change else ()


def _grub_starts_entries(root: Root) -> bool:
    return any("blscfg" in text(root, path, GRUB_CONFIG_MAX) for path in GRUB_CONFIGS)


def _by_hand(root: Root, machine: str, need: Need) -> str:
    if root.names("ostree/repo"):
        if program(root, "rpm-ostree") is None:  # bootc's systems need not have it
            return f"ostree admin kargs edit-in-place --append-if-missing={need.parameter}"
        return f"rpm-ostree kargs --delete-if-present=crashkernel --append={need.parameter}"
    if entries.has_images(root, machine):
        return (
            f"this system boots unified kernel images, whose command line is inside: put {need.parameter}"
            f" into {entries.CMDLINE}, and make them anew (kernel-install add-all, or what makes them here)"
        )
    return f"put {need.parameter} on the kernel's command line: no boot loader that setup knows was found"
