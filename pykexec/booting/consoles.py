"""Where purgatory writes, on machines whose UARTs have their registers in memory."""

from __future__ import annotations

from pykexec import purgatory
from pykexec.errors import UsageError
from pykexec.machine import Machine
from pykexec.plan import Request


def in_memory(machine: Machine, request: Request, line: str) -> purgatory.Console:
    """Return the console for a kernel with that command line.

    Raises UsageError where one is asked for that purgatory cannot use.
    """
    wanted = request.console
    port = machine.console_for(line, wanted.port)
    found = purgatory.mmio_console(port)
    if found.base or not (wanted.port or wanted.serial):
        return found
    if port is None:
        what = "--console-serial: this machine shows no serial console"
    else:
        which = f"--serial={port.name}" if wanted.port else f"--console-serial: {port.name}"
        lack = "is not known to be a PL011 or an 8250" if port.iomem_base else "has no registers in memory"
        what = f"{which} {lack}, and purgatory uses no others"
    raise UsageError(what, hint="name a PL011 or an 8250 with registers in memory: --serial=ttyAMA0")
