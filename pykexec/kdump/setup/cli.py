"""``pykdump setup``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from pykexec import streams, terminal
from pykexec.errors import PykexecError, UsageError
from pykexec.kdump.config.settings import Settings
from pykexec.kdump.setup import plan as plans
from pykexec.kdump.setup import receipt, sizes, undo
from pykexec.kdump.setup.need import Need
from pykexec.kdump.setup.steps import Step, require_root
from pykexec.machine import Machine

_ROOT = Path("/")
_BY_HAND = 3


@click.command("setup")
@click.option("--undo", "wants_undo", is_flag=True, help="Take back what setup has done.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def _setup(wants_undo: bool, dry_run: bool, yes: bool) -> int:
    """Do what is missing for a kdump that works.

    That is: the packages for the capture image, crashkernel= in the boot loader's configuration, a
    configuration where there is none, and the service at each boot. It first says what it is going to do,
    and asks. What it cannot do is said, too. Once all is done it does nothing more.

    Exit status: 0 done, 1 not all could be done or taken back, 3 something is left to be done by hand.
    """
    return _take_back(dry_run, yes) if wants_undo else _set_up(dry_run, yes)


COMMANDS = (_setup,)


def _set_up(dry_run: bool, yes: bool) -> int:
    machine = Machine.live()

    def need_of(settings: Settings, can_make_image: bool) -> Need:
        return sizes.need(machine, settings, can_make_image=can_make_image)

    plan = plans.make(machine, need_of, _ROOT)
    for remark in plan.remarks:
        _say(remark)
    if not plan.steps:
        _say("there is nothing that setup can do" if plan.by_hand else "there is nothing to do")
    elif _go_on(plan.steps, dry_run, yes):
        perform(plan.steps, receipt.path_in(_ROOT))
        if plans.make(machine.anew(), need_of, _ROOT).steps:
            _say("that was not all: say pykdump setup again")
    for each in plan.by_hand:
        _say(f"by hand: {each}")
    _say(f"next: {plan.next}")
    return _BY_HAND if plan.by_hand else 0


def _take_back(dry_run: bool, yes: bool) -> int:
    path = receipt.path_in(_ROOT)
    records = receipt.load(path)
    found = undo.make(records, _ROOT)
    steps = [step for each in found for step in each.steps]
    for each in found:
        if each.left:
            _say(each.left)
    if not records:
        _say("there is nothing to take back")
        return 0
    if steps and not _go_on(steps, dry_run, yes):
        return 0
    if dry_run:
        return 0
    failures = take_back(found, records, path)
    for error in failures:
        streams.complain("pykdump", error.what, error.hint)
    _say("what setup has done is taken back" if not failures else "the rest is taken back")
    return 1 if failures else 0


def perform(steps: Sequence[Step], path: Path) -> None:
    """Do these steps, each noted in the receipt before it is done; none if one of them cannot be done.

    Raises PykexecError, which says how to take back what was done.
    """
    require_root()
    for step in steps:
        step.check()
    records = receipt.load(path)
    for step in steps:
        _show([step])
        record = step.record()
        try:
            if record is not None:
                records.append(record)
                receipt.save(records, path)
            step.do()
        except PykexecError as error:
            error.add_hint("pykdump setup --undo takes back what was done")
            raise


def take_back(
    found: Sequence[undo.Undo], records: Sequence[receipt.Record], path: Path
) -> list[PykexecError]:
    """Do what takes back these records; return the failures, whose records stay. Raises PykexecError."""
    require_root()
    for each in found:
        for step in each.steps:
            step.check()
    left, failures = list(records), []
    for each in found:
        try:
            for step in each.steps:
                _show([step])
                step.do()
        except PykexecError as error:
            failures.append(error)
            continue
        left.remove(each.record)
        receipt.save(left, path)
    return failures


def _go_on(steps: Sequence[Step], dry_run: bool, yes: bool) -> bool:
    """Show the steps where nothing is done, or somebody is asked; return whether to do them."""
    if dry_run:
        _show(steps)
    if dry_run or yes:
        return not dry_run
    _show(steps)
    if not sys.stdin.isatty():
        raise UsageError(
            "this changes the system's configuration", hint="say --yes where nobody can be asked"
        )
    click.confirm("Do this?", abort=True)
    return True


def _show(steps: Iterable[Step]) -> None:
    for step in steps:
        for line in step.describe():
            _say(line, "    " if line.startswith(("- ", "+ ")) else "")


def _say(text: str, first: str = "") -> None:
    print("\n".join(terminal.folded(text, terminal.width(sys.stdout), first=first)))
