"""What a machine's kernel makes of the crashkernel= on its command line."""

from __future__ import annotations

from pykexec import names
from pykexec.booting.crash import cma_ranges
from pykexec.errors import MachineError
from pykexec.kdump.reservation import crashkernel
from pykexec.kdump.reservation.crashkernel import Clause, Form, Reservation
from pykexec.kdump.reservation.support import CrashkernelSupport, support
from pykexec.machine import Machine


def support_of(machine: Machine) -> CrashkernelSupport:
    """Return what a machine's kernel supports of crashkernel=, by its version and by what it has reserved.

    Raises MachineError.
    """
    arch = names.name_of_uname(machine.uname_machine)
    known = support(arch, machine.kernel_release, machine.command_line)
    regions = machine.crash_regions
    return crashkernel.observed(known, machine.command_line, regions, has_cma=bool(cma_ranges(machine)))


def expected(machine: Machine) -> Reservation:
    """Return the reservation that the command line asks for. Raises MachineError."""
    return crashkernel.reservation(machine.command_line, machine.iomem.system_ram.size, support_of(machine))


def clause_of(machine: Machine, size: int) -> Clause:
    """Return the crashkernel= for that many bytes: above 4 GiB where the present one asks for that."""
    try:
        return Clause(Form.HIGH if expected(machine).above_4g else Form.SIMPLE, size)
    except MachineError:  # what this kernel makes of the present one is not known
        return Clause(Form.SIMPLE, size)


def reserved(machine: Machine) -> int | None:
    """Return the bytes that are reserved in one piece, which a capture kernel runs in; None: not known.

    Raises MachineError.
    """
    if regions := machine.crash_regions:
        return max(region.size for region in regions)
    return machine.kexec_state.crash_size
