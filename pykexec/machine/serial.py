"""Serial ports, for purgatory's last words."""

import re

from pykexec.errors import UsageError
from pykexec.machine.root import Root
from pykexec.machine.text import read_number, read_text
from pykexec.values import dataclass

_TTYS = "sys/class/tty"
_UPIO_MEM32 = 3  # include/linux/serial_core.h


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A UART and how to reach it."""

    name: str
    """The tty's, such as "ttyS0"."""
    io_port: int
    """x86 I/O port; 0 when it has none."""
    iomem_base: int
    """Physical address of its registers; 0 when it has none."""
    reg_shift: int
    """Registers lie 1 << reg_shift bytes apart in memory."""
    word_registers: bool
    """Registers take accesses of 32 bits only."""


FIRST_PORT = SerialPort("ttyS0", io_port=0x3F8, iomem_base=0, reg_shift=0, word_registers=False)
"""Where every PC has it (arch/x86/include/asm/serial.h)."""


def console_for(root: Root, command_line: str) -> SerialPort | None:
    """The port of the console a kernel with that command line will use, else of the running one's console.

    The last ``console=`` counts, as it does for /dev/console. None: no serial console this machine knows.
    """
    named = re.findall(r"(?:^|\s)console=(tty[A-Za-z]*\d+)", command_line)
    active = (read_text(root, f"{_TTYS}/console/active") or "").split()
    for name in [*reversed(named), *reversed(active)]:
        port = _port(root, name)
        if port is not None:
            return port
    return None


def named(root: Root, name: str) -> SerialPort:
    """The port of a terminal ("ttyS0"), or at an I/O port ("0x3f8"). Raises UsageError if there is none."""
    if name.startswith(("0x", "0X")):
        return SerialPort(name, int(name, 16), iomem_base=0, reg_shift=0, word_registers=False)
    port = _port(root, name)
    if port is None:
        raise UsageError(f"--serial={name}: this machine has no such serial port (/sys/class/tty/{name})")
    return port


def _port(root: Root, name: str) -> SerialPort | None:
    def number(file: str) -> int:
        return read_number(root, f"{_TTYS}/{name}/{file}") or 0

    port = SerialPort(
        name,
        io_port=number("port"),
        iomem_base=number("iomem_base"),
        reg_shift=number("iomem_reg_shift"),
        word_registers=number("io_type") == _UPIO_MEM32,
    )
    return port if port.io_port or port.iomem_base else None
