"""A bare arm64 machine under Unicorn, as the old kernel leaves it when it enters purgatory: MMU off.

Unicorn has an MMU but no caches: `_Cache` keeps the books on what a cache would hold, and fails a test that
reads what would be stale.
"""

import enum
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from unicorn.arm64_const import (
    UC_ARM64_INS_MRS,
    UC_ARM64_INS_MSR,
    UC_ARM64_INS_SYS,
    UC_ARM64_REG_CP_REG,
    UC_ARM64_REG_PSTATE,
    UC_ARM64_REG_SP,
    UC_ARM64_REG_X0,
    UC_ARM64_REG_X30,
    UC_CPU_ARM64_A57,
    UC_CPU_ARM64_MAX,
)
from unicorn.unicorn import Uc
from unicorn.unicorn_const import (
    UC_ARCH_ARM64,
    UC_HOOK_BLOCK,
    UC_HOOK_CODE,
    UC_HOOK_INSN,
    UC_HOOK_INTR,
    UC_HOOK_MEM_READ,
    UC_HOOK_MEM_WRITE,
    UC_MEM_WRITE,
    UC_MODE_ARM,
)

from tests.emulated.uart import Uart

UART = 0x09000000
PSCI_SYSTEM_RESET = 0x84000009  # ARM DEN 0022
_INSTRUCTIONS_MAX = 50_000_000

# Encodings of registers and operations (Arm ARM, D17.2 and C5): op0, op1, CRn, CRm, op2.
_Encoding = tuple[int, int, int, int, int]
_HCR_EL2: _Encoding = (3, 4, 1, 1, 0)
_SCR_EL3: _Encoding = (3, 6, 1, 1, 0)
ISAR0: _Encoding = (3, 0, 0, 6, 0)
MMFR0: _Encoding = (3, 0, 0, 7, 0)
_DC_CIVAC: _Encoding = (1, 3, 7, 14, 1)
_IC_IALLU: _Encoding = (1, 0, 7, 5, 0)
_TLBI = {1: (1, 0, 8, 7, 0), 2: (1, 4, 8, 7, 0)}  # VMALLE1, ALLE2

SCTLR_M, SCTLR_A, SCTLR_C, SCTLR_I, SCTLR_WXN = 1 << 0, 1 << 1, 1 << 2, 1 << 12, 1 << 19
_LINE = 64
_SVC_HVC_SMC = {2, 11, 13}  # QEMU's numbers of these exceptions


class Level(enum.Enum):
    """The exception level of the old kernel, and so of purgatory."""

    EL1 = 1
    EL2 = 2
    EL2_HOST = 3
    """EL2 with HCR_EL2.E2H: a kernel with VHE."""

    @property
    def number(self) -> int:
        return 1 if self is Level.EL1 else 2

    @property
    def registers(self) -> dict[str, _Encoding]:
        """The registers that purgatory may change on its way, at this level."""
        op1 = 0 if self is Level.EL1 else 4
        return {
            "sctlr": (3, op1, 1, 0, 0),
            "ttbr0": (3, op1, 2, 0, 0),
            "tcr": (3, op1, 2, 0, 2),
            "mair": (3, op1, 10, 2, 0),
            "access": (3, op1, 1, 0 if self is Level.EL1 else 1, 2),  # CPACR_EL1, CPTR_EL2
        }


@dataclass
class Hashing:
    """The machine when the first byte of a region is read."""

    registers: dict[str, int]
    memory: bytes
    """What is at the address of purgatory."""


@dataclass
class Outcome:
    """How a run ended."""

    jumped: bool
    arguments: list[int]
    """x0 to x3."""
    sp: int
    serial: str
    psci_calls: list[int]
    before: dict[str, int]
    """The registers that Level.registers names, on entry."""
    after: dict[str, int]
    hashing: Hashing | None
    instructions: int
    """Counted only on demand."""


@dataclass(frozen=True)
class Mapped:
    """What a page or block descriptor says."""

    start: int
    size: int
    normal: bool
    """Write-back memory, inner shareable; else Device-nGnRnE."""
    writable: bool
    executable: bool


@dataclass(frozen=True)
class Cpu:
    """What the old kernel left, and what the CPU can do."""

    level: Level = Level.EL1
    sctlr: int = 0
    """Bits that are set in SCTLR besides those that the CPU has after a reset."""
    identification: Mapping[_Encoding, tuple[int, int]] = field(default_factory=dict)
    """Fields of ID registers that are to be something else: (shift, value), of four bits."""


PLAIN = Cpu()


def run(
    memory: Mapping[int, bytes],
    entry: int,
    kernel: int,
    *,
    status_register: int,
    busy: int,
    cpu: Cpu = PLAIN,
    purgatory: range = range(0),
    counted: bool = False,
    until_mapped: bool = False,
) -> Outcome:
    """Execute from `entry` until the kernel's entry point or a PSCI call is reached, or the machine halts.

    The UART's status register, at that offset, reads as `busy` twice before it is ready each time.
    `purgatory` is where that lies. With `until_mapped` all ends when the map is complete, before any region
    is touched.
    """
    uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
    uc.ctl_set_cpu_model(UC_CPU_ARM64_A57 if cpu.level is not Level.EL2_HOST else UC_CPU_ARM64_MAX)
    for address, content in memory.items():
        uc.mem_map(address, -(-len(content) // 4096) * 4096)
        uc.mem_write(address, content)
    uc.mem_map(UART, 4096)
    _enter(uc, cpu)
    devices = _Devices(uc, kernel, status_register, busy)
    system = _System(uc, cpu, purgatory, list(memory), until_mapped=until_mapped)
    before = system.registers()
    count = [0]
    if counted:
        uc.hook_add(UC_HOOK_CODE, lambda *_: count.__setitem__(0, count[0] + 1))
    uc.emu_start(entry, 0, count=_INSTRUCTIONS_MAX)
    if devices.jumped:
        system.check_as_the_kernel_wants_it()
    return Outcome(
        jumped=devices.jumped,
        arguments=[uc.reg_read(UC_ARM64_REG_X0 + number) for number in range(4)],
        sp=uc.reg_read(UC_ARM64_REG_SP),
        serial=bytes(devices.serial).decode("ascii"),
        psci_calls=devices.psci_calls,
        before=before,
        after=system.registers(),
        hashing=system.hashing,
        instructions=count[0],
    )


def _enter(uc: Uc, cpu: Cpu) -> None:
    """The state of the CPU on entry: nothing of what purgatory needs is as it needs it."""
    uc.reg_write(
        UC_ARM64_REG_PSTATE, 0x3C0 | cpu.level.number << 2 | 1
    )  # interrupts masked, own stack pointer
    host = 1 << 34 | 1 << 27 if cpu.level is Level.EL2_HOST else 0  # E2H, TGE
    # RW, NS and HCE, as firmware sets them: without RW Unicorn takes EL1 for 32-bit.
    _write(uc, _SCR_EL3, 1 << 10 | 1 << 8 | 1 << 0)
    _write(uc, _HCR_EL2, 1 << 31 | host)
    registers = cpu.level.registers
    _write(uc, registers["sctlr"], _read(uc, registers["sctlr"]) | cpu.sctlr)
    _write(uc, registers["ttbr0"], 0x1234_5000)
    _write(uc, registers["tcr"], 0x2_0000_0019)
    _write(uc, registers["mair"], 0x0404_4404_FF44_0C04)
    # Vector registers trap: CPTR_EL2 has a bit for that, in the other layout it needs two for the opposite.
    _write(uc, registers["access"], 0x37FF if cpu.level is Level.EL2 else 0)
    for number in range(29):
        uc.reg_write(UC_ARM64_REG_X0 + number, 0xDEAD_0000 + number)


def _read(uc: Uc, encoding: _Encoding) -> int:
    op0, op1, crn, crm, op2 = encoding
    return int(uc.reg_read(UC_ARM64_REG_CP_REG, (crn, crm, op0, op1, op2)))


def _write(uc: Uc, encoding: _Encoding, value: int) -> None:
    op0, op1, crn, crm, op2 = encoding
    uc.reg_write(UC_ARM64_REG_CP_REG, (crn, crm, op0, op1, op2, value))


class _Cache:
    """What a data cache that is entered in any state would hold, and what of it would be wrong.

    Every line may hold a copy of what memory was before purgatory ran, until it is invalidated.
    """

    def __init__(self) -> None:
        self.enabled = False
        self.dirty: set[int] = set()
        self.held: set[int] = set()
        """Lines that have got into the cache since it was on, and have not been invalidated since."""
        self.fetched: set[int] = set()
        """Those that may have got there unasked for, as all that is mapped may, and are there still."""
        self._clear: set[int] = set()
        """Lines that have been invalidated, and not been written beside the cache since."""
        self._known: set[int] = set()
        """Lines of which there is no longer anything in the cache that was there on entry."""

    def access(self, address: int, size: int, *, write: bool, own: bool) -> None:
        """`own`: where purgatory lies, and its stack."""
        for line in range(address // _LINE, (address + size - 1) // _LINE + 1):
            if self.enabled:
                assert line in self._clear or line in self.held, (
                    f"0x{address:x}: the cache may have an old copy"
                )
                self.held.add(line)
                if write:
                    self.dirty.add(line)
            else:
                assert line not in self.dirty, f"0x{address:x} is in the cache, not yet in memory"
                if write:
                    assert line in self._known or not own, (
                        f"0x{address:x}: what the cache has may come to lie over this"
                    )
                    self._clear.discard(line)

    def clean_invalidate(self, address: int) -> None:
        line = address // _LINE
        self.dirty.discard(line)
        if not self.enabled:
            self.held.discard(line)
            self.fetched.discard(line)
        self._clear.add(line)
        self._known.add(line)


class _System:
    """System registers, and the rules for using them."""

    def __init__(
        self, uc: Uc, cpu: Cpu, purgatory: range, contents: Sequence[int], *, until_mapped: bool
    ) -> None:
        self.hashing: Hashing | None = None
        self._uc = uc
        self._cpu = cpu
        self._cache = _Cache()
        self._purgatory = purgatory
        self._hashed = {address for address in contents if address not in purgatory}
        self._until_mapped = until_mapped
        self._mmu = False
        self._tlbi = _TLBI[cpu.level.number]
        self._fresh = {_IC_IALLU: False, self._tlbi: False}
        """Whether what those operations forget was forgotten since the last change that requires it."""
        uc.hook_add(UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, self._access)
        uc.hook_add(UC_HOOK_INSN, self._identify, None, 1, 0, UC_ARM64_INS_MRS)
        uc.hook_add(UC_HOOK_INSN, self._set, None, 1, 0, UC_ARM64_INS_MSR)
        uc.hook_add(UC_HOOK_INSN, self._operate, None, 1, 0, UC_ARM64_INS_SYS)

    def registers(self) -> dict[str, int]:
        return {name: _read(self._uc, encoding) for name, encoding in self._cpu.level.registers.items()}

    def check_as_the_kernel_wants_it(self) -> None:
        """Documentation/arch/arm64/booting.rst: nothing in the caches, nothing remembered of the old map."""
        assert not self._cache.enabled
        assert not self._cache.dirty
        assert not self._cache.held
        assert not self._cache.fetched, f"0x{min(self._cache.fetched) * _LINE:x} may still be in the cache"
        assert self._fresh[_IC_IALLU]
        assert (
            self._fresh[self._tlbi] or self.hashing is None or not self.hashing.registers["sctlr"] & SCTLR_M
        )

    def _access(self, uc: Uc, access: int, address: int, size: int, _value: int, _user: object) -> None:
        if UART <= address < UART + 4096:
            return
        # Without MMU memory is of the Device kind. (Unicorn joins the bytes that a vector load reads.)
        if not self._mmu and ISAR0 in self._cpu.identification:
            assert address % size == 0, f"0x{address:x}: an unaligned access of {size} bytes faults here"
        self._cache.access(address, size, write=access == UC_MEM_WRITE, own=address in self._purgatory)
        if self.hashing is None and address in self._hashed:
            self._take(uc)

    def _take(self, uc: Uc) -> None:
        self.hashing = self._state(uc)

    def _state(self, uc: Uc) -> Hashing:
        purgatory = bytes(uc.mem_read(self._purgatory.start, len(self._purgatory)))
        return Hashing(self.registers(), purgatory)

    def _fetch_all(self, uc: Uc) -> None:
        """The CPU may speculate into all normal memory that is mapped."""
        state = self._state(uc)
        for each in mapped(state, self._purgatory, state.registers["ttbr0"], self._cpu.level):
            if each.normal:
                self._cache.fetched.update(range(each.start // _LINE, (each.start + each.size) // _LINE))

    def _identify(self, uc: Uc, register: int, which: object, _user: object) -> int:
        encoding = _encoding(which)
        if encoding not in self._cpu.identification:
            return 0
        shift, value = self._cpu.identification[encoding]
        uc.reg_write(register, _read(uc, encoding) & ~(0xF << shift) | value << shift)
        return 1

    def _set(self, _uc: Uc, _register: int, which: object, _user: object) -> int:
        encoding, value = _encoding(which), which.val  # type: ignore[attr-defined]
        registers = self._cpu.level.registers
        if encoding in (registers["ttbr0"], registers["tcr"], registers["mair"]):
            assert not self._mmu, "a translation register is changed while the MMU is on"
            self._fresh[self._tlbi] = False
        if encoding == registers["sctlr"]:
            self._switch(_read(self._uc, encoding), value)
        return 0

    def _switch(self, before: int, now: int) -> None:
        on = now & ~before
        if on & SCTLR_M:
            assert self._fresh[self._tlbi], "the TLB may have old entries"
        if on & SCTLR_I:
            assert self._fresh[_IC_IALLU], "the instruction cache may have old code"
        self._mmu = bool(now & SCTLR_M)
        self._cache.enabled = self._mmu and bool(now & SCTLR_C)
        if self._cache.enabled:
            self._fetch_all(self._uc)
        if self._mmu:
            self._fresh = dict.fromkeys(self._fresh, False)

    def _operate(self, uc: Uc, register: int, which: object, _user: object) -> int:
        encoding = _encoding(which)
        if encoding in self._fresh:
            self._fresh[encoding] = True
            return 0
        assert encoding == _DC_CIVAC, f"unexpected operation {encoding}"
        address = uc.reg_read(register)
        self._cache.clean_invalidate(address)
        if self._until_mapped and address not in self._purgatory:
            self._take(uc)
            uc.emu_stop()
        return 0


def _encoding(which: object) -> _Encoding:
    op0, op1, crn, crm, op2 = (getattr(which, name) for name in ("op0", "op1", "crn", "crm", "op2"))
    return op0, op1, crn, crm, op2


def mapped(hashing: Hashing, purgatory: range, root: int, level: Level) -> list[Mapped]:
    """All that is mapped, by a walk of the tables with a granule of 4 KiB and 48 bits (Arm ARM, D8.3)."""

    def walk(table: int, shift: int, base: int) -> Iterator[Mapped]:
        place = table - purgatory.start
        for index, (entry,) in enumerate(struct.iter_unpack("<Q", hashing.memory[place : place + 4096])):
            address = base | index << shift
            if not entry & 1:
                assert entry == 0
            elif entry & 2 and shift > 12:
                assert not entry >> 48, "attributes of a table"
                yield from walk(entry & 0x0000_FFFF_FFFF_F000, shift - 9, address)
            else:
                assert entry & 2 or shift in (30, 21)
                yield _described(entry, address, 1 << shift, level)

    return list(walk(root, 39, 0))


def _described(entry: int, address: int, size: int, level: Level) -> Mapped:
    assert entry & 0x0000_FFFF_FFFF_F000 == address, "an identity map"
    assert entry & 1 << 10, "the access flag"
    assert not entry & 1 << 11, "global"
    attribute = entry >> 2 & 7
    assert attribute in (0, 1)
    assert attribute == 0 or entry >> 8 & 3 == 3, "inner shareable"
    execute_never = bool(entry & 1 << 54)
    if level is Level.EL2:  # a regime of one level: AP[1] is RES1, PXN RES0
        assert entry & 1 << 6
        assert not entry & 1 << 53
    else:
        assert not entry & 1 << 6, "not for EL0"
        assert execute_never, "not for EL0"
        execute_never = bool(entry & 1 << 53)
    return Mapped(address, size, attribute == 1, not entry & 1 << 7, not execute_never)


class _Devices:
    """The UART, the firmware, and the kernel's first instruction."""

    def __init__(self, uc: Uc, kernel: int, status_register: int, busy: int) -> None:
        self.jumped = False
        self.serial = Uart(uc, UART, status_register, busy).written
        self.psci_calls: list[int] = []
        self._kernel = kernel
        uc.hook_add(UC_HOOK_INTR, self._call)
        uc.hook_add(UC_HOOK_BLOCK, self._block)

    def _call(self, uc: Uc, number: int, _user: object) -> None:
        assert number in _SVC_HVC_SMC, f"exception {number} at 0x{uc.reg_read(UC_ARM64_REG_X30):x}"
        self.psci_calls.append(uc.reg_read(UC_ARM64_REG_X0))
        uc.emu_stop()

    def _block(self, uc: Uc, address: int, _size: int, _user: object) -> None:
        if address == self._kernel:
            self.jumped = True
            uc.emu_stop()
