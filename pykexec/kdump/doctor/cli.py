"""``pykdump doctor``, and ``pykdump snapshot``, which saves the facts that doctor reads."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from pathlib import Path

import click

from pykexec.errors import FileError, UsageError, printable
from pykexec.kdump import doctor
from pykexec.kdump.console import diagnosis
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.hostfiles import LISTING, HostFiles, RecordedFiles
from pykexec.kdump.options import JSON, MACHINE, chosen
from pykexec.machine import IDENTITY, Machine
from pykexec.machine.sysfs import read_object


@click.command("doctor")
@MACHINE
@click.option(
    "--console-log",
    "console",
    metavar="FILE",
    type=click.Path(),
    help="The serial console's log of a crash (- for standard input): where did it stop?",
)
@click.option("--all", "everything", is_flag=True, help="Also what is fine, and what cannot be told.")
@JSON
def _doctor(snapshot: str | None, console: str | None, everything: bool, as_json: bool) -> int:
    """Say what stands in the way of a dump.

    First comes whether a crash will leave one, and the likeliest reason why not.

    A console's log is judged alone, as it may be of another machine: name its machine, too, with --machine
    (/ for this one).

    Exit status: 0 armed; 1 armed, but something is wrong; 3 not armed, or that cannot be told. Of a log
    alone: 0 the dump was saved; 1 the log does not tell; 3 it was not.
    """
    if console is None:
        return _examine(snapshot, None, everything=everything, as_json=as_json)
    ending = diagnosis.diagnose(log := _console(console))
    if snapshot is not None:
        return _examine(snapshot, log, everything=everything, as_json=as_json)
    print(diagnosis.as_json(ending) if as_json else diagnosis.as_text(ending), end="")
    saved = ending.stage is diagnosis.Stage.SAVED
    nothing_told = ending.stage in (diagnosis.Stage.NO_CRASH, diagnosis.Stage.UNKNOWN)
    return 0 if saved else 1 if nothing_told else 3


def _examine(
    snapshot: str | None, log: diagnosis.ConsoleLog | None, *, everything: bool, as_json: bool
) -> int:
    machine = chosen(snapshot)
    facts = Facts(machine, places=_places(snapshot, machine), console=log)
    found, ending = doctor.diagnose(facts), facts.ending
    if as_json:
        print(doctor.as_json(found, ending=ending), end="")
    else:
        if ending is not None:
            print(diagnosis.as_text(ending))
        print(doctor.as_text(found, everything=everything, ending=ending), end="")
    return doctor.exit_code(found)


@click.command("snapshot")
@click.argument("file", required=False)
@click.option("--list", "only_list", is_flag=True, help="Say what would be in it, and write nothing.")
def _snapshot(file: str | None, only_list: bool) -> int:
    """Write what doctor looks at to FILE (.tar).

    It serves pykdump doctor --machine FILE elsewhere, and plans: pykexec --machine FILE.

    In it are: kdump's configuration, the boot loader's and udev's rules for it, command lines, kernel
    messages, the kernel's configuration, the list of packages, names of devices and mounts, and where things
    lie in memory. Not in it are: contents of memory, kernels, images and keys. Passwords, tokens and the
    like are taken out of command lines, configuration, addresses and messages; of the audit log only
    SELinux's denials are kept. Names of machines and users stay: look before you publish one.
    """
    from pykexec.arch import facts_for
    from pykexec.kdump.doctor import collect
    from pykexec.machine import snapshot

    machine = Machine.live()
    arch_facts, more = facts_for(machine), collect.contents(machine)
    if only_list:
        for name, data in itertools.chain(snapshot.contents(machine, arch_facts), more):
            print(f"{len(data):>9} {printable(name)}")
        return 0
    if file is None:
        raise UsageError("missing argument FILE", hint="name the archive to write, or --list what is in it")
    count = snapshot.write_snapshot(machine, file, arch_facts, more)
    print(f"{file}: {count} files")
    return 0


COMMANDS = (_doctor, _snapshot)


def _places(snapshot: str | None, machine: Machine) -> HostFiles:
    if snapshot is None:
        return HostFiles("/")
    listing = read_object(machine.root, LISTING)
    if listing is not None:
        return RecordedFiles(listing)
    # A folder is either a whole system's root or an unpacked snapshot.
    is_system = Path(snapshot).is_dir() and not Path(snapshot, IDENTITY).exists()
    return HostFiles(snapshot if is_system else None)


def _console(path: str) -> diagnosis.ConsoleLog:
    try:
        if path == "-":
            return diagnosis.parse(*diagnosis.tail(sys.stdin.buffer))
        with Path(path).open("rb") as file:
            if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
                raise UsageError(
                    f"{path} is a device, which has no end", hint="capture what it says in a file"
                )
            return diagnosis.parse(*diagnosis.tail(file))
    except OSError as error:
        raise FileError(f"cannot read the console log {path}: {error.strerror}") from error
