"""``pykdump start`` and the other commands of the service."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from pykexec import ending, streams, writing
from pykexec.errors import PykexecError, UsageError, printable
from pykexec.kdump import capture, config
from pykexec.kdump.dumpsize import Room
from pykexec.kdump.files import image_path
from pykexec.kdump.options import JSON
from pykexec.kdump.service import actions, state, trial
from pykexec.kdump.service import plan as plans
from pykexec.kdump.service import status as shown
from pykexec.kdump.service.lock import exclusive
from pykexec.kdump.service.receipt import Receipt
from pykexec.kdump.service.state import State
from pykexec.machine import Machine
from pykexec.terminal import folded, width

_FAILED, _NOT_OPERATIONAL = 1, 3  # as kdumpctl's
_CLEAR_LINE = "\r\x1b[K"

_INITRD = click.option(
    "--initrd", metavar="FILE", type=click.Path(), help="The distribution's capture image, or yours."
)


@contextmanager
def failing() -> Iterator[None]:
    """Turn an OSError into the service's error; otherwise it would count as one of the output."""
    try:
        with ending.in_order():
            yield
    except BrokenPipeError:  # the reader of the output has seen enough
        raise
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise PykexecError(f"{place}{error.strerror or error}") from error


@click.command()
@_INITRD
@failing()
def start(initrd: str | None) -> int:
    """Load the capture kernel.

    Its image is made for the dump target of the configuration, where it is not up to date.
    """
    machine = Machine.live()
    with progress() as tell:
        receipt = actions.start(machine, tell, _warn, initrd=initrd)
    _say_loaded(receipt)
    _say_state(machine)
    return 0


@click.command()
@failing()
def stop() -> int:
    """Unload the capture kernel."""
    actions.stop(Machine.live())
    _say("pykdump: stopped: a crash will leave no dump")
    return 0


@click.command()
@_INITRD
@click.pass_context
def restart(context: click.Context, initrd: str | None) -> int:
    """The same as start.

    What is loaded is replaced only when the new one is ready.
    """
    return int(context.invoke(start, initrd=initrd))


@click.command()
@_INITRD
@failing()
def reload(initrd: str | None) -> int:
    """Load again, if something has changed.

    Compared are the kernel, the image, the configuration, memory and CPUs.
    """
    machine = Machine.live()
    with progress() as tell:
        receipt, changed = actions.reload(machine, tell, _warn, initrd=initrd)
    if not changed:
        _say("pykdump: nothing has changed")
        return 0
    _say(f"pykdump: changed: {changed}")
    _say_loaded(receipt)
    return 0


@click.command()
@JSON
@click.option("--metrics", is_flag=True, help="Print what node_exporter's textfile collector reads.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="With --metrics: write them there, whole or not at all; the folder has to be there.",
)
@failing()
def status(as_json: bool, metrics: bool, output: str | None) -> int:
    """Say whether a panic now will leave a dump.

    If not, it says why, and which command comes next; if so, where the dump will be, and which there are.

    Exit status: 0 armed (proven or not), 3 not armed. With --metrics: 0, as the metrics say that.
    """
    if metrics and as_json:
        raise UsageError("--metrics and --json are two forms", hint="choose one")
    if output is not None and not metrics:
        raise UsageError("--output is for --metrics", hint="the shell's > writes the rest")
    machine = Machine.live()
    found = state.read(machine)
    if metrics:
        return _print_metrics(found, machine, output)
    print(shown.as_json(found) if as_json else shown.as_text(found, width(sys.stdout)), end="")
    return 0 if found.is_armed else _NOT_OPERATIONAL


def _print_metrics(found: State, machine: Machine, output: str | None) -> int:
    from pykexec.kdump.service import metrics

    text = metrics.as_text(metrics.of_state(found, machine))
    if output is None:
        print(text, end="")
        return 0
    # The collector runs as another user, and may read at any time.
    with writing.new_file(output, mode=0o644, durable=False, make_folders=False) as file:
        file.write(text.encode())
    return 0


@click.command("test")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--passed", is_flag=True, help="The last test's dump is on its server: take it for proven.")
@failing()
def test(yes: bool, dry_run: bool, passed: bool) -> int:
    """Crash this machine now, to prove the dump.

    The status after the next boot tells whether a dump came of it.
    """
    machine = Machine.live()
    if passed:
        return _take_for_passed()
    receipt = actions.loaded_now(machine)
    if receipt is None:
        raise PykexecError("pykdump has loaded no capture kernel", hint="pykdump start")
    if dry_run:
        _say(f"would write {trial.PENDING} and crash this machine; the dump would go to {receipt.target}")
        return 0
    _confirm(yes)
    trial.crash(trial.prepare(receipt, actions.now()))
    return _FAILED


def _take_for_passed() -> int:
    begun = trial.pending()
    if begun is None:
        raise PykexecError("no pykdump test is waiting for its result")
    trial.settle(begun[1])
    _say("pykdump: what was loaded then is taken for proven")
    return 0


def _confirm(yes: bool) -> None:
    if yes:
        return
    if not streams.can_ask():
        raise UsageError("this crashes the machine at once", hint="say --yes where nobody can be asked")
    click.confirm("This crashes the machine at once. Unsaved work is lost. Go on?", abort=True)


@click.command()
@click.option(
    "--kernel-version", "release", metavar="RELEASE", help="As uname -r says it; the configured one's."
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="Where to; by default where pykdump start takes it from.",
)
@click.option("--list", "only_list", is_flag=True, help="Only say what would be in it.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print one JSON object.")
@failing()
def mkinitrd(release: str | None, output: str | None, only_list: bool, as_json: bool) -> int:
    """Make the capture image for this machine.

    Its /init saves the dump to the target of the configuration.
    """
    if as_json and not only_list:
        raise UsageError("--json is for --list", hint="the image itself goes to a file")
    machine = Machine.live()
    settings = config.required(machine.root)
    release = release or settings.kernel.version or machine.kernel_release
    settings, doubt = plans.fitting(settings, machine)
    for each in doubt:
        _warn(each)
    what = capture.contents(settings, release)
    if as_json:
        print(capture.listing(what, release), end="")
        return 0
    if only_list:
        print("\n".join(sorted(entry.path for entry in what.entries)))
        return 0
    target = Path(output) if output else image_path(release)
    with progress() as tell:
        if output:
            capture.build(what, target, lambda path: tell(f"making {target}: {path}"))
        else:
            with exclusive():  # a start may be making the same file
                actions.make_image(what, target, tell)
    _say(f"{target}: {target.stat().st_size / (1 << 20):.1f} MiB, dumps go to {what.destination}")
    return 0


_ROOT = click.option(
    "--root",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    default="/",
    show_default=True,
    help="Of another system.",
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@click.command("install")
@_ROOT
@_DRY_RUN
@failing()
def install(root: Path, dry_run: bool) -> int:
    """Install the systemd unit pykdump.service.

    With it comes the udev rule that loads again when memory or CPUs come or go.
    """
    from pykexec.integration.steps import perform
    from pykexec.kdump.service import installation

    perform(installation.steps(root), dry_run=dry_run)
    if absent := installation.absent(root):
        _warn(f"the unit starts what {root} does not have there: {', '.join(absent)}")
    _say("systemctl enable --now pykdump.service makes it start, now and at each boot")
    return 0


@click.command("remove")
@_ROOT
@_DRY_RUN
@failing()
def remove(root: Path, dry_run: bool) -> int:
    """Undo what install did.

    The capture kernel is unloaded; images and dumps stay.
    """
    from pykexec.integration.steps import perform
    from pykexec.kdump.service import installation

    steps = installation.removal(root)
    perform(steps, dry_run=dry_run)
    if not steps:
        _say(f"the service is not installed below {root}")
    return 0


COMMANDS = (start, stop, restart, reload, status, test, mkinitrd, install, remove)


def _say(text: str) -> None:
    """Print a sentence, folded on a terminal; in a journal it stays one record."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    print("\n".join(folded(text, width(sys.stdout) if is_terminal else None)))


def _say_loaded(receipt: Receipt) -> None:
    _say(f"pykdump: {receipt.kernel} is loaded ({receipt.system_call}); dumps go to {receipt.target}")


def _say_state(machine: Machine) -> None:
    """Say what the last test has proven, or that there was none."""
    try:
        found = state.read(machine)
        kept = config.required(machine.root).free_space
    except (PykexecError, OSError) as error:  # the kernel is loaded nevertheless
        return _warn(str(error))
    if warning := room_warning(found, kept):
        _warn(warning)
    _say(f"pykdump: armed: {found.judgement}")
    if found.judgement.next is not None:
        _say(f"pykdump: next: {found.judgement.next}")


def room_warning(found: State, kept: int) -> str | None:
    """Return the warning where a dump of now may not fit; None where it does, or that cannot be told.

    `kept`: the bytes that shall stay free.
    """
    if found.free is None or found.size is None:
        return None
    room = Room(found.free, found.size + kept)
    if room.is_enough:
        return None
    return f"the dump may not fit: {found.folder}: {room} (before compression); its log is saved in any case"


def _warn(text: str) -> None:
    streams.complain("pykdump", f"warning: {text}")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show progress in one line that changes, on a terminal; show nothing elsewhere."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda text: None
        return

    def write(text: str) -> None:
        with suppress(OSError):  # a lost terminal must not stop the work
            terminal = streams.unfiltered(sys.stderr)
            print(f"{_CLEAR_LINE}{printable(text)}", end="", file=terminal, flush=True)

    try:
        yield lambda text: write(f"pykdump: {text[:100]}")
    finally:
        write("")
