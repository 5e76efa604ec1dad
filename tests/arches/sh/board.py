"""A bare RTS7751R2D of QEMU's, as the old kernel leaves it on entry to purgatory.

Unicorn has no SuperH. So a program of a few instructions takes the old kernel's place, and another one
the new kernel's; that writes down what it was given.
"""

import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

P1, P2 = 0x80000000, 0xA0000000
SCIF = 0xFFE80000
"""SH7751 hardware manual, appendix A."""
_START = 0x0C800000
"""Where QEMU puts what it is given as a kernel, and enters it in P2 (hw/sh4/r2d.c, LINUX_LOAD_OFFSET)."""
_MAGIC = b"KERNEL"
_SCSCR, _SCFTDR, _TRANSMIT = SCIF + 0x08, SCIF + 0x0C, 0x30
_TSTR, _TCOR, _TCNT, _TCR = 0xFFD80004, 0xFFD80008, 0xFFD8000C, 0xFFD80010
"""The timer unit: what starts counters; the first one's first value, value, and clock. It counts down."""
_TICK = 1_000_000_000 / 15_000_000
"""Instructions in a tick, at a nanosecond each: a fourth of the board's 60 MHz (hw/sh4/r2d.c)."""
_MMUCR, _TRANSLATE = 0xFF000010, 0x5
_OLD_SR, _BLOCKED_SR = 0x400080F0, 0x500000F0
"""Privileged, without FPU and interrupts, and the second without exceptions."""

# The manual's instructions that are needed; registers by their numbers.
_NOP = 0x0009


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    serial: str
    """What was written to the SCIF before a kernel started."""
    kernel: tuple[int, int, int] | None
    """The stack pointer, the status register, and its own address, as the new kernel found them; None: none
    was started."""
    instructions: int
    """About so many ran until then; 0: none was started."""


class _Code:
    """Instructions, and behind them the constants that they load."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._constants: list[tuple[int, int]] = []

    def add(self, *words: int) -> None:
        self._words += words

    def load(self, register: int, value: int) -> None:
        """mov.l @(disp, pc), Rn"""
        self._constants.append((len(self._words), value))
        self.add(0xD000 | register << 8)

    def built(self) -> bytes:
        words = [*self._words, *([_NOP] * (len(self._words) % 2))]
        pool = len(words) * 2
        for number, (index, _) in enumerate(self._constants):
            words[index] |= (pool + 4 * number - (2 * index & ~3) - 4) // 4
        return struct.pack(f"<{len(words)}H", *words) + struct.pack(
            f"<{len(self._constants)}I", *(value for _, value in self._constants)
        )


def _old_kernel(entry: int) -> bytes:
    """With the MMU on, so that only P1 and P2 have memory."""
    code = _Code()
    code.load(0, _SCSCR)
    code.add(0xE100 | _TRANSMIT, 0x2011)  # mov #imm, r1; mov.w r1, @r0
    code.load(0, _MMUCR)
    code.add(0xE100 | _TRANSLATE, 0x2012)  # mov.l r1, @r0
    code.load(0, _OLD_SR)
    code.add(0x400E)  # ldc r0, sr
    for register in range(1, 16):  # nothing is where purgatory could need it
        code.load(register, 0xDEAD0000 | register)
    code.load(0, _TCR)
    code.add(0xE100, 0x2011)
    for counter in (_TCOR, _TCNT):
        code.load(0, counter)
        code.add(0xE1FF, 0x2012)  # mov #-1, r1; mov.l r1, @r0
    code.load(0, _TSTR)
    code.add(0xE101, 0x2010)  # mov.b r1, @r0
    code.load(0, P1 | entry)
    code.add(0x402B, _NOP)  # jmp @r0
    return code.built()


def _new_kernel() -> bytes:
    code = _Code()
    code.load(1, _TCNT)
    code.add(0x6B12)  # mov.l @r1, r11
    code.add(0x6EF3)  # mov r15, r14
    code.add(0x0D02)  # stc sr, r13
    code.add(0xC700, 0x6C03)  # mova (this place), r0; mov r0, r12
    code.load(2, _SCFTDR)
    for byte in _MAGIC:
        code.add(0xE100 | byte, 0x2210)  # mov.b r1, @r2
    for register in (14, 13, 12, 11):
        for _ in range(4):
            code.add(0x2200 | register << 4, 0x4019 | register << 8)  # mov.b Rn, @r2; shlr8 Rn
    code.load(0, _BLOCKED_SR)
    code.load(1, P1 + 1)
    code.add(0x400E, 0x6012, 0xAFFE, _NOP)  # ldc r0, sr; mov.l @r1, r0, which resets; bra to itself
    return code.built()


def kernel_code_size() -> int:
    """Return how many bytes of the new kernel's are this module's."""
    return len(_new_kernel())


def run(memory: Mapping[int, bytes], entry: int, kernel: int, folder: Path) -> Outcome:
    """Execute from `entry` until the new kernel, at `kernel`, resets the machine, or purgatory does.

    All addresses are physical. Raises subprocess.TimeoutExpired where neither does.
    """
    output, program = folder / "serial", folder / "program"
    output.unlink(missing_ok=True)
    program.write_bytes(_old_kernel(entry))
    new = _new_kernel()
    pieces = {**memory, kernel: new + memory.get(kernel, b"")[len(new) :]}
    command = ["qemu-system-sh4", "-M", "r2d", "-nodefaults", "-no-reboot", "-display", "none"]
    devices = ["-icount", "shift=0", "-serial", "null", "-serial", f"file:{output}", "-kernel", str(program)]
    subprocess.run(
        [*command, *devices, *_loaded(pieces, folder)], check=True, timeout=60, capture_output=True
    )
    said, _, rest = output.read_bytes().partition(_MAGIC)
    if not rest:
        return Outcome(said.decode("ascii"), None, 0)
    stack, status, here, left = struct.unpack("<4I", rest)
    return Outcome(said.decode("ascii"), (stack, status, here), round((0xFFFFFFFF - left) * _TICK))


def _loaded(pieces: Mapping[int, bytes], folder: Path) -> Sequence[str]:
    return list(_options(pieces, folder))


def _options(pieces: Mapping[int, bytes], folder: Path) -> Iterator[str]:
    for address, data in pieces.items():
        path = folder / f"{address:x}"
        path.write_bytes(data)
        yield from ("-device", f"loader,file={path},addr={address:#x},force-raw=on")
