"""A bare i386 machine under Unicorn, as relocate_kernel_32.S leaves it: protected mode, no paging."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unicorn.unicorn import Uc, UcError
from unicorn.unicorn_const import UC_ARCH_X86, UC_HOOK_CODE, UC_MODE_32
from unicorn.x86_const import (
    UC_X86_REG_CR0,
    UC_X86_REG_CR4,
    UC_X86_REG_CS,
    UC_X86_REG_DS,
    UC_X86_REG_EAX,
    UC_X86_REG_EBP,
    UC_X86_REG_EBX,
    UC_X86_REG_ECX,
    UC_X86_REG_EDI,
    UC_X86_REG_EDX,
    UC_X86_REG_EFLAGS,
    UC_X86_REG_ES,
    UC_X86_REG_ESI,
    UC_X86_REG_ESP,
    UC_X86_REG_FS,
    UC_X86_REG_GDTR,
    UC_X86_REG_GS,
    UC_X86_REG_IDTR,
    UC_X86_REG_SS,
)

from tests.emulated.machine import Devices

GENERAL = {
    "eax": UC_X86_REG_EAX,
    "ebx": UC_X86_REG_EBX,
    "ecx": UC_X86_REG_ECX,
    "edx": UC_X86_REG_EDX,
    "esi": UC_X86_REG_ESI,
    "edi": UC_X86_REG_EDI,
    "ebp": UC_X86_REG_EBP,
    "esp": UC_X86_REG_ESP,
}
SEGMENTS = {
    "cs": UC_X86_REG_CS,
    "ds": UC_X86_REG_DS,
    "es": UC_X86_REG_ES,
    "fs": UC_X86_REG_FS,
    "gs": UC_X86_REG_GS,
    "ss": UC_X86_REG_SS,
}
OTHERS = {"eflags": UC_X86_REG_EFLAGS, "cr0": UC_X86_REG_CR0, "cr4": UC_X86_REG_CR4}
STACK = 0x7F000
"""In the old kernel's control page."""
_INSTRUCTIONS_MAX = 50_000_000


@dataclass
class Outcome:
    """How a run ended."""

    jumped: bool
    registers: dict[str, int]
    segments_before: dict[str, int]
    interrupt_table: tuple[int, int]
    """Its address and limit."""
    serial: str
    port_writes: list[tuple[int, int]]
    memory: dict[int, bytes] = field(default_factory=dict)
    instructions: int = 0
    """Counted only on demand."""


def run(
    memory: Mapping[int, bytes],
    entry: int,
    kernel: int,
    *,
    return_to: int = 0,
    peek: Mapping[int, int] | None = None,
    uart_status: int = 0x60,
    counted: bool = False,
) -> Outcome:
    """Execute from `entry` until the kernel's entry point is reached or the machine is reset.

    `memory` maps page-aligned addresses to contents, `peek` addresses to sizes to report at the end;
    `return_to` is on the stack.
    """
    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    for address, content in memory.items():
        uc.mem_map(address, -(-len(content) // 4096) * 4096)
        uc.mem_write(address, content)
    uc.mem_map(STACK - 4096, 8192)
    uc.mem_write(STACK, return_to.to_bytes(4, "little"))
    for number, register in enumerate(GENERAL.values()):
        uc.reg_write(register, 0xDEAD_0000 + number)
    uc.reg_write(UC_X86_REG_ESP, STACK)
    uc.reg_write(UC_X86_REG_GDTR, (0, 0, 0, 0))
    uc.reg_write(UC_X86_REG_IDTR, (0, 0, 0, 0))
    devices = Devices(uc, kernel, uart_status)
    count = [0]
    if counted:
        uc.hook_add(UC_HOOK_CODE, lambda *_: count.__setitem__(0, count[0] + 1))
    before = {name: uc.reg_read(register) for name, register in SEGMENTS.items()}
    try:
        uc.emu_start(entry, 0, count=_INSTRUCTIONS_MAX)
    except UcError:
        assert devices.reset, "purgatory faulted"
    _, base, limit, _ = uc.reg_read(UC_X86_REG_IDTR)
    return Outcome(
        jumped=devices.jumped,
        registers={name: uc.reg_read(each) for name, each in {**GENERAL, **SEGMENTS, **OTHERS}.items()},
        segments_before=before,
        interrupt_table=(base, limit),
        serial=bytes(devices.serial).decode("ascii"),
        port_writes=devices.port_writes,
        memory={address: bytes(uc.mem_read(address, size)) for address, size in (peek or {}).items()},
        instructions=count[0],
    )
