"""Serial ports, for purgatory's last words."""

import enum

from pykexec.errors import MachineError, UsageError
from pykexec.machine.root import Root
from pykexec.machine.sysfs import number, read_number, read_text
from pykexec.parameters import name_of, parameters
from pykexec.values import dataclass

_TTYS = "sys/class/tty"
_PORTS_END = 1 << 16
_SHIFT_MAX = 12  # registers are not further apart than a page
_UPIO_MEM, _UPIO_MEM32 = 2, 3  # include/linux/serial_core.h
_DRIVER_PL011, _DRIVER_8250, _DRIVER_SCI = "ttyAMA", "ttyS", "ttySC"
"""What their terminals are called (amba-pl011.c, 8250_core.c, sh-sci.c); other drivers have ttyS, too."""
_PORT_SCIF = 53
"""The only one of sh-sci.c's types that is meant here (include/uapi/linux/serial_core.h)."""
_TYPES_8250 = frozenset({*range(1, 31), 40, 42, 76, 95, 121})
"""PORT_* of what drivers/tty/serial/8250 drives (include/uapi/linux/serial.h, serial_core.h)."""


class Registers(enum.Enum):
    """What lies at a port's `iomem_base`."""

    UNKNOWN = "unknown"
    PL011 = "PL011"
    UART_8250 = "8250"
    UART_8250_WORDS = "8250, to be accessed by 32 bits"
    SCIF = "SCIF"


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A UART and how to reach it."""

    name: str
    """The tty's, such as "ttyS0"."""
    io_port: int
    """0 when it has none."""
    iomem_base: int
    """Physical address of its registers; 0 when it has none."""
    reg_shift: int
    """Registers lie 1 << reg_shift bytes apart in memory."""
    registers: Registers = Registers.UNKNOWN


def console_for(root: Root, command_line: str) -> SerialPort | None:
    """The port of the console a kernel with that command line will use, else of the running one's console.

    The last ``console=`` counts, as it does for /dev/console. None: no serial console this machine knows.
    """
    given = (word for word in parameters(command_line) if name_of(word) == "console")
    names = [word.partition("=")[2].strip('"').partition(",")[0] for word in given]
    named = [name for name in names if name.isalnum()]
    active = (read_text(root, f"{_TTYS}/console/active") or "").split()
    for name in [*reversed(named), *reversed(active)]:
        port = _port(root, name)
        if port is not None:
            return port
    return None


def named(root: Root, name: str) -> SerialPort:
    """The port of a terminal ("ttyS0"), or at an I/O port ("0x3f8"). Raises UsageError if there is none."""
    if name.startswith(("0x", "0X")):
        try:
            port_number = number(name, 16)
        except ValueError:
            port_number = 0
        if not 0 < port_number < _PORTS_END:
            raise UsageError(f"--serial={name}: no I/O port", hint="give one as 0x3f8")
        return SerialPort(name, port_number, iomem_base=0, reg_shift=0)
    port = _port(root, name)
    if port is None:
        raise UsageError(f"--serial={name}: this machine has no such serial port (/sys/class/tty/{name})")
    return port


def _port(root: Root, name: str) -> SerialPort | None:
    def told(file: str, limit: int) -> int:
        path = f"{_TTYS}/{name}/{file}"
        value = read_number(root, path) or 0
        if not 0 <= value < limit:
            raise MachineError(f"/{path} makes no sense: {value:#x}")
        return value

    port = SerialPort(
        name,
        io_port=told("port", _PORTS_END),
        iomem_base=told("iomem_base", 1 << 64),
        reg_shift=told("iomem_reg_shift", _SHIFT_MAX + 1),
        registers=_registers(name, told("type", 1 << 32), told("io_type", 1 << 8)),
    )
    return port if port.io_port or port.iomem_base else None


def _registers(name: str, uart_type: int, io_type: int) -> Registers:
    """By its type where the name does not tell, as with meson_uart.c and sprd_serial.c."""
    driver = name.rstrip("0123456789")
    if driver == _DRIVER_PL011:
        return Registers.PL011
    if (driver, uart_type) == (_DRIVER_SCI, _PORT_SCIF):
        return Registers.SCIF
    if driver != _DRIVER_8250 or uart_type not in _TYPES_8250:
        return Registers.UNKNOWN
    return {_UPIO_MEM: Registers.UART_8250, _UPIO_MEM32: Registers.UART_8250_WORDS}.get(
        io_type, Registers.UNKNOWN
    )
