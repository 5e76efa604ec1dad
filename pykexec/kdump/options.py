"""Options that several commands of pykdump have."""

from __future__ import annotations

import click

from pykexec.machine import Machine

MACHINE = click.option(
    "--machine",
    "snapshot",
    metavar="TAR|DIR",
    type=click.Path(),
    help="Of the machine of this snapshot, not of this one.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def chosen(snapshot: str | None) -> Machine:
    """Return the machine that `MACHINE` names, or this one. Raises MachineError."""
    return Machine.live() if snapshot is None else Machine.from_snapshot(snapshot)
