"""``pykdump doctor``, and ``pykdump snapshot``, which saves the facts that doctor reads."""

from __future__ import annotations

import itertools
import os
import shlex
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pykexec.errors import FileError, UsageError, printable
from pykexec.kdump import doctor
from pykexec.kdump.console import diagnosis
from pykexec.kdump.doctor import catalogue, fleet
from pykexec.kdump.options import JSON
from pykexec.machine import Machine
from pykexec.terminal import width


@click.command("doctor")
@click.option(
    "--machine",
    "machines",
    metavar="TAR|DIR",
    type=click.Path(),
    multiple=True,
    help="Of the machine of this snapshot, not of this one. May be repeated, and more may follow it.",
)
@click.argument("more", metavar="[TAR|DIR]...", nargs=-1, type=click.Path())
@click.option(
    "--console-log",
    "console",
    metavar="FILE",
    type=click.Path(),
    help="The serial console's log of a crash (- for standard input): where did it stop?",
)
@click.option("--all", "everything", is_flag=True, help="Also what is fine, and what cannot be told.")
@click.option("--list", "only_list", is_flag=True, help="Name all checks, and make none.")
@click.option("--explain", metavar="ID", help="Say what a check looks at, why, and how to mend it.")
@JSON
def _doctor(
    machines: tuple[str, ...],
    more: tuple[str, ...],
    console: str | None,
    everything: bool,
    only_list: bool,
    explain: str | None,
    as_json: bool,
) -> int:
    """Say what stands in the way of a dump.

    It says whether a crash will leave one, and the likeliest reason first if not. Of several machines
    (--machine DIR/*.tar) it prints a table, or with --json an object on a line for each.

    A console's log is judged alone, as it may be of another machine: name its machine, too, with --machine
    (/ for this one).

    Exit status: 0 armed; 1 armed, but something is wrong; 3 not armed, or that cannot be told. Of several
    machines: the highest. Of a log alone: 0 the dump was saved; 1 the log does not tell; 3 it was not.
    """
    if more and not machines:
        raise UsageError(f"unexpected argument {more[0]}", hint=f"--machine {shlex.quote(more[0])}?")
    paths = (*machines, *more)
    if only_list or explain is not None:
        if paths or console is not None or everything or (only_list and explain is not None):
            raise UsageError("--list and --explain go with no option but --json")
        return _show_checks(explain, as_json=as_json)
    if len(paths) > 1:
        if console is not None or everything:
            raise UsageError("--console-log and --all are for one machine", hint="name only one --machine")
        return _examine_all(paths, as_json=as_json)
    if console is None:
        return _examine(next(iter(paths), None), None, everything=everything, as_json=as_json)
    ending = diagnosis.diagnose(log := _console(console))
    if paths:
        return _examine(paths[0], log, everything=everything, as_json=as_json)
    print(diagnosis.as_json(ending) if as_json else diagnosis.as_text(ending, width(sys.stdout)), end="")
    saved = ending.stage is diagnosis.Stage.SAVED
    nothing_told = ending.stage in (diagnosis.Stage.NO_CRASH, diagnosis.Stage.UNKNOWN)
    return 0 if saved else 1 if nothing_told else 3


def _show_checks(id: str | None, *, as_json: bool) -> int:
    checks = doctor.CATALOGUE if id is None else (catalogue.find(doctor.CATALOGUE, id),)
    if as_json:
        text = catalogue.as_json(checks)
    elif id is None:
        text = catalogue.as_list(checks)
    else:
        text = catalogue.as_explanation(checks[0], width(sys.stdout))
    print(text, end="")
    return 0


def _examine_all(paths: Sequence[str], *, as_json: bool) -> int:
    if as_json:
        status = 0
        for path in paths:
            found = fleet.examine(path)
            print(fleet.as_json_line(found), end="", flush=True)
            status = max(status, found.exit_code)
        return status
    rows = [fleet.examine(path) for path in paths]
    print(fleet.as_table(rows, width(sys.stdout)), end="")
    return max(row.exit_code for row in rows)


def _examine(
    snapshot: str | None, log: diagnosis.ConsoleLog | None, *, everything: bool, as_json: bool
) -> int:
    facts = fleet.facts_of(snapshot, log)
    found, ending = doctor.diagnose(facts), facts.ending
    if as_json:
        print(doctor.as_json(found, ending=ending), end="")
    else:
        columns = width(sys.stdout)
        if ending is not None:
            print(diagnosis.as_text(ending, columns))
        print(doctor.as_text(found, everything=everything, ending=ending, columns=columns), end="")
    return doctor.exit_code(found)


@click.command("snapshot")
@click.argument("file", required=False)
@click.option("--list", "only_list", is_flag=True, help="Say what would be in it, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print one JSON object.")
def _snapshot(file: str | None, only_list: bool, as_json: bool) -> int:
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

    if as_json and not only_list:
        raise UsageError("--json is for --list", hint="the snapshot itself is a .tar")
    machine = Machine.live()
    arch_facts, more = facts_for(machine), collect.contents(machine)
    if only_list:
        files = itertools.chain(snapshot.contents(machine, arch_facts), more)
        if as_json:
            print(collect.listing(files), end="")
        else:
            for name, data in files:
                print(f"{len(data):>9} {printable(name)}")
        return 0
    if file is None:
        raise UsageError("missing argument FILE", hint="name the archive to write, or --list what is in it")
    count = snapshot.write_snapshot(machine, file, arch_facts, more)
    print(f"{file}: {count} files")
    return 0


COMMANDS = (_doctor, _snapshot)


def _console(path: str) -> diagnosis.ConsoleLog:
    try:
        if path == "-" and sys.stdin is None:
            raise FileError("cannot read the console log: standard input is closed")
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
