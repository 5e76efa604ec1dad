"""Remedies as commands, for the machine's distribution."""

from __future__ import annotations

import re

from pykexec.kdump import programs
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.shell import NO_COMMAND, Command, run, write
from pykexec.kdump.reservation import crashkernel
from pykexec.kdump.reservation.crashkernel import Clause

START = run("pykdump", "start")
REBOOT = run("reboot")
SET_UP = run("pykdump", "setup").then(REBOOT)
"""For a machine whose boot loader has no crashkernel= yet: setup knows more boot loaders than `reserve`."""

_GRUB_FOLDER = "/etc/default/grub.d"
_GRUB_FILE = f"{_GRUB_FOLDER}/pykdump.cfg"
# deb-control(5), Package. Names in other package formats begin with and contain the same characters.
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{1,99}")


def reserve(facts: Facts, clause: Clause) -> Command:
    """Return a command that reserves what the clause asks for from the next boot on.

    There is no command where the way is not known, or where the clause would have no effect beside the
    crashkernel= parameters that are there already.
    """
    parameter = f"{crashkernel.PARAMETER}{crashkernel.render(clause)}"
    if has(facts, "grubby"):  # it replaces those that are there
        how, line = run("grubby", "--update-kernel=ALL", f"--args={parameter}"), parameter
    elif has(facts, "update-grub") or (not facts.places.are_known and facts.text("var/lib/dpkg/status")):
        # After kdump-tools.cfg, which sets one, too: the last of several plain ones counts.
        how = run("mkdir", "-p", _GRUB_FOLDER)
        how = how.then(write(_GRUB_FILE, f'{_GRUB_VARIABLE}="${_GRUB_VARIABLE} {parameter}"'))
        how, line = how.then(run("update-grub")), f"{facts.machine.command_line} {parameter}"
    else:
        return NO_COMMAND
    found = crashkernel.reservation(line, facts.total_memory, facts.support)
    return how.then(REBOOT) if found.clause == clause and found.size else NO_COMMAND


_GRUB_VARIABLE = "GRUB_CMDLINE_LINUX_DEFAULT"


def install(facts: Facts, package: str) -> Command:
    """Return a command that installs a package, or its newest version; none for an impossible name."""
    if not is_package(package):
        return NO_COMMAND
    if has(facts, "apt-get") or facts.text("var/lib/dpkg/status"):
        return run("apt-get", "install", package)
    managers = ("dnf", "zypper")
    return next((run(each, "install", package) for each in managers if has(facts, each)), NO_COMMAND)


def is_package(name: str) -> bool:
    """Return whether a package can have that name."""
    return _PACKAGE.fullmatch(name) is not None


def ways(facts: Facts, *lines: str) -> str:
    """Return the commands with an installed program, as a list for people; all where that is unknown."""
    there = [each for each in lines if not facts.places.are_known or has(facts, each.partition(" ")[0])]
    return ", ".join(there)


def has(facts: Facts, program: str) -> bool:
    """Return whether a program is known to exist."""
    return any(facts.places.size(each) is not None for each in programs.places(program))
