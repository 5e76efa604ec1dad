"""Fedora's and openEuler's grubby, which knows their boot loaders; kdumpctl uses it, too."""

from __future__ import annotations

from collections.abc import Sequence

from pykexec import bootentries
from pykexec.errors import PykexecError
from pykexec.kdump.reservation import crashkernel
from pykexec.kdump.reservation.crashkernel import PARAMETER
from pykexec.kdump.setup import defaults, entries
from pykexec.kdump.setup.change import Change, Command, Edit, is_file, program
from pykexec.kdump.setup.need import Need
from pykexec.machine.root import Root

_FOR_ENTRIES = "/usr/libexec/grubby/grubby-bls"
"""The script for entries that are text files; it looks after the files for new kernels itself."""
_ALL = ("grubby", "--update-kernel=ALL")


def of_grubby(root: Root, machine: str, need: Need) -> Change | None:
    """Return the commands for grubby; None where it is not there. Raises PykexecError."""
    if program(root, "grubby") is None:
        return None
    lines = _lines(root, machine)
    edits = _defaults(root, need)
    if _is_done(root, lines, need):
        return Change("grubby", edits)
    # With a name alone it takes all of that name away; first those go, then ours comes.
    words = (*_ALL, f"--remove-args={PARAMETER.rstrip('=')}", f"--args={need.parameter}")
    return Change("grubby", edits, (Command(words, _back(lines, need)), *entries.zipl(root)))


def _lines(root: Root, machine: str) -> list[tuple[str, str]]:
    """Return each entry's kernel, as a path, and command line; or those of the one that GRUB would start."""
    found = entries.own(root, machine)
    if not found:
        try:
            entry = bootentries.of_grub(root)
        except PykexecError:
            return []
        found = [entry] if entry else []
    return [(f"/{each.kernel}", each.options) for each in found]


def _is_done(root: Root, lines: Sequence[tuple[str, str]], need: Need) -> bool:
    """Return whether all kernels reserve enough; where their lines are not known, whether new ones will."""
    if lines:
        return all(need.is_met_by(line) for _, line in lines)
    return is_file(root, defaults.GRUB_FILE) and need.is_met_by(defaults.line_of(root, defaults.grub(root)))


def _back(lines: Sequence[tuple[str, str]], need: Need) -> tuple[tuple[str, ...], ...]:
    """Return the commands that take ours away, and bring back what was there."""
    away = f"--remove-args={need.parameter}"
    before = {
        kernel: " ".join(f"{PARAMETER}{each}" for each in crashkernel.values(line))
        # Grubby names kernels: of several entries with one, those without a value come first.
        for kernel, line in sorted(lines, key=lambda each: bool(crashkernel.values(each[1])))
    }
    values = set(before.values())
    if len(values) <= 1:
        had = next(iter(values), "")
        return ((*_ALL, away, *([f"--args={had}"] if had else [])),)
    again = [
        ("grubby", f"--update-kernel={kernel}", f"--args={had}") for kernel, had in before.items() if had
    ]
    return ((*_ALL, away), *again)


def _defaults(root: Root, need: Need) -> tuple[Edit, ...]:
    """Return the edit of GRUB's defaults, which the older grubby leaves as they are."""
    if is_file(root, _FOR_ENTRIES) or not is_file(root, defaults.GRUB_FILE):
        return ()
    return defaults.edits_of(root, defaults.grub(root), need)
