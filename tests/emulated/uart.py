"""A UART with registers in memory, for purgatories that run under Unicorn."""

from unicorn.unicorn import Uc
from unicorn.unicorn_const import UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE

_SIZE = 4096


class Uart:
    """Takes bytes when it is ready, and fails the test for one that is written while it is busy.

    Its status register, at that offset, reads as `busy` twice before it is ready each time.
    """

    def __init__(self, uc: Uc, base: int, status_register: int, busy: int) -> None:
        self.written = bytearray()
        self._base = base
        self._status = base + status_register
        self._values = (busy, busy, busy ^ 0x20)
        self._reads = 0
        uc.hook_add(UC_HOOK_MEM_READ, self._read, begin=base, end=base + _SIZE - 1)
        uc.hook_add(UC_HOOK_MEM_WRITE, self._write, begin=base, end=base + _SIZE - 1)

    def _read(self, uc: Uc, _access: int, address: int, size: int, _value: int, _user: object) -> None:
        if address == self._status:
            uc.mem_write(address, self._values[self._reads % 3].to_bytes(size, "little"))
            self._reads += 1

    def _write(self, _uc: Uc, _access: int, address: int, _size: int, value: int, _user: object) -> None:
        assert self._reads % 3 == 0, "written while the UART was busy"
        if address == self._base:
            self.written.append(value & 0xFF)
