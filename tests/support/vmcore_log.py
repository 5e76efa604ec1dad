"""Write the kernel's log as the kernel does, into a memory of its own.

Each class is the writing half of one of Linux's three implementations, written anew: kernel/printk/printk.c
of 3.4 (emit_log_char) and of 5.9 (log_store), printk_ringbuffer.c of 5.10 and, with `fits_exactly`, of 6.18.
"""

import struct
from dataclasses import dataclass, field

from tests.support.vmcore import Order, Part

VIRTUAL, PHYSICAL = 0xFFFF_8880_0000_0000, 0x100000


@dataclass
class Memory:
    """Memory for the log's parts, one after the other."""

    order: Order = "little"
    word: int = 8
    virtual: int = VIRTUAL
    data: bytearray = field(default_factory=bytearray)

    def place(self, content: bytes, alignment: int = 8) -> int:
        """Append the content, and return its virtual address."""
        self.data += bytes(-len(self.data) % alignment)
        self.data += content
        return self.virtual + len(self.data) - len(content)

    def number(self, value: int, size: int | None = None) -> bytes:
        size = self.word if size is None else size
        return (value & ((1 << 8 * size) - 1)).to_bytes(size, self.order)

    def parts(self) -> list[Part]:
        return [Part(PHYSICAL, bytes(self.data), self.virtual)]


class Characters:
    """The log before Linux 3.5."""

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.end = 0

    def write(self, text: bytes) -> None:
        for byte in text:
            self.buffer[self.end & (len(self.buffer) - 1)] = byte
            self.end += 1

    def place(self, memory: Memory) -> dict[str, object]:
        buffer = memory.place(bytes(self.buffer))
        symbols = {
            "log_buf": memory.place(memory.number(buffer)),
            "log_end": memory.place(memory.number(self.end, 4)),
            "log_buf_len": memory.place(memory.number(len(self.buffer), 4)),
            "logged_chars": memory.place(memory.number(min(self.end, len(self.buffer)), 4)),
        }
        return {f"SYMBOL({name})": f"{address:x}" for name, address in symbols.items()}


class Records:
    """The log of Linux 3.5 to 5.9. Sizes are in bytes."""

    header_size = 16

    def __init__(self, size: int, *, order: Order = "little", name: str = "printk_log") -> None:
        self.buffer = bytearray(size)
        self.order = order
        self.name = name
        self.first = self.next = 0
        self.kept: list[tuple[int, bytes]] = []

    def write(self, nanoseconds: int, text: bytes, dictionary: bytes = b"", level: int = 6) -> bool:
        """Log a message; return False if it is too long."""
        size = self.header_size + len(text) + len(dictionary)
        size += -size % 4
        if size > len(self.buffer) // 4:
            return False
        while self.kept and not self._has_space(size, empty=False):
            self.first = self._after(self.first)
            self.kept.pop(0)
        if not self.kept and not self._has_space(size, empty=True):
            return False
        if self.next + size + self.header_size > len(self.buffer):
            self.buffer[self.next : self.next + self.header_size] = bytes(self.header_size)
            self.next = 0
            if not self.kept:
                self.first = 0
        prefix = "<" if self.order == "little" else ">"
        flags = level << 5 if self.order == "little" else level
        header = struct.pack(prefix + "QHHHBB", nanoseconds, size, len(text), len(dictionary), 0, flags)
        record = (header + text + dictionary).ljust(size, b"\0")
        self.buffer[self.next : self.next + size] = record
        self.next += size
        self.kept.append((nanoseconds, text))
        return True

    def _has_space(self, size: int, *, empty: bool) -> bool:
        if self.next > self.first or empty:
            free = max(len(self.buffer) - self.next, self.first)
        else:
            free = self.first - self.next
        return free >= size + self.header_size

    def _length(self, index: int) -> int:
        return int.from_bytes(self.buffer[index + 8 : index + 10], self.order)

    def _after(self, index: int) -> int:
        length = self._length(index)
        return index + length if length else self._length(0)

    def place(self, memory: Memory) -> dict[str, object]:
        symbols = {
            "log_buf": memory.place(memory.number(memory.place(bytes(self.buffer)))),
            "log_buf_len": memory.place(memory.number(len(self.buffer), 4)),
            "log_first_idx": memory.place(memory.number(self.first, 4)),
            "log_next_idx": memory.place(memory.number(self.next, 4)),
        }
        return {
            **{f"SYMBOL({name})": f"{address:x}" for name, address in symbols.items()},
            f"SIZE({self.name})": 16,
            f"OFFSET({self.name}.ts_nsec)": 0,
            f"OFFSET({self.name}.len)": 8,
            f"OFFSET({self.name}.text_len)": 10,
            f"OFFSET({self.name}.dict_len)": 12,
        }


RESERVED, COMMITTED, FINALIZED, REUSABLE = range(4)
_NO_TEXT, _FAILED = 3, 1


@dataclass
class _Descriptor:
    state: int
    id: int
    begin: int = 0
    next: int = 0
    nanoseconds: int = 0
    length: int = 0
    sequence: int = 0
    level: int = 6
    caller: int = 0
    text: bytes = b""


class Lockless:
    """The log since Linux 5.10. Counts and sizes are powers of two."""

    def __init__(
        self,
        count_bits: int,
        size_bits: int,
        *,
        word: int = 8,
        order: Order = "little",
        fits_exactly: bool = False,
    ) -> None:
        self.count, self.size = 1 << count_bits, 1 << size_bits
        self.count_bits, self.size_bits = count_bits, size_bits
        self.word, self.order, self.fits_exactly = word, order, fits_exactly
        self.id_mask = (1 << (8 * word - 2)) - 1
        self.lpos_mask = (1 << (8 * word)) - 1
        # The kernel initialises them so that the counters soon go through zero.
        first_id = -(self.count + 1) & self.id_mask
        self.head_id = self.tail_id = first_id
        self.head_lpos = self.tail_lpos = -self.size & self.lpos_mask
        self.text = bytearray(self.size)
        self.descriptors = [_Descriptor(REUSABLE, 0, _FAILED, _FAILED) for _ in range(self.count)]
        self.descriptors[first_id % self.count] = _Descriptor(REUSABLE, first_id, _FAILED, _FAILED)
        self.sequence = 0

    def write(self, nanoseconds: int, text: bytes, *, state: int = FINALIZED, caller: int = 0) -> None:
        identity = (self.head_id + 1) & self.id_mask
        if (identity - self.tail_id) & self.id_mask >= self.count:
            self._drop_tail()
        self.head_id = identity
        begin, following = self._allocate(identity, text)
        self.descriptors[identity % self.count] = _Descriptor(
            state, identity, begin, following, nanoseconds, len(text), self.sequence, 6, caller, text
        )
        self.sequence += 1

    @property
    def kept(self) -> list[_Descriptor]:
        """The records that a reader has to find."""
        found = []
        identity = self.tail_id
        while True:
            each = self.descriptors[identity % self.count]
            if each.id == identity and each.state in (COMMITTED, FINALIZED):
                found.append(each)
            if identity == self.head_id:
                return found
            identity = (identity + 1) & self.id_mask

    def _drop_tail(self) -> None:
        tail = self.descriptors[self.tail_id % self.count]
        if tail.state != REUSABLE and tail.begin not in (_FAILED, _NO_TEXT):
            self._push_data_tail(tail.next)
        tail.state = REUSABLE
        self.tail_id = (self.tail_id + 1) & self.id_mask

    def _push_data_tail(self, lpos: int) -> None:
        """Drop the text of all records up to `lpos`."""
        identity = self.tail_id
        while self._before(self.tail_lpos, lpos):
            each = self.descriptors[identity % self.count]
            owns = each.id == identity and each.state != REUSABLE and each.begin not in (_FAILED, _NO_TEXT)
            if owns:
                assert each.begin == self.tail_lpos
                self.tail_lpos = each.next
                each.state = REUSABLE
            assert owns or identity != self.head_id
            identity = (identity + 1) & self.id_mask

    def _before(self, one: int, other: int) -> bool:
        return 0 < (other - one) & self.lpos_mask <= self.size * 2

    def _allocate(self, identity: int, text: bytes) -> tuple[int, int]:
        if not text:
            return _NO_TEXT, _NO_TEXT
        size = self.word + len(text)
        size += -size % self.word
        if size > self.size // 2:
            return _FAILED, _FAILED
        begin = self.head_lpos
        following, start = self._next_lpos(begin, size)
        self._push_data_tail_for(following)
        self.head_lpos = following
        stored = identity.to_bytes(self.word, self.order)
        at = begin % self.size
        self.text[at : at + self.word] = stored
        self.text[start : start + self.word + len(text)] = stored + text
        return begin, following

    def _next_lpos(self, begin: int, size: int) -> tuple[int, int]:
        """Return where the block ends, and the index of its data."""
        following = (begin + size) & self.lpos_mask
        last = (following - 1) & self.lpos_mask if self.fits_exactly else following
        if begin // self.size == last // self.size:
            return following, begin % self.size
        return (following // self.size * self.size + size) & self.lpos_mask, 0

    def _push_data_tail_for(self, following: int) -> None:
        needed = (following - self.size) & self.lpos_mask
        if self._before(self.tail_lpos, needed):
            self._push_data_tail(needed)

    def place(self, memory: Memory) -> dict[str, object]:
        """Place the structures, with members in another order than the kernel's and gaps between them."""
        word = self.word
        descriptor_size, info_size = 5 * word, 88
        descriptors, infos = b"", b""
        for each in self.descriptors:
            state = each.state << (8 * word - 2) | each.id
            numbers = (0, each.begin, each.next, 0, state)
            descriptors += b"".join(memory.number(number) for number in numbers)
            prefix = "<" if self.order == "little" else ">"
            flags = each.level << 5 if self.order == "little" else each.level
            info = struct.pack(
                prefix + "QQHBBI", each.sequence, each.nanoseconds, each.length, 0, flags, each.caller
            )
            infos += info.ljust(info_size, b"\0")
        text = memory.place(bytes(self.text))
        descriptors_at, infos_at = memory.place(descriptors), memory.place(infos)
        data_ring = memory.number(self.size_bits, 4).ljust(word, b"\0")
        data_ring += memory.number(text) + memory.number(self.head_lpos) + memory.number(self.tail_lpos)
        desc_ring = memory.number(self.count_bits, 4).ljust(word, b"\0")
        for value in (descriptors_at, infos_at, self.head_id, self.tail_id, 0):
            desc_ring += memory.number(value)
        ring = memory.place(desc_ring + data_ring + memory.number(0))
        pointer = memory.place(memory.number(ring))
        return {
            "SYMBOL(prb)": f"{pointer:x}",
            "SIZE(printk_ringbuffer)": len(desc_ring) + len(data_ring) + word,
            "OFFSET(printk_ringbuffer.desc_ring)": 0,
            "OFFSET(printk_ringbuffer.text_data_ring)": len(desc_ring),
            "OFFSET(prb_desc_ring.count_bits)": 0,
            "OFFSET(prb_desc_ring.descs)": word,
            "OFFSET(prb_desc_ring.infos)": 2 * word,
            "OFFSET(prb_desc_ring.head_id)": 3 * word,
            "OFFSET(prb_desc_ring.tail_id)": 4 * word,
            "SIZE(prb_desc)": descriptor_size,
            "OFFSET(prb_desc.state_var)": 4 * word,
            "OFFSET(prb_desc.text_blk_lpos)": word,
            "OFFSET(prb_data_blk_lpos.begin)": 0,
            "OFFSET(prb_data_blk_lpos.next)": word,
            "SIZE(printk_info)": info_size,
            "OFFSET(printk_info.seq)": 0,
            "OFFSET(printk_info.ts_nsec)": 8,
            "OFFSET(printk_info.text_len)": 16,
            "OFFSET(printk_info.caller_id)": 20,
            "OFFSET(prb_data_ring.size_bits)": 0,
            "OFFSET(prb_data_ring.data)": word,
            "OFFSET(atomic_long_t.counter)": 0,
        }
