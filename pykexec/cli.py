"""``pykexec``: the command line, with the options of ``kexec``.

Options are parsed first; then `resolve` decides what all of them together ask for. Their order does not
matter. Functions import what they need, because ``-S``, ``-e`` and ``-u`` must be quick.
"""

from __future__ import annotations

import enum
import gc
import os
import sys

from pykexec import KEXEC_TOOLS, __version__, log, optionparser, streams
from pykexec import options as table
from pykexec.errors import PykexecError, UsageError
from pykexec.options import Options, spelling, spelling_of
from pykexec.purpose import Purpose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pykexec.files import FileData
    from pykexec.initramfs import Addition
    from pykexec.machine import Machine
    from pykexec.memory import Range
    from pykexec.plan import FileLoadPlan, LoadPlan, Module, Request

_NAME = "pykexec"
_CANNOT_TELL = 255


class Afterwards(enum.Enum):
    """The step that follows a load."""

    NOTHING = enum.auto()
    EXECUTE = enum.auto()
    SHUT_DOWN = enum.auto()


class Task:
    """The work that all options together ask for."""

    __slots__ = ("load", "plan_only", "purpose", "status", "then", "unload")

    def __init__(
        self,
        purpose: Purpose,
        *,
        status: bool = False,
        unload: bool = False,
        load: bool = False,
        plan_only: bool = False,
        then: Afterwards = Afterwards.NOTHING,
    ) -> None:
        self.purpose = purpose
        self.status = status
        self.unload = unload
        self.load = load
        self.plan_only = plan_only
        self.then = then


def resolve(options: Options) -> Task:
    """Return what to do. Raises UsageError, which names the options, where they contradict each other."""
    purpose = Purpose.CRASH if options.load_panic else Purpose.BOOT
    if options.status:
        if options.snapshot is not None:
            raise UsageError("--snapshot and --status cannot go together", hint="see pykexec --help")
        _refuse_what_is_for_loads(options, but="machine")
        # kexec -S asks for the crash kernel unless -l is given.
        return Task(Purpose.BOOT if options.load else Purpose.CRASH, status=True)
    _refuse_what_cannot_be(options)
    _refuse_contradictions(options)
    asked = options.load or options.preserve_context or options.jump_back_helper or options.load_plan
    loads = not (options.unload or options.snapshot is not None) and (asked or not options.execute)
    if not loads:
        _refuse_what_is_for_loads(options)
    if options.unload:
        return Task(purpose, unload=True)
    names_one = (options.kernel, options.entry_id, options.load_plan) != (None,) * 3 or options.reuse_kernel
    if loads and not names_one and not options.jump_back_helper:
        raise PykexecError("No kernel specified", hint="pykexec -l KERNEL, or pykexec --help")
    if not loads and options.kernel is not None:
        raise UsageError(
            f"-e starts the kernel that is loaded; {options.kernel} is one kernel too many",
            hint="load and start it: pykexec -l -e KERNEL",
        )
    shown = options.dry_run or options.map
    plan_only = shown or (options.machine, options.output, options.svg) != (None,) * 3
    return Task(purpose, load=bool(loads), plan_only=plan_only, then=_then(options))


def _then(options: Options) -> Afterwards:
    if options.execute or options.force:
        return Afterwards.EXECUTE
    if options.load or options.load_panic or (options.snapshot, options.load_plan) != (None, None):
        return Afterwards.NOTHING
    if options.preserve_context or options.jump_back_helper:
        return Afterwards.NOTHING
    return Afterwards.SHUT_DOWN


def _refuse_what_cannot_be(options: Options) -> None:
    if options.live_update:
        raise UsageError(f"{options.live_update} only works under Xen, which pykexec does not support")


def _fields_for(*purposes: str) -> list[str]:
    return list(dict.fromkeys(option.field for option in table.OPTIONS if option.is_for in purposes))


def _refuse_what_is_for_loads(options: Options, but: str = "") -> None:
    """Raise UsageError for an option that only a load can honour; log those that make no difference."""
    given = options.given()
    for field in _fields_for(table.KERNEL, table.PLAN):
        if field in given and field != but:
            raise UsageError(
                f"{spelling(field)} is for loading a kernel, which -e, -u, -S and --snapshot do not do"
            )
    _mention(options, _fields_for(table.LOAD))


def _mention(options: Options, fields: Sequence[str]) -> None:
    """Log the options that make no difference here."""
    given = options.given()
    for field in fields:
        if field in given:
            value = getattr(options, field)
            names = value if field == "meaningless" else (spelling_of(field, value),)
            log.debug("%s: accepted; it makes no difference here", ", ".join(names))


_CONTRADICTIONS = (
    ("load", "load_panic"),
    ("load_panic", "execute"),
    ("load_panic", "force"),
    ("unload", "execute"),
    ("unload", "force"),
    ("unload", "kernel"),
    *(("snapshot", other) for other in ("execute", "force", "unload", "load", "load_panic", "kernel")),
    *(("output", other) for other in ("execute", "force", "unload", "preserve_context", "jump_back_helper")),
    *(("load_plan", other) for other in ("kernel", "unload", "snapshot", "output", "preserve_context")),
    *(("load_plan", other) for other in ("jump_back_helper", *_fields_for(table.KERNEL), "format")),
    ("json", "map"),
    ("initrd", "reuse_initrd"),
    ("entry_32bit", "real_mode"),
    ("entry_id", "kernel"),
    ("reuse_kernel", "kernel"),
    ("entry_id", "reuse_kernel"),
    ("preserve_context", "load_panic"),
    ("preserve_context", "unload"),
    *(("jump_back_helper", other) for other in ("kernel", "load_panic", "unload", "preserve_context")),
    # Options that describe a kernel say nothing about the way back to one that waits.
    *(("jump_back_helper", other) for other in (*_fields_for(table.KERNEL), "format")),
)


def _refuse_contradictions(options: Options) -> None:
    for one, other in _CONTRADICTIONS:
        if getattr(options, one) and getattr(options, other):
            raise UsageError(
                f"{_spelled(one)} and {_spelled(other)} cannot go together", hint="see pykexec --help"
            )


def _spelled(field: str) -> str:
    return "a kernel" if field == "kernel" else spelling(field)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with kexec's exit codes. The entry point of the scripts."""
    # This process plans once and ends. Garbage collection would take a third of the time of a large plan.
    gc.disable()
    sys.exit(exit_code(sys.argv[1:] if argv is None else argv))


def exit_code(argv: Sequence[str]) -> int:
    """Run the command line and return its exit code. An expected failure becomes one or two lines."""
    return streams.exit_code(_NAME, lambda: run(optionparser.parse(argv)))


def run(options: Options) -> int:
    """Do what the options ask for, and return the exit code."""
    if options.help or options.version or options.completion or options.manual:
        return _print_help(options)
    if not options.debug:
        return _run(options)
    with log.Told(_NAME):
        return _run(options)


def _run(options: Options) -> int:
    from pykexec.machine import Machine

    if options.print_crash_size:
        return _print_crash_size(Machine.live())
    task = resolve(options)
    if options.machine is None:
        machine = Machine.live()
    else:
        machine = Machine.from_snapshot(options.machine)
        machine.require_facts(options.machine)
    if options.snapshot is not None:
        with streams.CutFiles(_NAME):
            return _snapshot(machine, options.snapshot)
    if not task.plan_only:
        from pykexec.privilege import require_no_xen

        require_no_xen(machine)
    if task.status:
        return _status(machine, task.purpose)
    if machine.is_live and not task.plan_only:
        _require_privilege(machine)
    if task.unload:
        from pykexec import loader

        loader.unload(task.purpose, machine, system_call=options.system_call)
        _invalidate_receipt(machine, task.purpose)
        return 0
    if task.load:
        with streams.CutFiles(_NAME):
            if options.load_plan is None:
                _load(machine, task, options)
            else:
                _load_plan_file(machine, task, options.load_plan, options)
    if not task.plan_only:
        _go(machine, task.then, options)
    return 0


def _print_help(options: Options) -> int:
    if options.version:
        print(f"kexec-tools {KEXEC_TOOLS} (pykexec {__version__})")
        return 0
    if options.help:
        from pykexec import help, terminal

        print(help.text(terminal.width(sys.stdout)), end="")
        return 0
    from pykexec import manual

    print(manual.completion(options.completion) if options.completion else manual.page(), end="")
    return 0


def _require_privilege(machine: Machine) -> None:
    """Raise PykexecError without CAP_SYS_BOOT, before any work is done and anything is touched."""
    from pykexec.privilege import may_boot

    if not may_boot(machine):
        raise PykexecError("loading, unloading and starting a kernel take CAP_SYS_BOOT", hint="run as root")


def _status(machine: Machine, purpose: Purpose) -> int:
    from pykexec import loader

    loaded = loader.status(purpose, machine)
    return _CANNOT_TELL if loaded is None else int(loaded)


def _print_crash_size(machine: Machine) -> int:
    size = machine.kexec_state.crash_size
    print(sum(each.size for each in machine.crash_regions[-1:]) if size is None else size)
    return 0


def _snapshot(machine: Machine, path: str) -> int:
    from pykexec.arch import facts_for
    from pykexec.machine.snapshot import write_snapshot

    count = write_snapshot(machine, path, facts_for(machine))
    print(f"{path}: {count} files")
    return 0


def _load(machine: Machine, task: Task, options: Options) -> None:
    from pykexec import loader

    if task.purpose is Purpose.CRASH:
        from pykexec.booting import crash

        crash.survey(machine)  # fails early: without a reservation no file matters
    system_call = system_call_of(options)
    request = request_of(options, task.purpose, machine)
    if options.output is not None:
        _write_plan_file(machine, request, options.output, options)
        return
    if task.plan_only:
        _announce(loader.plan(machine, request, system_call), machine, options)
        return

    warned: list[str] = []

    def ready(plan: FileLoadPlan | LoadPlan) -> None:
        _announce(plan, machine, options, warned)
        warned.extend(plan.warnings)
        _invalidate_receipt(machine, task.purpose)

    loader.load_request(machine, request, system_call, ready)


def _write_plan_file(machine: Machine, request: Request, path: str, options: Options) -> None:
    from pykexec import loader, planfile

    plan = loader.plan_load(machine, request)
    size = planfile.write(path, plan, machine)
    told = options.dry_run or options.json
    if told or options.map or options.svg is not None:
        _announce(plan, machine, options)
    else:
        _warn(plan)
    if not told:
        print(f"{path}: {len(plan.segments)} segments, {size} bytes")


def _load_plan_file(machine: Machine, task: Task, path: str, options: Options) -> None:
    from pykexec import loader, planfile
    from pykexec.files import FileData
    from pykexec.values import replace

    file = FileData.open(path, "plan")
    found = planfile.parse(file.data, path)
    plan = replace(found.plan, files=(file,))
    boots = options.load or task.then is not Afterwards.NOTHING
    if plan.purpose is Purpose.CRASH:
        from pykexec.booting import crash

        if boots:
            raise UsageError(f"{path}: a plan for a panic, which -l and -e are not for")
        crash.survey(machine)
    elif options.load_panic:
        raise UsageError(f"{path}: a plan for a boot, which -p is not for")
    planfile.require_same(found.identity, machine)
    _announce(plan, machine, options)
    if not task.plan_only:
        _invalidate_receipt(machine, plan.purpose)
        loader.load(plan, machine)


def _invalidate_receipt(machine: Machine, purpose: Purpose) -> None:
    if purpose is Purpose.CRASH:
        from pykexec.ownership import invalidate_receipt

        invalidate_receipt(machine)


def system_call_of(options: Options) -> str:
    """Return the system call to use: "file", "load", or "auto" for either.

    Raises UsageError where -s cannot be honoured.
    """
    if options.system_call == "file" and options.output is not None:
        raise UsageError("-s: a plan's file is for kexec_load", hint="leave -s out")
    unfit = [each.field for each in _without_meaning_for_file_loads(options)]
    if options.system_call == "file" and unfit:
        raise UsageError(
            f"-s: kexec_file_load cannot honour {spelling(unfit[0])}", hint="use -a or -c: kexec_load can"
        )
    _mention(options, ("reset_vga", "video_type", "arguments", "meaningless"))
    if not options.load_panic:
        _mention(options, [option.field for option in table.OPTIONS if option.only_for_crashes])
    if not (options.execute or options.force):
        _mention(options, ("no_ifdown", "no_sync"))
    if unfit:
        log.debug("kexec_load it is: kexec_file_load cannot honour %s", spelling(unfit[0]))
    return "load" if unfit or options.output is not None else options.system_call


def _without_meaning_for_file_loads(options: Options) -> Iterator[table.Option]:
    given = options.given()
    if options.format in ("uki", "fit"):  # opened before any load, whichever call is used
        given.discard("format")
    for option in table.OPTIONS:
        counts = options.load_panic or not option.only_for_crashes
        if option.needs_kexec_load and option.field in given and counts:
            yield option


def request_of(options: Options, purpose: Purpose, machine: Machine) -> Request:
    """Return what to load. Raises UsageError, and FileError for a file that cannot be read."""
    from pykexec.plan import Console, Request

    return Request.from_paths(
        options.kernel,
        initrd=_initrd(options, machine),
        initrds=_more_initrds(options),
        additions=_additions(options),
        entry_id=options.entry_id,
        reuse_kernel=options.reuse_kernel,
        profile=options.profile,
        device_tree=options.dtb,
        purpose=purpose,
        append=options.append,
        reuse_command_line=options.reuse_cmdline,
        within=_bounds(options),
        entry=None if options.jump_back_helper else options.entry,
        skip_checks=options.no_checks,
        seed=_seed() if machine.is_live and options.output is None else None,
        format=options.format,
        entry_32bit=options.entry_32bit,
        real_mode=options.real_mode,
        modules=_modules(options),
        hotplug=options.hotplug,
        hand_over_efi=not options.no_efi,
        preserve_context=options.preserve_context,
        jump_back=_jump_back(options, machine) if options.jump_back_helper else None,
        atags=options.atags,
        image_size=options.image_size,
        page_offset=options.page_offset,
        core_header_bits=options.core_header_bits,
        memmap_parameters=options.memmap_parameters,
        console=Console(
            options.serial, options.serial_baud, vga=options.console_vga, serial=options.console_serial
        ),
        debug=options.debug,
        no_cma=options.no_cma,
        force_dtb=options.force_dtb,
    )


def _jump_back(options: Options, machine: Machine) -> int:
    """Return the physical address where the other kernel waits. Raises UsageError where it is not known.

    Purgatory has written it into this kernel's command line.
    """
    if options.entry is not None:
        return options.entry
    from pykexec import command_line

    text = command_line.value_of(command_line.JUMP_BACK_ENTRY, machine.command_line)
    address = table.number("kexec_jump_back_entry", text or "0")
    if not address:
        raise UsageError(
            f"--load-jump-back-helper: there is no {command_line.JUMP_BACK_ENTRY}= in /proc/cmdline",
            hint="give the physical address where the other kernel waits: --entry=ADDRESS",
        )
    return address


_RETAINED_INITRD = "sys/firmware/initrd"


def _initrd(options: Options, machine: Machine) -> str | None:
    """Return the initrd's path; with --reuseinitrd the running kernel's (init/initramfs.c, since 6.6).

    Raises UsageError where the running kernel does not show its initrd.
    """
    if not options.reuse_initrd:
        return options.initrd
    from pykexec.parameters import parameters

    if "retain_initrd" not in parameters(machine.command_line):
        raise UsageError(
            "--reuseinitrd: the running kernel did not keep its initrd",
            hint="boot it with retain_initrd, or name the file: --initrd=FILE",
        )
    path = f"/{_RETAINED_INITRD}"
    if not machine.is_live or not os.access(path, os.R_OK):
        raise UsageError(
            f"--reuseinitrd: the running kernel does not show its initrd: no {path}",
            hint="Linux 6.6 and later do; name the file: --initrd=FILE",
        )
    return path


def _modules(options: Options) -> tuple[Module, ...]:
    from pykexec.files import FileData
    from pykexec.plan import Module

    return tuple(Module(FileData.open(text.partition(" ")[0], "module"), text) for text in options.modules)


def _more_initrds(options: Options) -> tuple[FileData, ...]:
    from pykexec.files import FileData

    return tuple(FileData.open(path, "initrd") for path in options.add_initrd)


def _additions(options: Options) -> tuple[Addition, ...]:
    if not options.initrd_files:
        return ()
    from pykexec import initramfs

    return tuple(initramfs.read_addition(text) for text in options.initrd_files)


def _bounds(options: Options) -> Range:
    from pykexec.memory import Range
    from pykexec.plan import ADDRESS_SPACE

    start = options.mem_min or ADDRESS_SPACE.start
    # The option's end is inclusive.
    end = ADDRESS_SPACE.end if options.mem_max is None else options.mem_max + 1
    if start >= end:
        raise UsageError(f"--mem-min={start:#x} is above --mem-max={end - 1:#x}")
    return Range(start, end)


def _seed() -> bytes | None:
    from pykexec.plan import SEED_SIZE

    try:
        return os.getrandom(SEED_SIZE, os.GRND_NONBLOCK)
    except BlockingIOError:  # early in the boot there are no random numbers yet
        return None


def _announce(
    plan: FileLoadPlan | LoadPlan, machine: Machine, options: Options, warned: Sequence[str] = ()
) -> None:
    """Show the plan where that was asked for, and its warnings, but those that were shown before."""
    if options.given() & {"json", "dry_run", "machine", "map", "svg", "debug"}:
        from pykexec.report import showing

        if showing.show(plan, machine, options):
            return
    _warn(plan, warned)


def _warn(plan: FileLoadPlan | LoadPlan, warned: Sequence[str] = ()) -> None:
    for warning in plan.warnings:
        if warning not in warned:
            streams.complain(_NAME, f"warning: {warning}")


def _go(machine: Machine, action: Afterwards, options: Options) -> None:
    if action is Afterwards.NOTHING:
        return
    from pykexec import execute

    if action is Afterwards.EXECUTE:
        execute.execute(machine, sync=not options.no_sync, ifdown=not options.no_ifdown)
    else:
        execute.shut_down(machine)
