"""``pykdump estimate``, ``crashkernel`` and ``resize``: how much memory is reserved, and should be."""

from __future__ import annotations

import click

from pykexec import writing
from pykexec.errors import FileError, PykexecError, UsageError
from pykexec.files import FileData
from pykexec.kdump.options import JSON, MACHINE, chosen
from pykexec.kdump.reservation import crashkernel, estimate, resize, sizing
from pykexec.machine import Machine


@click.command("estimate")
@click.option("--kernel", required=True, metavar="FILE", type=click.Path(), help="The capture kernel.")
@click.option("--initrd", metavar="FILE", type=click.Path(), help="Its initial ramdisk.")
@click.option("--append", default="nr_cpus=1", show_default=True, help="Its command line.")
@click.option("--network", is_flag=True, help="The dump goes over the network.")
@MACHINE
@JSON
def _estimate(
    kernel: str, initrd: str | None, append: str, network: bool, snapshot: str | None, as_json: bool
) -> int:
    """Say how much memory a capture kernel needs.

    Each part is told with what it is for.
    """
    image = FileData.open(kernel, "kernel")
    disk = None if initrd is None else FileData.open(initrd, "initrd")
    inputs = sizing.read_inputs(chosen(snapshot), image, disk, append, network=network)
    result = estimate.estimate(inputs)
    print(estimate.as_json(result) if as_json else estimate.as_text(result), end="")
    return 0


@click.command("crashkernel")
@click.argument("parameter", required=False)
@MACHINE
def _crashkernel(parameter: str | None, snapshot: str | None) -> int:
    """Say what crashkernel= reserves here.

    PARAMETER is what follows =; without it, what the running kernel was told counts. Whether there is room
    for it only the next boot can tell.
    """
    machine = chosen(snapshot)
    line = machine.command_line
    if parameter is not None:  # with the name, too, as copied from a command line
        line = crashkernel.PARAMETER + parameter.removeprefix(crashkernel.PARAMETER)
    kernel = sizing.support_of(machine)
    reserved = machine.kexec_state.crash_size
    for text in crashkernel.counting(line, kernel):
        # A kernel that has reserved memory understood its parameter.
        if parameter is not None or not reserved:
            crashkernel.parse(text)
    total = machine.iomem.system_ram.size
    for told in crashkernel.explain(line, total, kernel):
        print(told)
    if parameter is None and reserved and not crashkernel.reservation(line, total, kernel).size:
        print(
            f"but {crashkernel.size_text(reserved)} are reserved: the running kernel understood it otherwise"
        )
    return 0


@click.command("resize")
@click.argument("size")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def _resize(size: str, dry_run: bool) -> int:
    """Give back memory that is reserved.

    The running kernel gets what is reserved beyond SIZE (such as 192M), until the next boot.
    """
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
