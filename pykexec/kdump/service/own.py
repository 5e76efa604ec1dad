"""What `pykdump start` would load now, as an estimate needs it. Nothing is loaded or kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pykexec.errors import MachineError
from pykexec.files import FileData
from pykexec.kdump import capture, config
from pykexec.kdump.kernel_log import read_kernel_log
from pykexec.kdump.rehearsal import receipt as rehearsals
from pykexec.kdump.reservation import sizing
from pykexec.kdump.reservation.estimate import Inputs, Measured
from pykexec.kdump.service import plan as plans
from pykexec.kdump.service.plan import ServicePlan
from pykexec.machine import Machine


@dataclass(frozen=True, slots=True)
class Files:
    """What a capture kernel is started with."""

    kernel: FileData
    initrd: FileData | None
    command_line: str
    network: bool = False
    """Whether the dump goes over the network."""
    threads: int = 0
    """makedumpfile's --num-threads."""


def files(machine: Machine, *, initrd: str | None = None, append: str | None = None) -> Files:
    """Return what start would load on this machine; where nothing is configured, with dumps in /var/crash.

    `initrd` and `append` are taken instead of its image and command line. Raises PykexecError.
    """
    settings = config.read(machine.root) or config.assumed()
    found = files_of(plans.of_settings(settings, machine, initrd=initrd))
    return found if append is None else replace(found, command_line=append)


def files_of(plan: ServicePlan, *, with_own_image: bool = True) -> Files:
    """Return what that plan would load; without the image if pykdump makes it, and cannot yet.

    Raises PykexecError.
    """
    return Files(
        FileData.open(plan.kernel, "kernel"),
        _image(plan) if with_own_image or not plan.own_image else None,
        plan.command_line,
        plan.settings.uses_network,
        plan.settings.collector.threads,
    )


def _image(plan: ServicePlan) -> FileData:
    if not plan.own_image:
        return FileData.open(plan.initrd, "initrd")
    contents = capture.contents(plan.settings, plan.release)
    return FileData.from_bytes(plan.initrd, capture.packed(contents))


def inputs(machine: Machine, given: Files, *, network: bool = False) -> Inputs:
    """Return an estimate's inputs; `network` says that the dump goes over it, whatever is configured.

    Raises PykexecError.
    """
    log = read_kernel_log() if machine.is_live else None
    found = sizing.read_inputs(
        machine,
        given.kernel,
        given.initrd,
        given.command_line,
        network=network or given.network,
        kernel_log=log or "",
    )
    found = replace(found, threads=given.threads)
    if network and not given.network:  # that was not rehearsed
        return found
    return learned(found, machine, given.kernel, given.initrd, given.command_line)


def learned(
    model: Inputs, machine: Machine, kernel: FileData, initrd: FileData | None, command_line: str
) -> Inputs:
    """Return inputs with what a rehearsal of just these files has measured on that machine, if one has."""
    if initrd is None:
        return model
    try:
        last = rehearsals.measured(machine.root, kernel, initrd, command_line)
    except MachineError:  # who may not read the receipts is told by the model
        return model
    if last is None or last.measured is None:
        return model
    return replace(model, measured=Measured(last.measured, last.date), not_known=())
