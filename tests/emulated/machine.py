"""A bare x86_64 machine under Unicorn, as the old kernel leaves it when it enters purgatory."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unicorn.unicorn import Uc, UcError
from unicorn.unicorn_const import (
    UC_ARCH_X86,
    UC_HOOK_BLOCK,
    UC_HOOK_CODE,
    UC_HOOK_INSN,
    UC_HOOK_INSN_INVALID,
    UC_MODE_64,
)
from unicorn.x86_const import (
    UC_X86_INS_CPUID,
    UC_X86_INS_IN,
    UC_X86_INS_OUT,
    UC_X86_REG_CR0,
    UC_X86_REG_CR3,
    UC_X86_REG_CR4,
    UC_X86_REG_CS,
    UC_X86_REG_DS,
    UC_X86_REG_EAX,
    UC_X86_REG_EBX,
    UC_X86_REG_ECX,
    UC_X86_REG_EDX,
    UC_X86_REG_EFLAGS,
    UC_X86_REG_ES,
    UC_X86_REG_IDTR,
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
    UC_X86_REG_RIP,
    UC_X86_REG_RSI,
    UC_X86_REG_RSP,
    UC_X86_REG_SS,
)

from tests.emulated import sha_ni

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
CPUID, UD2 = b"\x0f\xa2", b"\x0f\x0b"


_UNDEFINED = 6  # the exception's vector
_IDT = (0xFFFF_8000_0000_0000, 0xFFF)


@dataclass(frozen=True)
class Cpu:
    """What the old kernel left, and what the CPU can do."""

    basic: int = 7
    """The highest leaf of CPUID."""
    leaf1: tuple[int, int] = (0, 0)
    """ECX and EDX."""
    leaf7: int = 0
    """EBX."""
    cr0: int = 1 << 2 | 1 << 3
    """Bits that are set besides those Unicorn needs: EM and TS."""
    cr4: int = 1 << 5
    """PAE, and not OSFXSR."""
    cpuid_faults: bool = False
    """CPUID is an exception, as under some hypervisors."""


PLAIN = Cpu()
# Intel SDM volume 2, CPUID: SSSE3; FXSR and SSE2; SHA.
SHA = Cpu(leaf1=(1 << 9, 1 << 24 | 1 << 26), leaf7=1 << 29)


@dataclass
class Outcome:
    """How a run ended."""

    jumped: bool
    registers: dict[str, int]
    serial: str
    port_writes: list[tuple[int, int]]
    memory: dict[int, bytes] = field(default_factory=dict)
    before: dict[str, object] = field(default_factory=dict)
    """CR0, CR4 and the interrupt table, on entry."""
    after: dict[str, object] = field(default_factory=dict)
    sha_instructions: int = 0
    sha_rounds: int = 0
    sha_rounds_waiting: int = 0
    """Those that work on what the one just before gave: it takes the CPU longer than to begin another."""
    instructions: int = 0
    """Counted only on demand."""


def run(
    memory: dict[int, bytes],
    entry: int,
    kernel: int,
    *,
    uart_status: int = 0x60,
    peek: dict[int, int] | None = None,
    cpu: Cpu = PLAIN,
    counted: bool = False,
    registers: Mapping[str, int] | None = None,
) -> Outcome:
    """Execute from `entry` until the kernel's entry point is reached or the machine is reset or halted.

    `memory` maps page-aligned addresses to contents, `peek` addresses to sizes to report at the end;
    `registers` are those that do not begin with nonsense.
    """
    uc = Uc(UC_ARCH_X86, UC_MODE_64)
    for address, content in memory.items():
        if cpu.cpuid_faults:
            content = content.replace(CPUID, UD2)
        uc.mem_map(address, -(-len(content) // 4096) * 4096)
        uc.mem_write(address, content)
    state = Devices(uc, kernel, uart_status)
    processor = _Processor(uc, cpu)
    before = processor.control()
    count = [0]
    if counted:
        uc.hook_add(UC_HOOK_CODE, lambda *_: count.__setitem__(0, count[0] + 1))
    for number, register in enumerate(REGISTERS.values()):
        if register not in (UC_X86_REG_CS, UC_X86_REG_DS, UC_X86_REG_ES, UC_X86_REG_SS, UC_X86_REG_EFLAGS):
            uc.reg_write(register, 0xDEAD_0000 + number)
    for name, value in (registers or {}).items():
        uc.reg_write(REGISTERS[name], value)
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
        before=before,
        after=processor.control(),
        sha_instructions=processor.sha_instructions,
        sha_rounds=processor.sha_rounds,
        sha_rounds_waiting=processor.sha_rounds_waiting,
        instructions=count[0],
    )


class _Processor:
    """CPUID, and the instructions that Unicorn's CPU has not got."""

    def __init__(self, uc: Uc, cpu: Cpu) -> None:
        self.sha_instructions = self.sha_rounds = self.sha_rounds_waiting = 0
        self._last_target: int | None = None
        self._uc = uc
        self._cpu = cpu
        uc.reg_write(UC_X86_REG_CR0, uc.reg_read(UC_X86_REG_CR0) | cpu.cr0)
        uc.reg_write(UC_X86_REG_CR4, cpu.cr4)
        uc.reg_write(UC_X86_REG_IDTR, (0, *_IDT, 0))
        uc.hook_add(UC_HOOK_INSN, self._identify, None, 1, 0, UC_X86_INS_CPUID)
        uc.hook_add(UC_HOOK_INSN_INVALID, self._invalid)

    def control(self) -> dict[str, object]:
        registers = {
            "cr0": UC_X86_REG_CR0,
            "cr3": UC_X86_REG_CR3,
            "cr4": UC_X86_REG_CR4,
            "idt": UC_X86_REG_IDTR,
        }
        return {name: self._uc.reg_read(register) for name, register in registers.items()}

    def _identify(self, uc: Uc, _user: object) -> int:
        cpu = self._cpu
        leaves = {
            0: (cpu.basic, 0, 0, 0),
            1: (0, 0, *cpu.leaf1),
            7: (0, cpu.leaf7 if uc.reg_read(UC_X86_REG_ECX) == 0 else 0, 0, 0),
        }
        leaf = uc.reg_read(UC_X86_REG_EAX)
        assert leaf <= cpu.basic
        registers = (UC_X86_REG_EAX, UC_X86_REG_EBX, UC_X86_REG_ECX, UC_X86_REG_EDX)
        for register, value in zip(registers, leaves[leaf], strict=True):
            uc.reg_write(register, value)
        return 1

    def _invalid(self, uc: Uc, _user: object) -> bool:
        if bytes(uc.mem_read(uc.reg_read(UC_X86_REG_RIP), 2)) == UD2:
            self._raise(uc)
            return True
        assert not uc.reg_read(UC_X86_REG_CR0) & 0xC, "EM or TS"
        assert uc.reg_read(UC_X86_REG_CR4) & 1 << 9, "OSFXSR"
        self.sha_instructions += 1
        done = sha_ni.execute(uc)
        if done and done.name == "sha256rnds2":
            self.sha_rounds += 1
            self.sha_rounds_waiting += self._last_target in (done.target, done.source)
            self._last_target = done.target
        return done is not None

    def _raise(self, uc: Uc) -> None:
        """Go through the interrupt table (Intel SDM volume 3, 6.14)."""
        _, base, limit, _ = uc.reg_read(UC_X86_REG_IDTR)
        assert limit >= 16 * _UNDEFINED + 15
        gate = int.from_bytes(uc.mem_read(base + 16 * _UNDEFINED, 16), "little")
        assert gate >> 40 & 0xFF == 0x8E, "a present interrupt gate"
        assert gate >> 32 & 0xFF == 0, "the stack stays"
        assert gate >> 16 & 0xFFFF == uc.reg_read(UC_X86_REG_CS)
        stack = (uc.reg_read(UC_X86_REG_RSP) & -16) - 40
        uc.mem_write(stack, bytes(40))  # where the way back would be
        uc.reg_write(UC_X86_REG_RSP, stack)
        uc.reg_write(
            UC_X86_REG_RIP, gate & 0xFFFF | gate >> 32 & 0xFFFF_0000 | gate >> 32 & 0xFFFF_FFFF_0000_0000
        )


class Devices:
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
