"""``pykdump rehearse``: a crash and its dump, in an emulated machine."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from pykexec import streams, writing
from pykexec.emulation import room
from pykexec.errors import PykexecError, UsageError
from pykexec.kdump.options import JSON
from pykexec.kdump.rehearsal import keeping, report, source
from pykexec.kdump.rehearsal.asked import Rehearsal
from pykexec.kdump.rehearsal.rehearsal import rehearse, saves
from pykexec.kdump.rehearsal.report import Report
from pykexec.kdump.rehearsal.smallest import smallest
from pykexec.kdump.rehearsal.source import Named
from pykexec.kdump.rehearsal.verdict import Result
from pykexec.kdump.service.cli import failing, progress
from pykexec.machine import Machine
from pykexec.memory import MIB, align_up
from pykexec.terminal import width

_FAILED = 3  # as doctor's for the log of a capture that failed
_LOG = "console.log"

Tell = Callable[[str], None]


@click.command("rehearse")
@click.option(
    "--kernel", metavar="FILE", type=click.Path(), help="Crash this kernel, and capture with it, too."
)
@click.option("--initrd", metavar="FILE", type=click.Path(), help="A capture image; by default start's.")
@click.option("--append", help="The capture kernel's command line; by default start's.")
@click.option("--crashkernel", metavar="SIZE", help="What to reserve; by default what is reserved now.")
@click.option("--smallest", "wants_smallest", is_flag=True, help="Find the least that may be reserved, too.")
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    help="Of another machine: all files are named, and the kernel's modules are below DIR.",
)
@click.option("--arch", metavar="NAME", help="Its architecture, where the kernel does not tell.")
@click.option("--memory", metavar="MIB", type=click.IntRange(128), help="The emulated machine's memory.")
@click.option("--cpus", metavar="NUMBER", type=click.IntRange(1), help="Its processors.")
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the console's log there.",
)
@JSON
@failing()
def _rehearse(
    kernel: str | None,
    initrd: str | None,
    append: str | None,
    crashkernel: str | None,
    wants_smallest: bool,
    root: Path | None,
    arch: str | None,
    memory: int | None,
    cpus: int | None,
    keep: Path | None,
    as_json: bool,
) -> int:
    """Crash an emulated machine, and see what dump comes of it.

    QEMU boots this machine's kernel, which loads what pykdump start loads and panics; the capture image
    saves to a scratch disk that stands for the dump target. Nothing of this machine is changed. It takes a
    minute or two, less with KVM.

    Exit status: 0 there is a whole dump, 3 there is none.
    """
    named = Named(kernel, initrd, append, crashkernel, arch, memory and memory * MIB, cpus)
    if arch is not None and root is None:
        raise UsageError("--arch is for another machine's files", hint="add --root DIR")
    with room.scratch() as scratch, progress() as tell:
        if root is not None:
            asked = source.of_files(named, root)
        else:
            asked = source.of_machine(named, scratch, Machine.live())
        result = rehearse(asked, _made(scratch / "rehearsal"), tell)
        again = replace(asked, accelerated=result.accelerated)
        least = _smallest(again, scratch, tell) if wants_smallest and result.is_good else None
        found = Report(result, source.size(asked.crashkernel), least, _kept(result, keep))
        if root is None and named.is_as_started:
            _keep_receipt(asked, found)
    print(report.as_json(found) if as_json else report.as_text(found, width(sys.stdout)), end="")
    return 0 if result.is_good else _FAILED


COMMANDS = (_rehearse,)


def _smallest(asked: Rehearsal, scratch: Path, tell: Tell) -> int | None:
    """Return the smallest reservation that a dump comes of, in bytes."""

    def works(size: int) -> bool:
        text = f"{size // MIB}M"
        folder = _made(scratch / "smallest")
        try:
            return saves(replace(asked, crashkernel=text), folder, lambda told: tell(f"with {text}: {told}"))
        finally:
            shutil.rmtree(folder)

    # All that is loaded has to have room, and be unpacked.
    bottom = align_up(asked.capture_kernel.stat().st_size + asked.image.stat().st_size, MIB)
    return smallest(works, source.size(asked.crashkernel), bottom)


def _keep_receipt(asked: Rehearsal, found: Report) -> None:
    try:
        keeping.keep(asked, found, Machine.live())
    except PykexecError as error:
        streams.complain("pykdump", f"warning: status will not know of this: {error.what}", error.hint)


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _kept(result: Result, keep: Path | None) -> Path | None:
    """Keep the console's log of a rehearsal where it is wanted, or may be of use; return where it is."""
    if keep is None and result.is_good:
        return None
    if keep is None:
        keep = Path(tempfile.mkdtemp(prefix="pykdump-console-"))
    keep.mkdir(parents=True, exist_ok=True)
    writing.write_file(keep / _LOG, result.console, mode=0o600)
    return keep / _LOG
