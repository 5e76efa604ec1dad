"""Boot Loader Specification entries, and the command line that kernel-install gives to new ones.

systemd-boot, GRUB (with blscfg) and zipl start what these text files say. kernel-install(8) takes the
command line of a new entry from /etc/kernel/cmdline, else from /usr/lib/kernel/cmdline, and where there is
neither the running kernel's.
"""

from __future__ import annotations

import re

from pykexec import bootentries
from pykexec.bootentries import BootEntry
from pykexec.kdump.reservation.crashkernel import PARAMETER
from pykexec.kdump.setup import defaults
from pykexec.kdump.setup.change import (
    LINE,
    Change,
    Command,
    Edit,
    SetupError,
    changed,
    is_file,
    program,
    read,
    required,
    with_lines,
)
from pykexec.kdump.setup.need import Need
from pykexec.machine.root import Root

CMDLINE = "/etc/kernel/cmdline"
_VENDOR_CMDLINE = "/usr/lib/kernel/cmdline"
_OPTIONS = re.compile(rf"[ \t]*options[ \t]+{LINE}")
_EMPTY_OPTIONS = re.compile(r"[ \t]*options\s*")
_NAMES_KERNEL = re.compile(r"^[ \t]*linux[ \t]", re.MULTILINE)
_LINE = re.compile(rf"\s*{LINE}")


def of_entries(root: Root, machine: str, need: Need) -> Change | None:
    """Return the change of this system's entries; None where there is none. Raises PykexecError.

    `machine` is what ``uname -m`` says.
    """
    texts = own(root, machine)
    if not texts:
        return None
    edits = [_edit(root, each, need) for each in texts]
    edits += kernel_install(root, need)
    edits += _grub_defaults(root, need)
    found = changed(edits)
    return Change("boot entries", found, zipl(root) if found else ())


def own(root: Root, machine: str) -> list[BootEntry]:
    """Return this system's entries that name a kernel: others may be on the same partition."""
    machine_id = (read(root, "/etc/machine-id") or "").strip()
    known = [each for each in bootentries.entries(root, machine) if not _is_image(root, each)]
    return [each for each in known if not (machine_id and each.machine_id) or each.machine_id == machine_id]


def has_images(root: Root, machine: str) -> bool:
    """Return whether there are unified kernel images, whose command line is inside."""
    return any(_is_image(root, each) for each in bootentries.entries(root, machine))


def _is_image(root: Root, entry: BootEntry) -> bool:
    """Return whether it starts an image with its own command line, which options would replace."""
    return entry.is_image or not _NAMES_KERNEL.search(required(root, f"/{entry.source}"))


def _edit(root: Root, entry: BootEntry, need: Need) -> Edit:
    path = f"/{entry.source}"
    text = required(root, path)
    if need.is_met_by(entry.options):
        return Edit(path, text, text)
    lines = text.split("\n")
    places = [index for index, line in enumerate(lines) if _OPTIONS.fullmatch(line)]
    if not places:
        if any(_EMPTY_OPTIONS.fullmatch(line) for line in lines):
            raise SetupError(f"{path}: its options are empty")
        end = "" if text.endswith("\n") else "\n"
        return Edit(path, text, f"{text}{end}options {need.parameter}\n")
    # A key may occur more than once; the lines count one after the other.
    *first, last = places
    for index in first:
        if PARAMETER in lines[index]:
            raise SetupError(
                f"{path}:{index + 1}: a {PARAMETER} that other options follow in line {last + 1}"
            )
    head = "\n".join(lines[:last])
    edit = with_lines(path, "\n".join(lines[last:]), _OPTIONS, need.put_into)
    return Edit(path, text, f"{head}\n{edit.after}" if last else edit.after)


def kernel_install(root: Root, need: Need) -> list[Edit]:
    """Return the edit of the command line for new entries, if there is one. Raises SetupError."""
    text = read(root, CMDLINE)
    source = CMDLINE if text is not None else _VENDOR_CMDLINE
    line = text if text is not None else read(root, _VENDOR_CMDLINE)
    if line is None or need.is_met_by(" ".join(line.split())):
        return []
    if len([each for each in line.split("\n") if each.strip()]) != 1 or line.lstrip().startswith("#"):
        raise SetupError(f"{source}: it is not one line")
    return [Edit(CMDLINE, text, with_lines(source, line, _LINE, need.put_into).after)]


def _grub_defaults(root: Root, need: Need) -> list[Edit]:
    """Return the edit of the file from which GRUB's entries are made anew, where GRUB starts entries."""
    text = read(root, defaults.GRUB_FILE)
    if text is None or "GRUB_ENABLE_BLSCFG" not in text:
        return []
    return list(defaults.edits_of(root, defaults.grub(root), need))


def zipl(root: Root) -> tuple[Command, ...]:
    """Return zipl, which copies the entries to where the machine's loader finds them."""
    if not is_file(root, "/etc/zipl.conf") or program(root, "zipl") is None:
        return ()
    return (Command(("zipl",), (("zipl",),), refreshes=True),)
