"""A bare riscv64 hart under Unicorn, as the old kernel leaves it on entry to purgatory, and its firmware."""

from collections.abc import Mapping
from dataclasses import dataclass

from unicorn.riscv_const import (
    UC_CPU_RISCV64_BASE64,
    UC_RISCV_REG_A0,
    UC_RISCV_REG_A1,
    UC_RISCV_REG_A6,
    UC_RISCV_REG_A7,
    UC_RISCV_REG_PC,
    UC_RISCV_REG_PRIV,
    UC_RISCV_REG_SP,
    UC_RISCV_REG_STVEC,
    UC_RISCV_REG_X1,
)
from unicorn.unicorn import Uc, UcError
from unicorn.unicorn_const import (
    UC_ARCH_RISCV,
    UC_HOOK_BLOCK,
    UC_HOOK_CODE,
    UC_HOOK_INTR,
    UC_MODE_RISCV64,
)

from tests.emulated.uart import Uart

UART = 0x10000000
HART = 3
_INSTRUCTIONS_MAX = 50_000_000
_ECALLS = {8, 9, 11}  # Privileged Architecture, table 14: from U-, S- and M-mode
_SUPERVISOR = 1

# RISC-V SBI specification: extension and function
LEGACY_PUTCHAR = 1, 0
PROBE = 0x10, 3
DEBUG_CONSOLE = 0x4442434E
DEBUG_CONSOLE_WRITE_BYTE = DEBUG_CONSOLE, 2
SYSTEM_RESET = 0x53525354, 0
_NOT_SUPPORTED = -2


@dataclass(frozen=True)
class Firmware:
    """What of the SBI is implemented."""

    debug_console: bool = True
    legacy: bool = True
    error: int = 0
    """What its probe answers besides."""

    @property
    def consoles(self) -> set[tuple[int, int]]:
        """The calls that write."""
        there = {DEBUG_CONSOLE_WRITE_BYTE: self.debug_console, LEGACY_PUTCHAR: self.legacy}
        return {call for call, is_there in there.items() if is_there}


NEW = Firmware()


@dataclass
class Outcome:
    """How a run ended."""

    jumped: bool
    a0: int
    a1: int
    sp: int
    serial: str
    """What was written to the UART."""
    firmware: str
    """What the firmware was given to write."""
    consoles: set[tuple[int, int]]
    """The calls that it was given with."""
    resets: list[tuple[int, int]]
    """Type and reason of each reset."""
    trap_vector: int
    instructions: int
    """Counted only on demand."""


def run(
    memory: Mapping[int, bytes],
    entry: int,
    kernel: int,
    *,
    status_register: int,
    busy: int,
    firmware: Firmware,
    counted: bool = False,
) -> Outcome:
    """Execute from `entry` until the kernel's entry point is reached, or the firmware resets the machine.

    The UART's status register, at that offset, reads as `busy` twice before it is ready each time. What is
    not in `memory` cannot be accessed.
    """
    uc = Uc(UC_ARCH_RISCV, UC_MODE_RISCV64)
    uc.ctl_set_cpu_model(UC_CPU_RISCV64_BASE64)
    for address, content in memory.items():
        uc.mem_map(address, -(-len(content) // 4096) * 4096)
        uc.mem_write(address, content)
    uc.mem_map(UART, 4096)
    for number in range(31):  # nothing is where purgatory could need it
        uc.reg_write(UC_RISCV_REG_X1 + number, 0xDEAD_0000_0000_0000 + number)
    uc.reg_write(UC_RISCV_REG_PRIV, _SUPERVISOR)
    uc.reg_write(UC_RISCV_REG_A0, HART)
    uc.reg_write(UC_RISCV_REG_STVEC, entry)  # arch/riscv/kernel/kexec_relocate.S, in a crash
    devices = _Devices(uc, kernel, status_register, busy, firmware)
    count = [0]
    if counted:
        uc.hook_add(UC_HOOK_CODE, lambda *_: count.__setitem__(0, count[0] + 1))
    _execute(uc, entry)
    return Outcome(
        jumped=devices.jumped,
        a0=uc.reg_read(UC_RISCV_REG_A0),
        a1=uc.reg_read(UC_RISCV_REG_A1),
        sp=uc.reg_read(UC_RISCV_REG_SP),
        serial=bytes(devices.serial).decode("ascii"),
        firmware=bytes(devices.written).decode("ascii"),
        consoles=devices.consoles,
        resets=devices.resets,
        trap_vector=uc.reg_read(UC_RISCV_REG_STVEC),
        instructions=count[0],
    )


def _execute(uc: Uc, entry: int) -> None:
    """Unicorn stops where there is no memory; the hart goes on where stvec points."""
    try:
        uc.emu_start(entry, 0, count=_INSTRUCTIONS_MAX)
    except UcError:
        vector = uc.reg_read(UC_RISCV_REG_STVEC)
        assert vector % 4 == 0
        assert vector != entry, "a fault would start purgatory again"
        uc.emu_start(vector, 0, count=_INSTRUCTIONS_MAX)


class _Devices:
    """The UART, the firmware, and the kernel's first instruction."""

    def __init__(self, uc: Uc, kernel: int, status_register: int, busy: int, firmware: Firmware) -> None:
        self.jumped = False
        self.serial = Uart(uc, UART, status_register, busy).written
        self.written = bytearray()
        self.consoles: set[tuple[int, int]] = set()
        self.resets: list[tuple[int, int]] = []
        self._kernel = kernel
        self._firmware = firmware
        uc.hook_add(UC_HOOK_INTR, self._trap)
        uc.hook_add(UC_HOOK_BLOCK, self._block)

    def _trap(self, uc: Uc, number: int, _user: object) -> None:
        assert number in _ECALLS, f"exception {number} at 0x{uc.reg_read(UC_RISCV_REG_PC):x}"
        a0, a1, function, extension = (
            uc.reg_read(register)
            for register in (UC_RISCV_REG_A0, UC_RISCV_REG_A1, UC_RISCV_REG_A6, UC_RISCV_REG_A7)
        )
        error, value = self._answer(uc, (extension, function), a0, a1)
        uc.reg_write(UC_RISCV_REG_A0, error & (1 << 64) - 1)
        uc.reg_write(UC_RISCV_REG_A1, value)

    def _answer(self, uc: Uc, call: tuple[int, int], first: int, second: int) -> tuple[int, int]:
        """SBI's error and value."""
        if call == PROBE:
            return self._firmware.error, int(first == DEBUG_CONSOLE and self._firmware.debug_console)
        if call == SYSTEM_RESET:
            self.resets.append((first, second))
            uc.emu_stop()
        elif call in self._firmware.consoles:
            self.consoles.add(call)
            self.written.append(first)
        else:
            return _NOT_SUPPORTED, 0
        return 0, 0

    def _block(self, uc: Uc, address: int, _size: int, _user: object) -> None:
        if address == self._kernel:
            self.jumped = True
            uc.emu_stop()
