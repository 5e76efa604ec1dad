"""``pykdump setup``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from pykexec import streams, terminal
from pykexec.errors import PykexecError, UsageError
from pykexec.kdump.config.settings import Settings
from pykexec.kdump.options import JSON
from pykexec.kdump.setup import plan as plans
from pykexec.kdump.setup import receipt, sizes, undo
from pykexec.kdump.setup.need import Need
from pykexec.kdump.setup.steps import Step, require_root
from pykexec.machine import Machine

SCHEMA = 1
"""The version of the JSON form."""
_ROOT = Path("/")
_NOT_ALL, _BY_HAND = 1, 3

Show = Callable[[Iterable[Step]], None]
"""A function that shows steps."""


@dataclass(frozen=True, slots=True)
class _Options:
    """What the command was asked for."""

    dry_run: bool
    yes: bool
    as_json: bool


@click.command("setup")
@click.option("--undo", "wants_undo", is_flag=True, help="Take back what setup has done.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def _setup(wants_undo: bool, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Do what is missing for a kdump that works.

    That is: the packages for the capture image, crashkernel= in the boot loader's configuration, a
    configuration where there is none, and the service at each boot. It first says what it is going to do,
    and asks. What it cannot do is said, too. Once all is done it does nothing more.

    Exit status: 0 done, 1 not all could be done or taken back, 3 something is left to be done by hand.
    """
    if as_json and not (dry_run or yes):
        raise UsageError("--json asks nobody", hint="say --dry-run or --yes, too")
    options = _Options(dry_run, yes, as_json)
    return _take_back(options) if wants_undo else _set_up(options)


COMMANDS = (_setup,)


def _set_up(options: _Options) -> int:
    machine = Machine.live()

    def need_of(settings: Settings, can_make_image: bool) -> Need:
        return sizes.need(machine, settings, can_make_image=can_make_image)

    plan = plans.make(machine, need_of, _ROOT)
    remarks = list(plan.remarks)
    if not plan.steps:
        remarks.append("there is nothing that setup can do" if plan.by_hand else "there is nothing to do")
    _say(options, remarks)
    done = _go_on(plan.steps, options)
    if done:
        perform(plan.steps, receipt.path_in(_ROOT), _shower(options))
    if done and plans.make(machine.anew(), need_of, _ROOT).steps:
        remarks.append("that was not all: say pykdump setup again")
        _say(options, remarks[-1:])
    _say(options, [*(f"by hand: {each}" for each in plan.by_hand), f"next: {plan.next}"])
    if options.as_json:
        print(as_json(plan.steps, remarks, plan.by_hand, plan.next, done=done), end="")
    return _BY_HAND if plan.by_hand else 0


def _take_back(options: _Options) -> int:
    path = receipt.path_in(_ROOT)
    records = receipt.load(path)
    found = undo.make(records, _ROOT)
    steps = [step for each in found for step in each.steps]
    remarks = [each.left for each in found if each.left]
    remarks += [] if records else ["there is nothing to take back"]
    _say(options, remarks)
    done = _go_on(steps, options)
    failures = []
    if done or (records and not steps and not options.dry_run):
        failures = take_back(found, records, path, _shower(options))
        _say(options, ["the rest is taken back" if failures else "what setup has done is taken back"])
    for error in failures:
        streams.complain("pykdump", error.what, error.hint)
    if options.as_json:
        print(as_json(steps, remarks, (), "", done=done and not failures), end="")
    return _NOT_ALL if failures else 0


def perform(steps: Sequence[Step], path: Path, show: Show) -> None:
    """Do these steps, each noted in the receipt before it is done; none if one of them cannot be done.

    Raises PykexecError, which says how to take back what was done.
    """
    require_root()
    for step in steps:
        step.check()
    records = receipt.load(path)
    for step in steps:
        show([step])
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
    found: Sequence[undo.Undo], records: Sequence[receipt.Record], path: Path, show: Show
) -> list[PykexecError]:
    """Do what takes back these records; return the failures, whose records stay. Raises PykexecError."""
    require_root()
    left, failures = list(records), []
    for each in found:
        try:
            for step in each.steps:
                show([step])
                step.do()
        except PykexecError as error:
            failures.append(error)
            continue
        left.remove(each.record)
        receipt.save(left, path)
    return failures


def as_json(
    steps: Iterable[Step], remarks: Sequence[str], by_hand: Sequence[str], next_step: str, *, done: bool
) -> str:
    """Return one JSON object."""
    content = {
        "schema": SCHEMA,
        "done": done,
        "steps": [{"does": does, "lines": lines} for does, *lines in (each.describe() for each in steps)],
        "remarks": list(remarks),
        "by_hand": list(by_hand),
        "next": next_step or None,
    }
    return json.dumps(content, indent=2) + "\n"


def _go_on(steps: Sequence[Step], options: _Options) -> bool:
    """Show the steps where nothing is done, or somebody is asked; return whether to do them."""
    if not steps:
        return False
    if options.dry_run or not options.yes:
        _shower(options)(steps)
    if options.dry_run or options.yes:
        return not options.dry_run
    if not streams.can_ask():
        raise UsageError(
            "this changes the system's configuration", hint="say --yes where nobody can be asked"
        )
    click.confirm("Do this?", abort=True)
    return True


def _shower(options: _Options) -> Show:
    return _show if not options.as_json else lambda steps: None


def _show(steps: Iterable[Step]) -> None:
    for step in steps:
        for line in step.describe():
            _print(line, "    " if line.startswith(("- ", "+ ")) else "")


def _say(options: _Options, texts: Iterable[str]) -> None:
    for text in texts:
        if not options.as_json:
            _print(text)


def _print(text: str, first: str = "") -> None:
    print("\n".join(terminal.folded(text, terminal.width(sys.stdout), first=first)))
