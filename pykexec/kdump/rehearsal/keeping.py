"""Keep the receipt of a rehearsal of what `pykdump start` would load on this machine."""

from __future__ import annotations

from pykexec.files import FileData
from pykexec.kdump import config
from pykexec.kdump.config.settings import Settings
from pykexec.kdump.rehearsal import receipt
from pykexec.kdump.rehearsal.asked import Rehearsal
from pykexec.kdump.rehearsal.receipt import PASSED, Rehearsed
from pykexec.kdump.rehearsal.report import Report
from pykexec.kdump.service.actions import now
from pykexec.kdump.service.receipt import digest
from pykexec.machine import Machine


def keep(asked: Rehearsal, found: Report, machine: Machine) -> None:
    """Keep its receipt, by which status, doctor and estimate know of it. Raises PykexecError."""
    receipt.save(receipt_of(asked, found, config.required(machine.root)))


def receipt_of(asked: Rehearsal, found: Report, settings: Settings) -> Rehearsed:
    """Return the receipt, with the digests of the files as they are. Raises FileError."""
    result = found.result
    return Rehearsed(
        time=now(),
        kernel_sha256=digest(FileData.open(str(asked.capture_kernel), "kernel")),
        initrd_sha256=digest(FileData.open(str(asked.image), "capture image")),
        command_line=asked.command_line,
        configuration=receipt.configuration(settings),
        verdict=PASSED if result.is_good else result.ending.stage.name.lower(),
        cause="" if result.is_good else result.ending.cause,
        reservation=found.reservation,
        smallest=found.smallest,
        high_water=None,
        seconds=result.seconds,
        first_kernel=asked.release,
    )
