"""A bare s390x CPU under Unicorn, as the old kernel leaves it on entry to purgatory; a service processor."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from unicorn.s390x_const import (
    UC_S390X_REG_PC,
    UC_S390X_REG_PSWM,
    UC_S390X_REG_R0,
    UC_S390X_REG_R2,
    UC_S390X_REG_R14,
)
from unicorn.unicorn import Uc
from unicorn.unicorn_const import UC_ARCH_S390X, UC_HOOK_CODE, UC_HOOK_INTR, UC_MODE_BIG_ENDIAN

MODE_64, MODE_31 = 0x0000000180000000, 0x0000000080000000
"""Masks of PSWs: the addressing modes in which the kernel enters for a crash and for a boot."""
RETURN = 0x5000
LOWCORE = bytes(range(256)) * 32
_INSTRUCTIONS_MAX = 20_000_000
_CODE_MAX = 0x2000
_BLOCK = 256
"""More than any of purgatory's commands takes."""
_SIGP, _SERVC, _STCK, _DIAG, _STOSM = b"\xae", b"\xb2\x20", b"\xb2\x05", b"\x83", b"\xad"
_MILLISECOND = 1000 << 12
"""By the TOD clock, whose bit 51 is a microsecond (Principles of Operation, chapter 4)."""

# drivers/s390/char/sclp.h
_WRITE_DATA, _WRITE_MASK = 0x00760005, 0x00780005
_DONE, _NOT_ALLOWED = 0x0020, 0x71F0
_VT220 = 0x1A


@dataclass
class Outcome:
    """How a run ended."""

    at: int
    """The address it ended at: the kernel's, or `RETURN`."""
    r2: int
    kept: list[int]
    """r6 to r15."""
    mask: int
    """The PSW's."""
    said: str
    """What the service processor was given to write."""
    orders: list[int] = field(default_factory=list)
    """Of SIGP."""
    diagnoses: list[tuple[int, int]] = field(default_factory=list)
    """The number and the subcode of each DIAGNOSE."""
    opened: int = 0
    """How often interruptions were let through."""
    milliseconds: int = 0
    """How often the clock was read: each time one more has gone by."""
    instructions: int = 0
    """Counted only on demand."""
    memory: Mapping[int, bytes] = field(default_factory=dict)
    """What was at the addresses that were asked for."""


class _Stopped(Exception):
    """What ends a run, besides the end address."""


@dataclass
class ServiceProcessor:
    """One that writes what it may: after a reset it has to be told first which messages will come."""

    allows: bool
    busy: int = 0
    """How often it has something else to do."""
    answers: bool = True
    text: str = ""

    def call(self, command: int, block: bytes) -> tuple[int, bytes]:
        """Return the condition code and the block."""
        if self.busy:
            self.busy -= 1
            return 2, block
        if not self.answers:
            return 3, block
        answer = _DONE
        length, *_ = struct.unpack_from(">H", block)
        if command == _WRITE_MASK:
            (size, _, send) = struct.unpack_from(">HII", block, 10)
            assert (length, size) == (28, 4)
            self.allows = bool(send & 1 << (32 - _VT220))
        elif command == _WRITE_DATA and self.allows:
            inner, kind = struct.unpack_from(">HB", block, 8)
            assert (inner, kind) == (length - 8, _VT220)
            self.text += block[14:length].decode("ascii")
        else:
            answer = _NOT_ALLOWED
        return 0, block[:6] + struct.pack(">H", answer) + block[8:]


def run(
    memory: Mapping[int, bytes],
    entry: int,
    kernel: int,
    service: ServiceProcessor,
    *,
    r2: int = 0xDEAD0002,
    mask: int = MODE_64,
    counted: bool = False,
    wanted: Mapping[int, int] | None = None,
) -> Outcome:
    """Execute from `entry` until it returns, jumps to the kernel, or resets the machine.

    `wanted` are places (address and size) that the outcome tells of.
    """
    uc = Uc(UC_ARCH_S390X, UC_MODE_BIG_ENDIAN)
    for address, content in memory.items():
        uc.mem_map(address & ~0xFFF, (len(content) + (address & 0xFFF) + 0xFFF) & ~0xFFF)
        uc.mem_write(address, content)
    for number in range(16):  # nothing is where purgatory could need it
        uc.reg_write(UC_S390X_REG_R0 + number, 0xDEAD_0000 + number)
    uc.reg_write(UC_S390X_REG_R2, r2)
    uc.reg_write(UC_S390X_REG_R14, RETURN)
    uc.reg_write(UC_S390X_REG_PSWM, mask)
    found = Outcome(0, 0, [], 0, "")

    def special(uc: Uc, address: int, size: int, _: object) -> None:
        code = bytes(uc.mem_read(address, size))
        first, second = (uc.reg_read(UC_S390X_REG_R0 + number) for number in (code[-1] >> 4, code[-1] & 15))
        if code[:2] == _SERVC:
            assert second % 8 == second >> 31 == 0
            assert second >> 12 == (second + _BLOCK - 1) >> 12, "a block lies in one page"
            condition, block = service.call(first, bytes(uc.mem_read(second, _BLOCK)))
            uc.mem_write(second, block)
            _skip(uc, address + size, condition)
        elif code[:2] == _STCK:
            found.milliseconds += 1
            base = uc.reg_read(UC_S390X_REG_R0 + (code[2] >> 4)) if code[2] >> 4 else 0
            place = base + (int.from_bytes(code[2:4]) & 0xFFF)
            uc.mem_write(place, struct.pack(">Q", found.milliseconds * _MILLISECOND))
            _skip(uc, address + size, 0)
        elif code[:1] == _SIGP:
            found.orders.append(int.from_bytes(code[2:4]) & 0xFFF)
            _skip(uc, address + size, 0)
        elif code[:1] == _DIAG:
            found.diagnoses.append(
                (int.from_bytes(code[2:4]), uc.reg_read(UC_S390X_REG_R0 + (code[1] & 15)))
            )
            uc.emu_stop()
        elif code[:1] == _STOSM:
            found.opened += 1

    def count(*_: object) -> None:
        found.instructions += 1

    for address in _special_instructions(memory, entry):
        uc.hook_add(UC_HOOK_CODE, special, begin=address, end=address)
    for address in (kernel, RETURN):
        uc.hook_add(UC_HOOK_CODE, lambda uc, *_: uc.emu_stop(), begin=address, end=address)
    if counted:
        uc.hook_add(UC_HOOK_CODE, count)
    uc.hook_add(UC_HOOK_INTR, lambda uc, *_: uc.emu_stop())
    uc.emu_start(entry, 0xFFFF_FFFF, count=_INSTRUCTIONS_MAX)
    found.at = uc.reg_read(UC_S390X_REG_PC)
    found.r2 = uc.reg_read(UC_S390X_REG_R2)
    found.kept = [uc.reg_read(UC_S390X_REG_R0 + number) for number in range(6, 16)]
    found.mask = uc.reg_read(UC_S390X_REG_PSWM)
    found.said = service.text
    found.memory = {at: bytes(uc.mem_read(at, size)) for at, size in (wanted or {}).items()}
    return found


def _special_instructions(memory: Mapping[int, bytes], entry: int) -> Iterator[int]:
    """Yield where there may be instructions that a machine without devices lacks, from `entry` on."""
    (start, content) = next((at, data) for at, data in memory.items() if at <= entry < at + len(data))
    code = content[entry - start : entry - start + _CODE_MAX]
    for offset in range(0, len(code), 2):
        if code[offset : offset + 2] in (_SERVC, _STCK) or code[offset : offset + 1] in (
            _SIGP,
            _DIAG,
            _STOSM,
        ):
            yield entry + offset


def _skip(uc: Uc, after: int, condition: int) -> None:
    """Go on behind an instruction, with the condition code that it is to have."""
    mask = uc.reg_read(UC_S390X_REG_PSWM) & ~(3 << 44)
    uc.reg_write(UC_S390X_REG_PSWM, mask | condition << 44)
    uc.reg_write(UC_S390X_REG_PC, after)
