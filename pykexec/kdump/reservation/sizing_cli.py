"""``pykdump estimate``, ``crashkernel`` and ``resize``: how much memory is reserved, and should be."""

from __future__ import annotations

import sys

import click

from pykexec import writing
from pykexec.errors import FileError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.kdump.options import JSON, MACHINE, chosen
from pykexec.kdump.reservation import crashkernel, estimate, report, resize, running
from pykexec.kdump.service import own
from pykexec.machine import Machine
from pykexec.terminal import width

_NOT_ENOUGH = 3


@click.command("estimate")
@click.option(
    "--kernel", metavar="FILE", type=click.Path(), help="A capture kernel; by default pykdump start's."
)
@click.option(
    "--initrd",
    metavar="FILE",
    type=click.Path(),
    help="Its initial ramdisk; that of start, without --kernel.",
)
@click.option("--append", help="Its command line; that of start, or nr_cpus=1 with --kernel.")
@click.option("--network", is_flag=True, help="The dump goes over the network.")
@MACHINE
@JSON
def _estimate(
    kernel: str | None,
    initrd: str | None,
    append: str | None,
    network: bool,
    snapshot: str | None,
    as_json: bool,
) -> int:
    """Say whether enough memory is reserved.

    Without --kernel it is about what pykdump start would load now: the kernel, and the image that it would
    make. The image is made for that, and not kept.

    Exit status: 0 enough, 3 too little or nothing is reserved, or that cannot be told.
    """
    machine = chosen(snapshot)
    if kernel is not None:
        files = _named(kernel, initrd, append)
    elif machine.is_live:
        files = own.files(machine, initrd=initrd, append=append)
    else:
        raise UsageError("a snapshot has no kernel in it", hint="name one: --kernel FILE")
    result = estimate.estimate(own.inputs(machine, files, network=network))
    clause = running.clause_of(machine, result.recommended)
    verdict = estimate.judge(result, running.reserved(machine), clause)
    if as_json:
        print(estimate.as_json(result, verdict), end="")
    else:
        print(estimate.as_text(result, verdict, width(sys.stdout)), end="")
    return 0 if verdict.is_enough else _NOT_ENOUGH


def _named(kernel: str, initrd: str | None, append: str | None) -> own.Files:
    disk = None if initrd is None else FileData.open(initrd, "initrd")
    line = "nr_cpus=1" if append is None else append
    return own.Files(FileData.open(kernel, "kernel"), disk, line)


@click.command("crashkernel")
@click.argument("parameter", required=False)
@MACHINE
@JSON
def _crashkernel(parameter: str | None, snapshot: str | None, as_json: bool) -> int:
    """Say what crashkernel=PARAMETER would reserve.

    Without PARAMETER: what the running kernel was told, and what it has reserved. Whether there is room for
    what it has not reserved yet, only the next boot can tell.
    """
    machine = chosen(snapshot)
    line = machine.command_line
    if parameter is not None:  # with the name, too, as copied from a command line
        line = crashkernel.PARAMETER + parameter.removeprefix(crashkernel.PARAMETER)
    size = machine.kexec_state.crash_size
    reserved = None if parameter is not None else report.Reserved(size, machine.crash_regions)
    kernel = running.support_of(machine)
    for text in crashkernel.counting(line, kernel):
        # A kernel that has reserved memory understood its parameter.
        if parameter is not None or not size:
            crashkernel.parse(text)
    found = report.Report(line, machine.iomem.system_ram.size, kernel, reserved)
    print(report.as_json(found) if as_json else report.as_text(found, width(sys.stdout)), end="")
    return 0


@click.command("resize")
@click.argument("size")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@JSON
def _resize(size: str, dry_run: bool, as_json: bool) -> int:
    """Give back memory that is reserved beyond SIZE.

    SIZE is such as 192M; the running kernel gets the rest, until the next boot.
    """
    if as_json and not dry_run:
        raise UsageError("--json is for --dry-run", hint="without it there is nothing to say")
    machine = Machine.live()
    clause = _size(size)
    if clause.form is not crashkernel.Form.SIMPLE or clause.offset is not None:
        raise _no_size(size)
    if 0 < clause.size < crashkernel.SMALLEST:
        raise UsageError(
            f"resize: {clause.size} bytes would be left, too little for any kernel",
            hint=crashkernel.why_so_small(clause.size),
        )
    plan = resize.resize(machine, clause.size)
    if as_json:
        print(resize.as_json(plan), end="")
        return 0
    if dry_run or not plan.freed:
        print("\n".join(resize.resize_steps(plan)))
        return 0
    if plan.unload_first:
        raise UsageError(
            "a crash kernel is loaded, and as long as one is, the kernel does not shrink its memory",
            hint="pykexec -p -u, then resize, then load it again",
        )
    _write(plan.path, f"{plan.value}\n")
    return 0


COMMANDS = (_estimate, _crashkernel, _resize)


def _size(text: str) -> crashkernel.Clause:
    try:
        return crashkernel.parse(text)
    except crashkernel.CrashkernelError:
        raise _no_size(text) from None


def _no_size(text: str) -> UsageError:
    return UsageError(f"resize: {text[:80]!r} is no size", hint="give a number: 192M")


def _write(path: str, text: str) -> None:
    try:
        writing.write_value(path, text)
    except FileError as error:
        raise PykexecError(error.what, hint=error.hint) from error
