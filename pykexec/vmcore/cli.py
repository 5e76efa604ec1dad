"""``dmesg`` and ``info`` for dumps, commands for a click group; and the program ``vmcore-dmesg``."""

import errno
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

import click

from pykexec import streams, terminal
from pykexec.errors import FileError, PykexecError
from pykexec.memory import GIB
from pykexec.vmcore.errors import DumpError

if TYPE_CHECKING:
    from pykexec.vmcore.log import KernelLog
    from pykexec.vmcore.styles import Style

_LOG_MAX = 2 * GIB
"""The most that vmcore-dmesg writes, in bytes: a damaged log must not fill the disk."""
_USAGE, _WRITE_FAILED, _RECORDS_DAMAGED = 1, 53, 69

STYLES = ("vmcore-dmesg", "makedumpfile")


@click.command("dmesg")
@click.argument("dump", nargs=-1, required=True, type=click.Path())
@click.option(
    "--style",
    type=click.Choice(STYLES),
    default=STYLES[0],
    show_default=True,
    help="As vmcore-dmesg prints it, or as makedumpfile --dump-dmesg does.",
)
def dmesg(dump: tuple[str, ...], style: str) -> int:
    """Print the crashed kernel's log.

    DUMP is /proc/vmcore or a saved dump; all parts of a split one.
    """
    return show_log(dump, style)


@click.command("info")
@click.argument("dump", nargs=-1, required=True, type=click.Path())
@click.option("--registers", is_flag=True, help="All registers of all processors, not only two of a few.")
@click.option("--vmcoreinfo", is_flag=True, help="Also what the crashed kernel says of itself: VMCOREINFO.")
@click.option("--all-pages", is_flag=True, help="Unpack every page to see whether it is damaged, not some.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(dump: tuple[str, ...], registers: bool, vmcoreinfo: bool, all_pages: bool, as_json: bool) -> int:
    """Say what a dump holds.

    That is the crash, the machine, and whether makedumpfile and crash can read DUMP.

    Exit status: 0, and 1 where the dump is damaged, not complete, or none.
    """
    return show_info(dump, as_json=as_json, registers=registers, vmcoreinfo=vmcoreinfo, all_pages=all_pages)


COMMANDS = (dmesg, info)


def show_log(paths: Sequence[str], style: str = STYLES[0]) -> int:
    """Write the log to standard output, its damage to standard error; return the exit status, 1 for damage.

    Raises DumpError when no log can be found.
    """
    log, status = _write_log(paths, style, lambda what: streams.complain("pykdump", f"warning: {what}"))
    return status or int(log.damaged > 0)


def show_info(
    paths: Sequence[str],
    *,
    as_json: bool = False,
    registers: bool = False,
    vmcoreinfo: bool = False,
    all_pages: bool = False,
) -> int:
    """Write the facts about a dump to standard output; return the exit status, 1 for damage.

    Raises DumpError.
    """
    from pykexec.vmcore import Dump
    from pykexec.vmcore import info as about

    with Dump.open(*paths) as dump:
        found = about.gather(dump, all_pages=all_pages)
    if as_json:
        text = about.as_json(found)
    else:
        columns = terminal.width(sys.stdout)
        text = about.as_text(found, registers=registers, vmcoreinfo=vmcoreinfo, columns=columns)
    print(text, end="")
    return int(bool(found.damage))


def main_vmcore_dmesg(argv: Sequence[str] | None = None) -> None:
    """Run ``vmcore-dmesg``: one argument, and the exit statuses of the C program. Its entry point."""
    sys.exit(vmcore_dmesg(sys.argv[1:] if argv is None else argv))


def vmcore_dmesg(arguments: Sequence[str]) -> int:
    """Do what ``vmcore-dmesg`` does; return the exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        streams.complain("Usage", "vmcore-dmesg <kernel core file>")
        return _USAGE
    try:
        log, status = _write_log(arguments, STYLES[0], _complain)
        # The C program detects no damage in other layouts.
        return _RECORDS_DAMAGED if log.damaged and log.layout == "records" else status
    except DumpError as error:
        _complain(error.what, error.hint)
        return error.status
    except PykexecError as error:
        _complain(error.what, error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        streams.abandon(sys.stdout)
        if error.errno != errno.EPIPE:  # whoever read the output has seen enough
            _complain(f"cannot write the log: {error.strerror}")
        return _WRITE_FAILED


def _write_log(paths: Sequence[str], style: str, warn: Callable[[str], None]) -> tuple["KernelLog", int]:
    """Return the log after it has been read, and the exit status for one without damage."""
    from pykexec.vmcore import Dump, styles
    from pykexec.vmcore.log import KernelLog

    if sys.stdout is None:
        raise FileError("cannot write the log: standard output is closed")
    with Dump.open(*paths) as dump:
        for what in dump.contents.damage:
            warn(what)
        log = KernelLog(dump)
        form = styles.makedumpfile(char_is_signed=dump.part.char_is_signed)
        if style == STYLES[0]:
            form = styles.vmcore_dmesg
        return log, _write_records(log, form, warn)


def _write_records(log: "KernelLog", form: "Style", warn: Callable[[str], None]) -> int:
    output: BinaryIO = streams.unfiltered(sys.stdout).buffer
    written, status = 0, 0
    try:
        for record in log:
            data = form(record)
            written += len(data)
            if written > _LOG_MAX:
                warn("the log is larger than 2 GiB; the rest was not written")
                status = _WRITE_FAILED
                break
            output.write(data)
    finally:
        output.flush()
        for what in log.damage:
            warn(what)
        if log.damaged > len(log.damage):
            warn(f"and {log.damaged - len(log.damage)} more damaged places")
    return status


def _complain(what: str, hint: str | None = None) -> None:
    streams.complain("vmcore-dmesg", what, hint)
