"""``pykdump``: the service, sizing, diagnosis, and what is in a dump."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pykexec import __version__, streams
from pykexec.errors import FileError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.kdump import console_log, crashkernel, doctor, estimate, resize, sizing
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.places import LISTING, Listing, Places
from pykexec.kdump.kerneltraits import traits
from pykexec.kdump.service import cli as service
from pykexec.machine import IDENTITY, Machine
from pykexec.machine.text import read_text
from pykexec.vmcore import cli as vmcore

_NAME = "pykdump"

_MACHINE = click.option(
    "--machine",
    "snapshot",
    metavar="TAR|DIR",
    type=click.Path(),
    help="Of the machine of this snapshot, not of this one.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _print_page(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    from pykexec.kdump import manual

    if wanted:
        print(manual.page(group), end="")
        context.exit()


def _print_completion(context: click.Context, _: click.Parameter, shell: str | None) -> None:
    from pykexec.kdump import manual

    if shell is not None:
        print(manual.completion(group, shell), end="")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-v", "--version", message="pykdump %(version)s")
@click.option(
    "--man",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_page,
    help="Print the manual page: pykdump --man | man -l -",
)
@click.option(
    "--completion",
    type=click.Choice(("bash", "zsh", "fish")),
    is_eager=True,
    expose_value=False,
    callback=_print_completion,
    help="Print what completes commands and options in bash, zsh or fish.",
)
def group() -> None:
    """Crash dumps: how much memory they take, whether there will be one, and what is in it."""


for _command in service.COMMANDS:
    group.add_command(_command)
group.add_command(vmcore.dmesg)
group.add_command(vmcore.info)


@group.command("doctor")
@_MACHINE
@click.option(
    "--console-log",
    "console",
    metavar="FILE",
    type=click.Path(),
    help="The serial console's log of a crash (- for standard input): where did it stop?",
)
@click.option("--all", "everything", is_flag=True, help="Also what is fine, and what cannot be told.")
@_JSON
def _doctor(snapshot: str | None, console: str | None, everything: bool, as_json: bool) -> int:
    """Say whether a crash will leave a dump, and what stands in the way; the likeliest thing first.

    A console's log is judged alone, as it may be of another machine: name its machine, too, with --machine
    (/ for this one). Exit status: 0 armed, or with a log alone: the dump was saved; 1 with warnings; 3 there
    will be, or was, no dump.
    """
    if console is None:
        return _examine(snapshot, None, everything=everything, as_json=as_json)
    ending = console_log.diagnose(log := _console(console))
    if snapshot is not None:
        return _examine(snapshot, log, everything=everything, as_json=as_json)
    print(console_log.as_json(ending) if as_json else console_log.as_text(ending), end="")
    saved = ending.stage is console_log.Stage.SAVED
    return 0 if saved else 1 if ending.stage is console_log.Stage.NO_CRASH else 3


def _examine(
    snapshot: str | None, log: console_log.ConsoleLog | None, *, everything: bool, as_json: bool
) -> int:
    machine = _machine(snapshot)
    facts = Facts(machine, places=_places(snapshot, machine), console=log)
    found, ending = doctor.diagnose(facts), facts.ending
    if as_json:
        print(doctor.as_json(found, ending=ending), end="")
    else:
        if ending is not None:
            print(console_log.as_text(ending))
        print(doctor.as_text(found, everything=everything, ending=ending), end="")
    return doctor.exit_code(found)


@group.command("snapshot")
@click.argument("file")
def _snapshot(file: str) -> int:
    """Write what doctor, and plans, look at to FILE (.tar), for pykdump doctor --machine FILE elsewhere.

    It holds configuration, kernel messages and names, but nothing of memory, kernels or keys: look before
    you publish one.
    """
    from pykexec.arch import for_machine
    from pykexec.kdump.doctor import collect
    from pykexec.machine.snapshot import write_snapshot

    machine = Machine.live()
    count = write_snapshot(machine, file, for_machine(machine).facts, collect.contents(machine))
    print(f"{file}: {count} files")
    return 0


@group.command("estimate")
@click.option("--kernel", required=True, metavar="FILE", type=click.Path(), help="The capture kernel.")
@click.option("--initrd", metavar="FILE", type=click.Path(), help="Its initial ramdisk.")
@click.option("--append", default="nr_cpus=1", show_default=True, help="Its command line.")
@click.option("--network", is_flag=True, help="The dump goes over the network.")
@_MACHINE
@_JSON
def _estimate(
    kernel: str, initrd: str | None, append: str, network: bool, snapshot: str | None, as_json: bool
) -> int:
    """Say how much memory a capture kernel needs, and what for."""
    image = FileData.open(kernel, "kernel")
    disk = None if initrd is None else FileData.open(initrd, "initrd")
    inputs = sizing.read_inputs(_machine(snapshot), image, disk, append, network=network)
    result = estimate.estimate(inputs)
    print(estimate.as_json(result) if as_json else estimate.as_text(result), end="")
    return 0


@group.command("crashkernel")
@click.argument("parameter", required=False)
@_MACHINE
def _crashkernel(parameter: str | None, snapshot: str | None) -> int:
    """Say what crashkernel=PARAMETER reserves on this machine; without it, what the running kernel was told.

    Whether there is room for it only the next boot can tell.
    """
    machine = _machine(snapshot)
    line = machine.command_line if parameter is None else f"crashkernel={parameter}"
    kernel = traits(machine.uname_machine, machine.kernel_release, machine.command_line)
    for text in crashkernel.values(line):
        crashkernel.parse(text)
    for told in crashkernel.explain(line, machine.iomem.system_ram.size, kernel):
        print(told)
    return 0


@group.command("resize")
@click.argument("size")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def _resize(size: str, dry_run: bool) -> int:
    """Give back to the running kernel what is reserved beyond SIZE (such as 192M), until the next boot."""
    machine = Machine.live()
    clause = _size(size)
    if clause.form is not crashkernel.Form.SIMPLE or clause.offset is not None:
        raise _no_size(size)
    plan = resize.resize(machine, clause.size)
    if dry_run or not plan.freed:
        print("\n".join(resize.resize_steps(plan)))
        return 0
    if plan.unload_first:
        raise UsageError(
            "a crash kernel is loaded, and the kernel will not shrink below it",
            hint="pykexec -p -u, then resize, then load it again",
        )
    _write(plan.path, f"{plan.value}\n")
    return 0


def _size(text: str) -> crashkernel.Clause:
    try:
        return crashkernel.parse(text)
    except crashkernel.CrashkernelError:
        raise _no_size(text) from None


def _no_size(text: str) -> UsageError:
    return UsageError(f"resize: {text[:80]!r} is no size", hint="give a number: 192M")


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text)
    except OSError as error:
        raise PykexecError(f"cannot write {path}: {error.strerror}", hint="run as root") from error


def _machine(snapshot: str | None) -> Machine:
    return Machine.live() if snapshot is None else Machine.from_snapshot(snapshot)


def _places(snapshot: str | None, machine: Machine) -> Places:
    if snapshot is None:
        return Places("/")
    listing = read_text(machine.root, LISTING)
    if listing is not None:
        return Listing(listing)
    # A folder is a whole system's, or an unpacked snapshot.
    is_system = Path(snapshot).is_dir() and not Path(snapshot, IDENTITY).exists()
    return Places(snapshot if is_system else None)


def _console(path: str) -> console_log.ConsoleLog:
    try:
        if path == "-":
            return console_log.parse(*console_log.tail(sys.stdin.buffer))
        with Path(path).open("rb") as file:
            if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
                raise UsageError(
                    f"{path} is a device, which has no end", hint="capture what it says in a file"
                )
            return console_log.parse(*console_log.tail(file))
    except OSError as error:
        raise FileError(f"cannot read the console log {path}: {error.strerror}") from error


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the script."""
    sys.exit(exit_code(sys.argv[1:] if argv is None else argv))


def exit_code(argv: Sequence[str]) -> int:
    """Run, turning every expected failure into one or two lines and a number."""
    return streams.click_exit_code(_NAME, group, argv)
