"""The command line of tools/bench."""

import argparse
import os
import sys
from collections.abc import Sequence

from ..host import LabError
from . import table
from .cases import CASES, KDUMP_CASES, Case
from .table import Row

_BUSY = 0.7
"""Processes that want to run, on the average of the last minute."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 when all targets are met, 1 when one is missed or a case fails."""
    options = _parser().parse_args(arguments)
    show = table.as_json if options.json else table.as_markdown if options.markdown else table.as_text
    chosen = list(KDUMP_CASES if options.kdump else CASES)
    if options.only:
        chosen = [case for case in (*CASES, *KDUMP_CASES) if case.name in options.only]
    if os.getloadavg()[0] > _BUSY:
        print("tools/bench: this machine is busy: what runs on several cores will be slow", file=sys.stderr)
    try:
        rows, failed = measure(chosen, options.runs)
    except KeyboardInterrupt:
        return 130
    print(show(rows), end="", flush=True)
    missed = list(dict.fromkeys(row.case for row in rows if not row.met))
    for what, names in (("targets missed", missed), ("cases that failed", failed)):
        if names:
            print(f"tools/bench: {what}: {', '.join(names)}", file=sys.stderr)
    return 1 if missed or failed else 0


def measure(cases: Sequence[Case], runs: int | None) -> tuple[list[Row], list[str]]:
    """The results, and the names of the cases that gave none: what went wrong is said at once."""
    rows: list[Row] = []
    failed: list[str] = []
    for case in cases:
        try:
            rows += case.run(runs)
        except LabError as error:
            print(f"tools/bench: {case.name}: {error}", file=sys.stderr)
            failed.append(case.name)
    return rows, failed


def _parser() -> argparse.ArgumentParser:
    names = [case.name for case in (*CASES, *KDUMP_CASES)]
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="Measure pykexec beside Debian's C kexec: fresh processes in turn, medians of wall time."
        " Nothing is loaded on this machine: a filter answers the system calls. Takes root.",
        epilog=f"Cases: {', '.join(names)}.",
    )
    parser.add_argument(
        "--only", action="append", choices=names, metavar="CASE", help="this case (may be repeated)"
    )
    parser.add_argument(
        "--kdump", action="store_true", help="measure pykdump beside Debian's kdump-tools instead"
    )
    parser.add_argument("--runs", type=_positive, metavar="N", help="measure each command N times")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="all numbers, unrounded")
    form.add_argument("--markdown", action="store_true", help="the table as the README has it")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of runs")
    return number
