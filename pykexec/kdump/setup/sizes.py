"""Find out how much memory this machine's capture kernel needs."""

from __future__ import annotations

from dataclasses import replace

from pykexec.errors import MachineError
from pykexec.kdump.capture import destination
from pykexec.kdump.capture.image import refuse_what_cannot_be
from pykexec.kdump.config.settings import Settings
from pykexec.kdump.reservation import crashkernel, estimate, running
from pykexec.kdump.reservation.crashkernel import size_text
from pykexec.kdump.reservation.estimate import Unpacked
from pykexec.kdump.service import own
from pykexec.kdump.service import plan as plans
from pykexec.kdump.setup.need import Need
from pykexec.machine import Machine
from pykexec.memory import MIB

_ASSUMED_IMAGE = Unpacked(16 * MIB, 40 * MIB, 200)
"""What is assumed of a capture image that cannot be made yet; Debian 12's takes half of that."""


def need(machine: Machine, settings: Settings, *, can_make_image: bool) -> Need:
    """Return what the kernel and the image need that start would load on this machine.

    `can_make_image`: whether the programs for the image are there; else its size is assumed. Raises
    PykexecError, also where that much cannot be reserved.
    """
    plan, remark = plans.of_settings(settings, machine), ""
    if plan.own_image and not can_make_image:
        # What would refuse an image is told before anything is installed for it.
        refuse_what_cannot_be(settings)
        destination.resolve(settings)
    files = own.files_of(plan, with_own_image=can_make_image)
    inputs = own.inputs(machine, files)
    if files.initrd is None:
        inputs = replace(inputs, initrd=_ASSUMED_IMAGE, left_out=())
        remark = f"a capture image of {size_text(_ASSUMED_IMAGE.size)} is assumed: none can be made yet"
    found = estimate.estimate(inputs)
    remark = found.measured or remark
    total, support = machine.iomem.system_ram.size, running.support_of(machine)
    value = crashkernel.render(running.clause_of(machine, found.recommended))
    result = Need(value, found.needed, total, support, remark)
    outcome = crashkernel.reservation(result.parameter, total, support)
    if not outcome.size:
        raise MachineError(
            f"{result.parameter} is needed, and would reserve nothing: {outcome.why_nothing}",
            hint="pykdump estimate says what takes how much",
        )
    return result
