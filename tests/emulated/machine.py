"""A bare x86_64 machine under Unicorn, as the old kernel leaves it when it enters purgatory."""

from dataclasses import dataclass, field

from unicorn.unicorn import Uc, UcError
from unicorn.unicorn_const import UC_ARCH_X86, UC_HOOK_BLOCK, UC_HOOK_INSN, UC_MODE_64
from unicorn.x86_const import (
    UC_X86_INS_IN,
    UC_X86_INS_OUT,
    UC_X86_REG_CS,
    UC_X86_REG_DS,
    UC_X86_REG_EFLAGS,
    UC_X86_REG_ES,
    UC_X86_REG_R8,
    UC_X86_REG_R9,
    UC_X86_REG_R10,
    UC_X86_REG_R11,
    UC_X86_REG_R12,
    UC_X86_REG_R13,
    UC_X86_REG_R14,
    UC_X86_REG_R15,
    UC_X86_REG_RAX,
    UC_X86_REG_RBP,
    UC_X86_REG_RBX,
    UC_X86_REG_RCX,
    UC_X86_REG_RDI,
    UC_X86_REG_RDX,
    UC_X86_REG_RSI,
    UC_X86_REG_RSP,
    UC_X86_REG_SS,
)

REGISTERS = {
    "rax": UC_X86_REG_RAX,
    "rbx": UC_X86_REG_RBX,
    "rcx": UC_X86_REG_RCX,
    "rdx": UC_X86_REG_RDX,
    "rsi": UC_X86_REG_RSI,
    "rdi": UC_X86_REG_RDI,
    "rbp": UC_X86_REG_RBP,
    "rsp": UC_X86_REG_RSP,
    "r8": UC_X86_REG_R8,
    "r9": UC_X86_REG_R9,
    "r10": UC_X86_REG_R10,
    "r11": UC_X86_REG_R11,
    "r12": UC_X86_REG_R12,
    "r13": UC_X86_REG_R13,
    "r14": UC_X86_REG_R14,
    "r15": UC_X86_REG_R15,
    "cs": UC_X86_REG_CS,
    "ds": UC_X86_REG_DS,
    "es": UC_X86_REG_ES,
    "ss": UC_X86_REG_SS,
    "eflags": UC_X86_REG_EFLAGS,
}
COM1 = 0x3F8
LSR = COM1 + 5
INSTRUCTIONS_MAX = 50_000_000


@dataclass
class Outcome:
    """How a run ended."""

    jumped: bool
    registers: dict[str, int]
    serial: str
    port_writes: list[tuple[int, int]]
    memory: dict[int, bytes] = field(default_factory=dict)


def run(
    memory: dict[int, bytes],
    entry: int,
    kernel: int,
    *,
    uart_status: int = 0x60,
    peek: dict[int, int] | None = None,
) -> Outcome:
    """Execute from `entry` until the kernel's entry point is reached or the machine is reset or halted.

    `memory` maps page-aligned addresses to contents, `peek` addresses to sizes to report at the end.
    """
    uc = Uc(UC_ARCH_X86, UC_MODE_64)
    for address, content in memory.items():
        uc.mem_map(address, -(-len(content) // 4096) * 4096)
        uc.mem_write(address, content)
    state = _Devices(uc, kernel, uart_status)
    for number, register in enumerate(REGISTERS.values()):
        if register not in (UC_X86_REG_CS, UC_X86_REG_DS, UC_X86_REG_ES, UC_X86_REG_SS, UC_X86_REG_EFLAGS):
            uc.reg_write(register, 0xDEAD_0000 + number)
    try:
        uc.emu_start(entry, 0, count=INSTRUCTIONS_MAX)
    except UcError:
        assert state.reset, "purgatory faulted"
    return Outcome(
        jumped=state.jumped,
        registers={name: uc.reg_read(register) for name, register in REGISTERS.items()},
        serial=bytes(state.serial).decode("ascii"),
        port_writes=state.port_writes,
        memory={address: bytes(uc.mem_read(address, size)) for address, size in (peek or {}).items()},
    )


class _Devices:
    """The ports purgatory uses, and the kernel's first instruction."""

    def __init__(self, uc: Uc, kernel: int, uart_status: int) -> None:
        self.jumped = False
        self.reset = False
        self.serial = bytearray()
        self.port_writes: list[tuple[int, int]] = []
        self._kernel = kernel
        self._uart_status = uart_status
        uc.hook_add(UC_HOOK_INSN, self._read, None, 1, 0, UC_X86_INS_IN)
        uc.hook_add(UC_HOOK_INSN, self._write, None, 1, 0, UC_X86_INS_OUT)
        uc.hook_add(UC_HOOK_BLOCK, self._block)

    def _read(self, _uc: Uc, port: int, _size: int, _user: object) -> int:
        return self._uart_status if port == LSR else 0xFF

    def _write(self, uc: Uc, port: int, _size: int, value: int, _user: object) -> None:
        if port == COM1:
            self.serial.append(value)
        else:
            self.port_writes.append((port, value))
        if (port, value) == (0x64, 0xFE):  # the keyboard controller pulls the reset line
            self.reset = True
            uc.emu_stop()

    def _block(self, uc: Uc, address: int, _size: int, _user: object) -> None:
        if address == self._kernel:
            self.jumped = True
            uc.emu_stop()
