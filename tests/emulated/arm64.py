"""A bare arm64 machine under Unicorn, as the old kernel leaves it when it enters purgatory: MMU off."""

from collections.abc import Mapping
from dataclasses import dataclass

from unicorn.arm64_const import UC_ARM64_REG_SP, UC_ARM64_REG_X0
from unicorn.unicorn import Uc
from unicorn.unicorn_const import (
    UC_ARCH_ARM64,
    UC_HOOK_BLOCK,
    UC_HOOK_INTR,
    UC_HOOK_MEM_READ,
    UC_HOOK_MEM_WRITE,
    UC_MODE_ARM,
)

UART = 0x09000000
PSCI_SYSTEM_RESET = 0x84000009  # ARM DEN 0022
_INSTRUCTIONS_MAX = 50_000_000


@dataclass
class Outcome:
    """How a run ended."""

    jumped: bool
    arguments: list[int]
    """x0 to x3."""
    sp: int
    serial: str
    psci_calls: list[int]


def run(memory: Mapping[int, bytes], entry: int, kernel: int, *, status_register: int, busy: int) -> Outcome:
    """Execute from `entry` until the kernel's entry point or a PSCI call is reached, or the machine halts.

    The UART's status register, at that offset, reads as `busy` twice before it is ready each time.
    """
    uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
    for address, content in memory.items():
        uc.mem_map(address, -(-len(content) // 4096) * 4096)
        uc.mem_write(address, content)
    uc.mem_map(UART, 4096)
    devices = _Devices(uc, kernel, status_register, busy)
    for number in range(29):
        uc.reg_write(UC_ARM64_REG_X0 + number, 0xDEAD_0000 + number)
    uc.emu_start(entry, 0, count=_INSTRUCTIONS_MAX)
    return Outcome(
        jumped=devices.jumped,
        arguments=[uc.reg_read(UC_ARM64_REG_X0 + number) for number in range(4)],
        sp=uc.reg_read(UC_ARM64_REG_SP),
        serial=bytes(devices.serial).decode("ascii"),
        psci_calls=devices.psci_calls,
    )


class _Devices:
    """The UART, the firmware, and the kernel's first instruction."""

    def __init__(self, uc: Uc, kernel: int, status_register: int, busy: int) -> None:
        self.jumped = False
        self.serial = bytearray()
        self.psci_calls: list[int] = []
        self._kernel = kernel
        self._status = UART + status_register
        self._values = (busy, busy, busy ^ 0x20)
        self._reads = 0
        uc.hook_add(UC_HOOK_MEM_READ, self._read, begin=UART, end=UART + 4095)
        uc.hook_add(UC_HOOK_MEM_WRITE, self._write, begin=UART, end=UART + 4095)
        uc.hook_add(UC_HOOK_INTR, self._call)
        uc.hook_add(UC_HOOK_BLOCK, self._block)

    def _read(self, uc: Uc, _access: int, address: int, size: int, _value: int, _user: object) -> None:
        if address == self._status:
            uc.mem_write(address, self._values[self._reads % 3].to_bytes(size, "little"))
            self._reads += 1

    def _write(self, _uc: Uc, _access: int, address: int, _size: int, value: int, _user: object) -> None:
        assert self._reads % 3 == 0, "written while the UART was busy"
        if address == UART:
            self.serial.append(value & 0xFF)

    def _call(self, uc: Uc, _number: int, _user: object) -> None:
        self.psci_calls.append(uc.reg_read(UC_ARM64_REG_X0))
        uc.emu_stop()

    def _block(self, uc: Uc, address: int, _size: int, _user: object) -> None:
        if address == self._kernel:
            self.jumped = True
            uc.emu_stop()
