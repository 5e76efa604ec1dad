"""A bare arm CPU under Unicorn, as the old kernel leaves it on entry to purgatory, and its firmware."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from unicorn.arm_const import (
    UC_ARM_REG_CP_REG,
    UC_ARM_REG_CPSR,
    UC_ARM_REG_PC,
    UC_ARM_REG_R0,
    UC_ARM_REG_R1,
    UC_ARM_REG_R2,
    UC_ARM_REG_SP,
    UC_CPU_ARM_926,
    UC_CPU_ARM_1176,
    UC_CPU_ARM_CORTEX_A7,
    UC_CPU_ARM_CORTEX_A15,
)
from unicorn.unicorn import Uc
from unicorn.unicorn_const import (
    UC_ARCH_ARM,
    UC_HOOK_BLOCK,
    UC_HOOK_CODE,
    UC_HOOK_INSN_INVALID,
    UC_HOOK_INTR,
    UC_HOOK_MEM_READ,
    UC_MODE_ARM,
)

from tests.emulated.uart import Uart

UART = 0x09000000
MACHINE = 0xFFFFFFFF
"""The number of all machines that have a device tree."""
INSTRUCTIONS_MAX = 4_000_000
_SVC, MASKED = 0x13, 0x1C0
MODE_AND_STATE = 0x3F
"""CPSR: mode, and Thumb."""
_CALLS = {0xE1400070: "hvc", 0xE1600070: "smc"}

# The system control register (Arm ARM DDI 0406, B4.1.130)
_SCTLR = (15, 0, 0, 1, 0, 0, 0)
SCTLR_M, SCTLR_A, SCTLR_C, SCTLR_WXN, SCTLR_TRE, SCTLR_AFE = (1 << bit for bit in (0, 1, 2, 19, 28, 29))


class Cpu(enum.Enum):
    """Models, of three generations of the architecture."""

    V5 = UC_CPU_ARM_926
    V6 = UC_CPU_ARM_1176
    V7 = UC_CPU_ARM_CORTEX_A15
    V7_OTHER = UC_CPU_ARM_CORTEX_A7


@dataclass
class Outcome:
    """How a run ended."""

    jumped: bool
    r0: int
    r1: int
    r2: int
    sp: int
    cpsr: int
    sctlr_before: int
    sctlr: int
    """At the kernel's first instruction."""
    cached: bool
    """Whether the data cache was on when what is watched was read."""
    serial: str
    calls: list[tuple[str, int]]
    """Instruction and r0 of each call of the firmware."""
    instructions: int
    """Counted only on demand."""


def run(
    memory: Mapping[int, bytes],
    entry: int,
    kernel: int,
    *,
    cpu: Cpu,
    status_register: int,
    busy: int,
    watched: int = 0,
    sctlr_besides: int = 0,
    counted: bool = False,
    limit: int = INSTRUCTIONS_MAX,
) -> Outcome:
    """Execute from `entry` until the kernel's entry point is reached, or the firmware is called, or so many
    instructions are executed.

    The UART's status register, at that offset, reads as `busy` twice before it is ready each time. What is
    not in `memory` cannot be accessed. `watched` is an address that purgatory reads; `sctlr_besides` are
    bits that the old kernel has left set.
    """
    uc = Uc(UC_ARCH_ARM, UC_MODE_ARM)
    uc.ctl_set_cpu_model(cpu.value)
    for address, content in memory.items():
        uc.mem_map(address, -(-len(content) // 4096) * 4096)
        uc.mem_write(address, content)
    uc.mem_map(UART, 4096)
    for number in range(13):  # nothing is where purgatory could need it
        uc.reg_write(UC_ARM_REG_R0 + number, 0xDEAD0000 + number)
    uc.reg_write(UC_ARM_REG_CPSR, _SVC | MASKED)
    uc.reg_write(UC_ARM_REG_R0, 0)
    uc.reg_write(UC_ARM_REG_R1, MACHINE)
    before = _sctlr(uc) | sctlr_besides
    uc.reg_write(UC_ARM_REG_CP_REG, (*_SCTLR, before))
    board = _Board(uc, kernel, status_register, busy, watched)
    count = [0]
    if counted:
        uc.hook_add(UC_HOOK_CODE, lambda *_: count.__setitem__(0, count[0] + 1))
    uc.emu_start(entry, 0, count=limit)
    return Outcome(
        jumped=board.jumped,
        r0=uc.reg_read(UC_ARM_REG_R0),
        r1=uc.reg_read(UC_ARM_REG_R1),
        r2=uc.reg_read(UC_ARM_REG_R2),
        sp=uc.reg_read(UC_ARM_REG_SP),
        cpsr=uc.reg_read(UC_ARM_REG_CPSR),
        sctlr_before=before,
        sctlr=_sctlr(uc),
        cached=board.cached,
        serial=bytes(board.serial).decode("ascii"),
        calls=board.calls,
        instructions=count[0],
    )


def _sctlr(uc: Uc) -> int:
    return int(uc.reg_read(UC_ARM_REG_CP_REG, _SCTLR))


class _Board:
    """The UART, the firmware, and the kernel's first instruction."""

    def __init__(self, uc: Uc, kernel: int, status_register: int, busy: int, watched: int) -> None:
        self.jumped = False
        self.cached = False
        self.serial = Uart(uc, UART, status_register, busy).written
        self.calls: list[tuple[str, int]] = []
        self._kernel = kernel
        uc.hook_add(UC_HOOK_MEM_READ, self._watch, begin=watched, end=watched)
        uc.hook_add(UC_HOOK_INSN_INVALID, lambda uc, _: self._called(uc))
        uc.hook_add(UC_HOOK_INTR, lambda uc, *_: self._called(uc))
        uc.hook_add(UC_HOOK_BLOCK, self._block)

    def _watch(self, uc: Uc, *_: object) -> None:
        self.cached = _sctlr(uc) & (SCTLR_M | SCTLR_C) == SCTLR_M | SCTLR_C

    def _called(self, uc: Uc) -> bool:
        """Take a call of the firmware: there is none, so it is an exception, or undefined."""
        pc = uc.reg_read(UC_ARM_REG_PC)
        words = {int.from_bytes(uc.mem_read(at, 4), "little") for at in (pc - 4, pc)}
        found = [call for word, call in _CALLS.items() if word in words]
        self.calls += [(call, uc.reg_read(UC_ARM_REG_R0)) for call in found]
        uc.emu_stop()
        return bool(found)

    def _block(self, uc: Uc, address: int, _size: int, _user: object) -> None:
        if address == self._kernel:
            self.jumped = True
            uc.emu_stop()
