"""``pykexec``: the command line, with the options of ``kexec``.

Parsing comes first, then `resolve` decides what all options together ask for; their order does not matter.
Only what an action needs is imported: ``-S``, ``-e`` and ``-u`` must be quick.
"""

import enum
import io
import logging
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pykexec import __version__
from pykexec.errors import PykexecError, UsageError
from pykexec.memory import Range
from pykexec.plan import ADDRESS_SPACE, SEED_SIZE, Purpose, Request

if TYPE_CHECKING:
    from pykexec.machine import Machine

_CANNOT_TELL = 255


class Action(enum.Enum):
    """What follows once a kernel is (or was) loaded."""

    NOTHING = "nothing"
    EXECUTE = "execute"
    SHUT_DOWN = "shut down"


@dataclass(frozen=True, slots=True)
class Options:
    """The command line, parsed but not judged."""

    kernel: str | None = None
    load: bool = False
    load_panic: bool = False
    unload: bool = False
    execute: bool = False
    force: bool = False
    status: bool = False
    debug: bool = False
    no_checks: bool = False
    no_ifdown: bool = False
    no_sync: bool = False
    kexec_syscall: bool = False
    kexec_syscall_auto: bool = False
    kexec_file_syscall: bool = False
    initrd: str | None = None
    dtb: str | None = None
    append: str | None = None
    reuse_cmdline: bool = False
    mem_min: int | None = None
    mem_max: int | None = None
    entry: int | None = None
    dry_run: bool = False
    json: bool = False
    machine: str | None = None
    snapshot: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """What the options together ask for."""

    purpose: Purpose
    status: bool = False
    unload: bool = False
    load: bool = False
    plan_only: bool = False
    then: Action = Action.NOTHING


def resolve(options: Options) -> Task:
    """Decide what to do. Raises UsageError, naming the options, for what cannot go together."""
    purpose = Purpose.CRASH if options.load_panic else Purpose.BOOT
    if options.status:
        # kexec -S asks for the crash kernel unless -l is given.
        return Task(Purpose.BOOT if options.load else Purpose.CRASH, status=True)
    _refuse_contradictions(options)
    if options.kexec_file_syscall:
        raise PykexecError("-s: kexec_file_load(2) is not supported yet", hint="use -c or -a: kexec_load(2)")
    loads = not (options.unload or options.snapshot) and (options.load or not options.execute)
    if not loads:
        _refuse_what_is_for_loads(options)
    if options.unload:
        return Task(purpose, unload=True)
    if loads and options.kernel is None:
        raise PykexecError("No kernel specified", hint="pykexec -l KERNEL, or pykexec --help")
    if not loads and options.kernel is not None:
        raise UsageError(
            f"-e starts the kernel that is loaded; {options.kernel} is one kernel too many",
            hint="load and start it: pykexec -l -e KERNEL",
        )
    plan_only = options.dry_run or options.machine is not None
    return Task(purpose, load=options.kernel is not None, plan_only=plan_only, then=_then(options))


def _then(options: Options) -> Action:
    if options.execute or options.force:
        return Action.EXECUTE
    if options.load or options.load_panic or options.snapshot is not None:
        return Action.NOTHING
    return Action.SHUT_DOWN


_FOR_LOADS = (
    "initrd",
    "dtb",
    "append",
    "reuse_cmdline",
    "mem_min",
    "mem_max",
    "entry",
    "no_checks",
    "dry_run",
    "json",
    "machine",
)


def _refuse_what_is_for_loads(options: Options) -> None:
    """An option that cannot be honoured is an error (the C tool: "bogus options")."""
    for name in _FOR_LOADS:
        if getattr(options, name) not in (None, False):
            raise UsageError(
                f"{_spelled(name)} is for loading a kernel, which -e, -u and --snapshot do not do"
            )


_CONTRADICTIONS = (
    ("load", "load_panic"),
    ("load_panic", "execute"),
    ("load_panic", "force"),
    ("unload", "execute"),
    ("unload", "force"),
    ("unload", "kernel"),
    ("snapshot", "execute"),
    ("snapshot", "kernel"),
)
_SPELLING = {
    "load": "-l",
    "load_panic": "-p",
    "unload": "-u",
    "execute": "-e",
    "force": "-f",
    "kernel": "a kernel",
}


def _refuse_contradictions(options: Options) -> None:
    for one, other in _CONTRADICTIONS:
        if getattr(options, one) and getattr(options, other):
            raise UsageError(
                f"{_spelled(one)} and {_spelled(other)} cannot go together", hint="see pykexec --help"
            )


def _spelled(name: str) -> str:
    return _SPELLING.get(name, "--" + name.replace("_", "-"))


_OCTAL = re.compile("0[0-7]*")
_NUMBER_TEXT = re.compile("0[xX][0-9a-fA-F]+|[1-9][0-9]*")


class _Number(click.ParamType[int]):
    """A number as C writes it: 0x10, 020, 16 (strtoul with base 0)."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            text = str(value)
            octal = _OCTAL.fullmatch(text)
            number = int(text, 8 if octal else 0) if octal or _NUMBER_TEXT.fullmatch(text) else -1
        except ValueError:
            number = -1
        if not 0 <= number < 1 << 64:
            name = param.opts[0] if param else "option"
            raise UsageError(
                f"Bad option value in {name}={value}", hint="give a number: 0x1000000, 16777216"
            )
        return number


_NUMBER = _Number()


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 wrong usage or nothing reserved, 255 the load failed;"
    " -S: 1 loaded, 0 not loaded.",
)
@click.version_option(__version__, "-v", "--version", message="pykexec %(version)s")
@click.argument("kernel", required=False)
@click.option("-l", "--load", is_flag=True, help="Load KERNEL, to be started with -e.")
@click.option("-p", "--load-panic", is_flag=True, help="Load KERNEL, to be started when the system panics.")
@click.option("-e", "--exec", "execute", is_flag=True, help="Start the loaded kernel, without a shutdown.")
@click.option("-f", "--force", is_flag=True, help="Load KERNEL and start it, without a shutdown.")
@click.option("-u", "--unload", is_flag=True, help="Forget the loaded kernel (with -p: the crash kernel).")
@click.option(
    "-S", "--status", is_flag=True, help="Exit with 1 if a crash kernel (with -l: a kernel) is loaded."
)
@click.option("--initrd", "--ramdisk", "initrd", metavar="FILE", help="Initial ramdisk for KERNEL.")
@click.option("--dtb", metavar="FILE", help="Device tree for KERNEL, instead of the running kernel's.")
@click.option("--append", "--command-line", "append", metavar="TEXT", help="Command line for KERNEL.")
@click.option(
    "--reuse-cmdline", is_flag=True, help="Put the running kernel's command line before that of --append."
)
@click.option("-i", "--no-checks", is_flag=True, help="Start KERNEL without comparing digests first.")
@click.option("-x", "--no-ifdown", is_flag=True, help="Leave network interfaces up.")
@click.option("-y", "--no-sync", is_flag=True, help="Do not write cached data to disk first.")
@click.option("--mem-min", type=_NUMBER, help="Load nothing below this physical address.")
@click.option("--mem-max", type=_NUMBER, help="Load nothing above this physical address.")
@click.option("--entry", type=_NUMBER, help="Enter KERNEL at this physical address.")
@click.option(
    "-c", "--kexec-syscall", is_flag=True, help="Use kexec_load(2); pykexec does nothing else yet."
)
@click.option(
    "-a", "--kexec-syscall-auto", is_flag=True, help="Use the system call that works: kexec_load(2)."
)
@click.option("-s", "--kexec-file-syscall", is_flag=True, help="Use kexec_file_load(2): an error, so far.")
@click.option("-d", "--debug", is_flag=True, help="Tell the story of the load on standard error.")
@click.option("--dry-run", is_flag=True, help="Print the plan; load nothing.")
@click.option("--json", is_flag=True, help="Print the plan as JSON.")
@click.option("--machine", metavar="TAR|DIR", help="Plan for the machine of this snapshot; load nothing.")
@click.option(
    "--snapshot", metavar="TAR", help="Write what a plan needs to know of this machine, and nothing secret."
)
def command(**given: Any) -> int:
    """Load a second Linux kernel, and start it now or when the running one panics."""
    return run(Options(**given))


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the script; exits with kexec's exit codes."""
    sys.exit(exit_code(sys.argv[1:] if argv is None else argv))


def exit_code(argv: Sequence[str]) -> int:
    """Run, turning every expected failure into one or two lines and a number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a command line may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        status = int(command.main(list(argv), prog_name="pykexec", standalone_mode=False) or 0)
        sys.stdout.flush()
        return status
    except PykexecError as error:
        _complain(error.what, error.hint)
        return error.exit_code
    except click.ClickException as error:
        _complain(error.format_message(), "see pykexec --help")
        return UsageError.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _complain(f"{error.filename or 'unexpected error'}: {error.strerror}", None)
        return PykexecError.exit_code


def _complain(what: str, hint: str | None) -> None:
    print(f"pykexec: {what}", file=sys.stderr)
    if hint:
        print(f"         {hint}", file=sys.stderr)


def run(options: Options) -> int:
    """Do what the options ask for; the exit code."""
    from pykexec.machine import Machine

    task = resolve(options)
    if options.debug:
        logging.basicConfig(
            stream=sys.stderr, level=logging.DEBUG, format="pykexec: %(message)s", force=True
        )
    machine = Machine.from_snapshot(options.machine) if options.machine else Machine.live()
    if options.snapshot is not None:
        return _snapshot(machine, options.snapshot)
    if task.status:
        return _status(machine, task.purpose)
    if machine.is_live and not task.plan_only:
        _require_privilege(machine)
    if task.unload:
        from pykexec import loader

        loader.unload(task.purpose, machine)
        return 0
    if task.load:
        _load(machine, _request(options, task.purpose, machine), task, options)
    if not task.plan_only:
        _go(machine, task.then, options)
    return 0


def _require_privilege(machine: "Machine") -> None:
    """Before any work, and before anything is touched."""
    from pykexec import explain

    if not explain.may_boot(machine):
        raise PykexecError("loading, unloading and starting a kernel take CAP_SYS_BOOT", hint="run as root")


def _status(machine: "Machine", purpose: Purpose) -> int:
    from pykexec import loader

    loaded = loader.status(purpose, machine)
    return _CANNOT_TELL if loaded is None else int(loaded)


def _snapshot(machine: "Machine", path: str) -> int:
    from pykexec.arch import for_machine
    from pykexec.machine.snapshot import write_snapshot

    count = write_snapshot(machine, path, for_machine(machine).facts)
    print(f"{path}: {count} files")
    return 0


def _request(options: Options, purpose: Purpose, machine: "Machine") -> Request:
    if options.kernel is None:
        raise UsageError("No kernel specified")
    return Request.from_paths(
        options.kernel,
        initrd=options.initrd,
        device_tree=options.dtb,
        purpose=purpose,
        append=options.append,
        reuse_command_line=options.reuse_cmdline,
        within=_bounds(options),
        entry=options.entry,
        skip_checks=options.no_checks,
        seed=_seed() if machine.is_live else None,
    )


def _bounds(options: Options) -> Range:
    start = options.mem_min or ADDRESS_SPACE.start
    end = (
        ADDRESS_SPACE.end if options.mem_max is None else options.mem_max + 1
    )  # the option's end is inclusive
    if start >= end:
        raise UsageError(f"--mem-min={start:#x} is above --mem-max={end - 1:#x}")
    return Range(start, end)


def _seed() -> bytes | None:
    try:
        return os.getrandom(SEED_SIZE, os.GRND_NONBLOCK)
    except BlockingIOError:  # early in the boot there is none to give
        return None


def _load(machine: "Machine", request: Request, task: Task, options: Options) -> None:
    from pykexec import loader, report

    plan = loader.plan_load(machine, request)
    if options.json or task.plan_only:
        print(report.as_json(plan) if options.json else report.as_text(plan), end="")
    else:
        for warning in plan.warnings:
            print(f"pykexec: warning: {warning}", file=sys.stderr)
    if options.debug and not task.plan_only:
        print(report.as_text(plan), end="", file=sys.stderr)
    if not task.plan_only:
        loader.load(plan, machine)


def _go(machine: "Machine", action: Action, options: Options) -> None:
    if action is Action.NOTHING:
        return
    from pykexec import execute

    if action is Action.EXECUTE:
        execute.execute(machine, sync=not options.no_sync, ifdown=not options.no_ifdown)
    else:
        execute.shut_down(machine)
