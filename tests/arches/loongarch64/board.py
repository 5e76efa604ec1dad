"""A bare loongarch64 machine of QEMU's, as the old kernel leaves it on entry to purgatory.

Unicorn has no LoongArch. So a program of a few instructions takes the old kernel's place, and another one
the new kernel's; that writes down what it was given.
"""

import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pykexec.formats.elfheader import ET_EXEC, PF_RWX, PT_LOAD, Encoding, ProgramHeader

UART = 0x1FE001E0
RESET_REGISTER, RESET_VALUE = 0x100E001E, 0x42
"""QEMU's include/hw/acpi/generic_event_device.h: ACPI_GED_REG_RESET behind the other registers."""
UNCACHED, CACHED = 0x8 << 60, 0x9 << 60
EFI, SYSTEM_TABLE, OLD_LINE = 1, 0x0DF20018, 0x9000000000108000
OLD_WINDOW = 0x7000000000000011
"""What is in the window that purgatory takes for itself."""
_START = 0x200000
_MAGIC = b"KERNEL"

# LoongArch Reference Manual 1, appendix B; General registers by their numbers.
_A0, _A1, _A2, _SP, _T0, _T1, _T2 = 4, 5, 6, 3, 12, 13, 14
_CRMD, _SAVE0, _DMW0, _DMW1, _DMW3 = 0x0, 0x30, 0x180, 0x181, 0x183
_PAGING = 0xB0  # as arch/loongarch/kernel/head.S has it: privilege level 0, no interrupts, windows in use


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    serial: str
    """What was written to the UART before a kernel started."""
    kernel: tuple[int, ...] | None
    """a0, a1, a2, the stack pointer, and the window, as the new kernel found them; None: none started."""
    ticks: int
    """The time from entry to kernel, in units of ten instructions; 0: none was started."""


def run(memory: Mapping[int, bytes], entry: int, kernel: int, folder: Path) -> Outcome:
    """Execute from `entry` until the new kernel, at `kernel`, resets the machine, or purgatory does.

    Raises subprocess.TimeoutExpired where neither does.
    """
    program, output = folder / "program", folder / "serial"
    pieces = {**memory, _START: _old_kernel(CACHED | entry)}
    pieces[kernel] = _new_kernel() + pieces.get(kernel, b"")[len(_new_kernel()) :]
    program.write_bytes(_program(pieces))
    output.unlink(missing_ok=True)
    command = [
        "qemu-system-loongarch64",
        "-M",
        "virt",
        "-cpu",
        "la464",
        "-m",
        "1G",
        "-nodefaults",
        "-no-reboot",
    ]
    devices = ["-display", "none", "-serial", f"file:{output}", "-icount", "shift=0"]
    subprocess.run([*command, *devices, "-kernel", program], check=True, timeout=60, capture_output=True)
    said, _, rest = output.read_bytes().partition(_MAGIC)
    if not rest:
        return Outcome(said.decode("ascii"), None, 0)
    *found, before, after = struct.unpack("<7Q", rest)
    return Outcome(said.decode("ascii"), tuple(found), after - before)


def kernel_code_size() -> int:
    """Return how many bytes of the new kernel's are this module's."""
    return len(_new_kernel())


def _program(pieces: Mapping[int, bytes]) -> bytes:
    encoding = Encoding(64, "little")
    at = encoding.header_size + len(pieces) * encoding.program_header_size
    headers = []
    for address, data in pieces.items():
        headers.append(ProgramHeader(PT_LOAD, PF_RWX, at, address, address, len(data), len(data)))
        at += len(data)
    header = bytearray(encoding.build(ET_EXEC, 258, headers))
    header[24:32] = _START.to_bytes(8, "little")
    return bytes(header) + b"".join(pieces.values())


def _code(instructions: Iterator[int]) -> bytes:
    return b"".join(each.to_bytes(4, "little") for each in instructions)


def _old_kernel(entry: int) -> bytes:
    return _code(_enter(entry))


def _enter(entry: int) -> Iterator[int]:
    for window, value in ((_DMW0, UNCACHED | 0x1), (_DMW1, CACHED | 0x11), (_DMW3, OLD_WINDOW)):
        yield from _load(_T0, value)
        yield _write_csr(_T0, window)
    here = CACHED | _START + 4 * (3 * 5 + 5)
    yield from _load(_T0, here)
    yield _jump(_T0)
    yield from _load(_T0, _PAGING)
    yield _write_csr(_T0, _CRMD)
    for number in range(1, 32):  # nothing is where purgatory could need it
        yield from _load(number, 0xDEAD << 48 | number)
    for register, value in ((_A0, EFI), (_A1, OLD_LINE), (_A2, SYSTEM_TABLE), (_T0, entry)):
        yield from _load(register, value)
    yield 0x00006800 | _T1  # rdtime.d
    yield _write_csr(_T1, _SAVE0)
    yield _jump(_T0)


def _new_kernel() -> bytes:
    return _code(_report())


def _report() -> Iterator[int]:
    yield 0x00006800 | _T2  # rdtime.d
    yield from _load(_T0, UNCACHED | UART)
    for byte in _MAGIC:
        yield from _load(_T1, byte)
        yield _store_byte(_T1)
    for register in (_A0, _A1, _A2, _SP):
        yield from _send(register)
    for csr in (_DMW3, _SAVE0):
        yield 0x04000000 | csr << 10 | _A0  # csrrd
        yield from _send(_A0)
    yield from _send(_T2)
    yield from _load(_T0, UNCACHED | RESET_REGISTER)
    yield from _load(_T1, RESET_VALUE)
    yield _store_byte(_T1)


def _send(register: int) -> Iterator[int]:
    for shift in range(0, 64, 8):
        yield 0x00450000 | shift << 10 | register << 5 | _T1  # srli.d
        yield _store_byte(_T1)


def _load(register: int, value: int) -> Iterator[int]:
    """lu12i.w, ori, lu32i.d, lu52i.d"""
    yield 0x14000000 | (value >> 12 & 0xFFFFF) << 5 | register
    yield 0x03800000 | (value & 0xFFF) << 10 | register << 5 | register
    yield 0x16000000 | (value >> 32 & 0xFFFFF) << 5 | register
    yield 0x03000000 | (value >> 52 & 0xFFF) << 10 | register << 5 | register


def _write_csr(register: int, csr: int) -> int:
    return 0x04000020 | csr << 10 | register


def _jump(register: int) -> int:
    return 0x4C000000 | register << 5


def _store_byte(register: int) -> int:
    return 0x29000000 | _T0 << 5 | register
