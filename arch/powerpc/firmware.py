"""Find the firmware that purgatory calls on a 64-bit machine: to write to the console, and to reset it."""

from __future__ import annotations

import enum

from pykexec.arch.powerpc.memory import CHOSEN, OPAL, RTAS
from pykexec.devicetree import DeviceTree
from pykexec.errors import UsageError
from pykexec.plan import Request
from pykexec.purgatory import NO_CONSOLE, Console, ConsoleKind
from pykexec.values import dataclass

_TERMINALS = (b"hvterm1\0", b"hvterm-protocol\0", b"ibm,opal-console-raw\0")
"""Consoles that H_PUT_TERM_CHAR, or OPAL, writes to (drivers/tty/hvc)."""


class Kind(enum.IntEnum):
    """The firmware, as in purgatory/powerpc/arch64.h."""

    NONE = 0
    RTAS = 1
    OPAL = 2


@dataclass(frozen=True, slots=True)
class Firmware:
    """The firmware that a machine has."""

    kind: Kind = Kind.NONE
    base: int = 0
    entry: int = 0
    """Physical, as is `base`."""
    system_reboot: int = 0
    """RTAS's number (token) for that call."""
    console: Console = NO_CONSOLE


def find(tree: DeviceTree) -> Firmware:
    """Return the firmware of the machine that has this tree."""
    console = _console(tree)
    base = _number(tree, OPAL, "opal-base-address")
    entry = _number(tree, OPAL, "opal-entry-address")
    if base and entry:
        return Firmware(Kind.OPAL, base, entry, console=console)
    base, entry = (_number(tree, RTAS, f"linux,rtas-{which}") for which in ("base", "entry"))
    token = _number(tree, RTAS, "system-reboot")
    if base and entry and token:
        return Firmware(Kind.RTAS, base, entry, token, console)
    return Firmware(console=console)


def require_console(firmware: Firmware, request: Request) -> Console:
    """Return purgatory's console. Raises UsageError where the request asks for another one."""
    wanted = request.console
    if wanted.port or (wanted.serial and firmware.console == NO_CONSOLE):
        option = f"--serial={wanted.port}" if wanted.port else "--console-serial"
        raise UsageError(f"{option}: purgatory writes to the firmware's console alone", hint="leave it out")
    return firmware.console


def _console(tree: DeviceTree) -> Console:
    told = tree.get(CHOSEN, "stdout-path") or tree.get(CHOSEN, "linux,stdout-path") or b""
    path = told.partition(b"\0")[0].partition(b":")[0].decode("latin-1")
    compatible, number = tree.get(path, "compatible") or b"", tree.get(path, "reg") or b""
    if not path or not number or not any(each in compatible for each in _TERMINALS):
        return NO_CONSOLE
    return Console(ConsoleKind.FIRMWARE, int.from_bytes(number[:4]))


def _number(tree: DeviceTree, path: str, name: str) -> int:
    return int.from_bytes((tree.get(path, name) or b"")[:8])
