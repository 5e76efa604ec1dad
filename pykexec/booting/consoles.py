"""Purgatory's console on machines whose UARTs have their registers in memory."""

from __future__ import annotations

from collections.abc import Mapping

from pykexec import purgatory
from pykexec.errors import UsageError
from pykexec.machine import Machine
from pykexec.machine.serial import Registers, SerialPort
from pykexec.plan import Request
from pykexec.purgatory import ConsoleKind
from pykexec.values import dataclass


@dataclass(frozen=True, slots=True)
class Drivers:
    """What an architecture's purgatory has drivers for."""

    kinds: Mapping[Registers, ConsoleKind]
    names: str
    """One of them, for people."""


_USUAL = Drivers(
    {
        Registers.PL011: ConsoleKind.PL011,
        Registers.UART_8250: ConsoleKind.UART_8250_MMIO,
        Registers.UART_8250_WORDS: ConsoleKind.UART_8250_MMIO32,
    },
    "a PL011 or an 8250",
)


def in_memory(
    machine: Machine,
    request: Request,
    line: str,
    otherwise: purgatory.Console = purgatory.NO_CONSOLE,
    drivers: Drivers = _USUAL,
) -> purgatory.Console:
    """Return the console for a kernel with that command line; `otherwise` where purgatory has no driver for
    the UART that is one.

    Raises UsageError where the request asks for a console that purgatory cannot use.
    """
    wanted = request.console
    port = machine.console_for(line, wanted.port)
    found = _console(port, drivers)
    if found.base:
        return found
    if not wanted.port and (otherwise != purgatory.NO_CONSOLE or not wanted.serial):
        return otherwise
    if port is None:
        what = "--console-serial: this machine shows no serial console"
    else:
        which = f"--serial={port.name}" if wanted.port else f"--console-serial: {port.name}"
        lack = f"is not known to be {drivers.names}" if port.iomem_base else "has no registers in memory"
        what = f"{which} {lack}, and purgatory uses no others"
    raise UsageError(what, hint=f"name {drivers.names} with registers in memory: --serial=PORT")


def _console(port: SerialPort | None, drivers: Drivers) -> purgatory.Console:
    """Return the console of that UART if purgatory has a driver for it, else none.

    Purgatory must not touch other UARTs: reads and writes there may reset or stop the CPU.
    """
    if port is None or not port.iomem_base or port.registers not in drivers.kinds:
        return purgatory.NO_CONSOLE
    return purgatory.Console(drivers.kinds[port.registers], port.iomem_base, port.reg_shift)
