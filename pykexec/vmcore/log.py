"""Read the crashed kernel's log, in each of the three forms it has had.

- Characters (before Linux 3.5): a ring of text.
- Records (3.5 to 5.9): a ring of records of varying length, each with a header (struct printk_log).
- Lockless (since 5.10): a ring of descriptors that point into a ring of text (printk_ringbuffer.h).

VMCOREINFO tells the form, and where its parts are. The kernel may have died while it wrote, and pages may be
missing. `KernelLog.damage` says what is damaged, and reading goes on after it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pykexec.memory import KIB, MIB
from pykexec.vmcore.dump import Dump, Gap
from pykexec.vmcore.errors import DumpError

_DAMAGE_KEPT = 20
_DAMAGE_MAX = 1000
"""So much damage ends the reading: what follows is no log."""
_CHUNK = 64 * KIB


@dataclass(frozen=True, slots=True)
class Record:
    """One message; its text may have several lines."""

    text: bytes
    nanoseconds: int | None = None
    """The time since the boot. None in a log of characters, whose text has its line ends, and prefixes as
    they were printed."""
    sequence: int | None = None
    level: int | None = None
    """From 0 (emergency) to 7 (debug)."""
    caller: int | None = None
    """The thread's ID or, with the highest bit set, the processor's; None where the kernel notes none."""
    is_empty: bool = False
    """Whether the ring has no text for it: the line is empty, or there was no room."""


class KernelLog:
    """The log of a dump. Iterating over it yields the records; `damage` grows meanwhile."""

    def __init__(self, dump: Dump) -> None:
        """Find the form of the log. Raises DumpError when nothing tells where the log is."""
        self._dump = dump
        self.damage: list[str] = []
        """Descriptions of the first twenty faults."""
        self.damaged = 0
        """The number of faults."""
        info = dump.vmcoreinfo
        if info.symbol("prb") is not None:
            self.layout = "lockless"
        elif info.symbol("log_first_idx") is not None:
            self.layout = "records"
        elif info.symbol("log_buf") is not None:
            self.layout = "characters"
        elif not info:
            raise DumpError(f"{dump.name}: no VMCOREINFO, so the kernel's log cannot be found", status=50)
        else:
            raise DumpError(
                f"{dump.name}: its VMCOREINFO does not say where the kernel's log is: it has none of"
                " SYMBOL(prb), SYMBOL(log_first_idx) and SYMBOL(log_buf)",
                status=50,
            )

    def __iter__(self) -> Iterator[Record]:
        """Yield the records, oldest first. Raises DumpError when even the ring's head cannot be read."""
        self.damage.clear()
        self.damaged = 0
        reader = {"lockless": _Lockless, "records": _Records, "characters": _Characters}[self.layout]
        try:
            yield from reader(self._dump, self).read()
        except _TooMuchError:
            self._keep("too much damage: the rest was not read")

    def note(self, what: str) -> None:
        """Record a fault. Raises _TooMuchError where there are too many."""
        self.damaged += 1
        if self.damaged <= _DAMAGE_KEPT:
            self._keep(what)
        if self.damaged >= _DAMAGE_MAX:
            raise _TooMuchError

    def _keep(self, what: str) -> None:
        self.damage.append(what)


class _TooMuchError(Exception):
    pass


class _Reader:
    """What the three forms share: numbers in the crashed kernel's memory."""

    def __init__(self, dump: Dump, log: KernelLog) -> None:
        self.dump = dump
        self.log = log
        self.info = dump.vmcoreinfo
        self.order = dump.byte_order
        self.word = dump.word_size

    def symbol(self, name: str) -> int:
        return self._needed(self.info.symbol(name), f"SYMBOL({name})")

    def offset(self, name: str, limit: int = 4096) -> int:
        value = self._needed(self.info.offset(name), f"OFFSET({name})")
        if not 0 <= value < limit:
            raise DumpError(f"{self.dump.name}: damaged VMCOREINFO: OFFSET({name})={value}", status=50)
        return value

    def size(self, name: str) -> int:
        value = self._needed(self.info.size(name), f"SIZE({name})")
        if not 0 < value <= 4096:
            raise DumpError(f"{self.dump.name}: damaged VMCOREINFO: SIZE({name})={value}", status=50)
        return value

    def _needed(self, value: int | None, name: str) -> int:
        if value is None:
            raise DumpError(
                f"{self.dump.name}: its VMCOREINFO lacks {name}, which the kernel's log takes", status=50
            )
        return value

    def number(self, address: int, size: int) -> int:
        return int.from_bytes(self.dump.read_virtual(address, size), self.order)

    def pointer(self, address: int) -> int:
        return self.number(address, self.word)

    def memory(self, address: int, size: int, what: str) -> bytes:
        """Return memory, with zeros where it is missing; each gap is noted."""
        data, gaps = self.dump.read_what_is_there(address, size)
        for gap in gaps:
            self.note_gap(gap, what)
        return data

    def note_gap(self, gap: Gap, what: str) -> None:
        self.log.note(f"{what}: {gap.size} bytes at {gap.address:#x} are missing: {gap.why}")

    def unpack(self, code: str, data: bytes, offset: int) -> int:
        prefix = "<" if self.order == "little" else ">"
        value: int = struct.unpack_from(prefix + code, data, offset)[0]
        return value

    def level(self, byte: int) -> int:
        """Return the level from a byte with 5 bits of flags and 3 of level, in the compiler's order."""
        return byte >> 5 if self.order == "little" else byte & 7

    def read(self) -> Iterator[Record]:
        raise NotImplementedError


_BUFFER_MAX = 1 << 31
"""LOG_BUF_LEN_MAX, kernel/printk/printk.c."""


class _Characters(_Reader):
    """A log of characters. log_end counts all characters ever written; the ring has the last log_buf_len."""

    def read(self) -> Iterator[Record]:
        addresses = {name: self.symbol(name) for name in ("log_buf", "log_end", "log_buf_len")}
        buffer = self.pointer(addresses["log_buf"])
        end = self.number(addresses["log_end"], 4)
        size = self.number(addresses["log_buf_len"], 4)
        if not 0 < size < _BUFFER_MAX:
            raise DumpError(f"{self.dump.name}: damaged log: log_buf_len is {size:#x}", status=51)
        count = min(end, size)
        parts = [(end % size, size), (0, end % size)] if end > size else [(0, count)]
        line = b""
        for start, stop in parts:
            for position in range(start, stop, _CHUNK):
                data = self._text(buffer + position, min(_CHUNK, stop - position))
                *lines, line = (line + data).split(b"\n")
                yield from (Record(each + b"\n") for each in lines)
                if len(line) > _CHUNK:
                    yield Record(line)
                    line = b""
        if line:
            yield Record(line)

    def _text(self, address: int, size: int) -> bytes:
        """Return the text without what is missing."""
        data, gaps = self.dump.read_what_is_there(address, size)
        for gap in reversed(gaps):
            self.note_gap(gap, "the log's text")
            start = gap.address - address
            data = data[:start] + data[start + gap.size :]
        return data


_ALIGNMENT = 4
"""Records begin at multiples of this at least (LOG_ALIGN)."""
_SEARCH_MAX = 1 * MIB
"""The bytes of a log that are searched for records after damaged ones; that takes half a second."""
_CHAIN = 3


class _RecordHeader(NamedTuple):
    nanoseconds: int
    length: int
    text_length: int
    level: int
    caller: int | None

    def fits(self, header_size: int) -> bool:
        """Return whether it can be the header of a record."""
        return self.length >= header_size + self.text_length and self.length % _ALIGNMENT == 0


class _Records(_Reader):
    """A log of records. Each header says where the next record begins; length 0: at the buffer's start."""

    def __init__(self, dump: Dump, log: KernelLog) -> None:
        super().__init__(dump, log)
        # Linux 3.5 to 3.10 called it struct log.
        self.struct = "log" if self.info.size("printk_log") is None else "printk_log"
        self.header_size = self.size(self.struct)
        names = {"ts_nsec": 8, "len": 2, "text_len": 2}
        self.at = {
            name: self.offset(f"{self.struct}.{name}", self.header_size - width + 1)
            for name, width in names.items()
        }
        self.caller_at = self.info.offset(f"{self.struct}.caller_id")
        self.buffer = self.pointer(self.symbol("log_buf"))
        self.buffer_size = self.number(self.symbol("log_buf_len"), 4)
        self.first = self.number(self.symbol("log_first_idx"), 4)
        self.next = self.number(self.symbol("log_next_idx"), 4)
        if not self.header_size < self.buffer_size <= _BUFFER_MAX:
            raise DumpError(
                f"{self.dump.name}: damaged log: log_buf_len is {self.buffer_size:#x}", status=69
            )
        self._window: tuple[int, bytes] = (0, b"")
        self._to_search = _SEARCH_MAX

    def read(self) -> Iterator[Record]:
        position, wrapped = self.first, False
        while position != self.next:
            header = self._header(position)
            if header is not None and header.length == 0:
                if wrapped:
                    self.log.note(f"the log goes in a circle, at index {position:#x}")
                    return
                position, wrapped = 0, True
                continue
            if header is None or not header.fits(self.header_size):
                found = self._search(position)
                where = "the rest is lost" if found is None else f"it goes on at {found:#x}"
                self.log.note(f"the log's record at index {position:#x} is damaged; {where}")
                if found is None and (wrapped or self.next >= min(position, self.buffer_size)):
                    return
                wrapped = wrapped or found is None
                position = found or 0
                continue
            yield self._record(position, header)
            position += header.length
            if wrapped and position > self.next:
                self.log.note(f"the log's last record reaches beyond its end, index {self.next:#x}")
                return

    def _record(self, position: int, header: _RecordHeader) -> Record:
        text = self._bytes(position + self.header_size, header.text_length)
        return Record(text, header.nanoseconds, level=header.level, caller=header.caller)

    def _header(self, position: int) -> _RecordHeader | None:
        """Return the header at that position; None beyond the buffer's end."""
        if position > self.buffer_size - self.header_size:
            return None
        data = self._bytes(position, self.header_size)
        text_at, caller = self.at["text_len"], None
        if self.caller_at is not None and 0 <= self.caller_at <= self.header_size - 4:
            caller = self.unpack("I", data, self.caller_at)
        return _RecordHeader(
            self.unpack("Q", data, self.at["ts_nsec"]),
            self.unpack("H", data, self.at["len"]),
            self.unpack("H", data, text_at),
            # dict_len and facility are between them (struct printk_log).
            self.level(data[text_at + 5]) if text_at + 5 < len(data) else 0,
            caller,
        )

    def _search(self, position: int) -> int | None:
        """Return the next place where records in a row make sense, or the last one ends as it should."""
        start = position // _ALIGNMENT * _ALIGNMENT + _ALIGNMENT
        stop = min(self.buffer_size - self.header_size, start + self._to_search)
        if position < self.next:
            stop = min(stop, self.next)
        found = next((each for each in range(start, stop, _ALIGNMENT) if self._makes_sense(each)), None)
        self._to_search -= max(stop if found is None else found, start) - start
        return found

    def _makes_sense(self, position: int) -> bool:
        last = -1
        for _ in range(_CHAIN):
            header = self._header(position)
            if header is None or not header.text_length or not header.fits(self.header_size):
                return False
            if header.nanoseconds < last:
                return False
            last = header.nanoseconds
            position += header.length
            if position == self.next:
                return True
        return True

    def _bytes(self, position: int, size: int) -> bytes:
        """Return part of the buffer, through a window that moves along."""
        size = min(size, self.buffer_size - position)
        start, data = self._window
        if not start <= position or position + size > start + len(data):
            length = min(max(_CHUNK, size), self.buffer_size - position)
            data = self.memory(self.buffer + position, length, "the log's buffer")
            start, self._window = position, (position, data)
        return data[position - start : position - start + size]


_COUNT_BITS_MAX = 24
"""Enough for a log of 512 MiB: one descriptor for 32 bytes (PRB_AVGBITS, kernel/printk/printk.c)."""
_SIZE_BITS_MAX = 31
_DESCRIPTORS_AT_ONCE = 1024
_COMMITTED, _FINALIZED = 1, 2


class _Descriptor(NamedTuple):
    id: int
    state: int
    begin: int
    next: int


class _Lockless(_Reader):
    """A lockless log: descriptors by ID, from the tail's to the head's; their text is in another ring."""

    def __init__(self, dump: Dump, log: KernelLog) -> None:
        super().__init__(dump, log)
        counter = self.offset("atomic_long_t.counter")
        ring = self.pointer(self.symbol("prb"))
        descriptors = ring + self.offset("printk_ringbuffer.desc_ring")
        text = ring + self.offset("printk_ringbuffer.text_data_ring")
        self.id_mask = (1 << (8 * self.word - 2)) - 1
        self.count = 1 << self._bits(
            descriptors + self.offset("prb_desc_ring.count_bits"), _COUNT_BITS_MAX, "descriptors"
        )
        self.descriptors = self.pointer(descriptors + self.offset("prb_desc_ring.descs"))
        self.infos = self.pointer(descriptors + self.offset("prb_desc_ring.infos"))
        self.head = self.pointer(descriptors + self.offset("prb_desc_ring.head_id") + counter) & self.id_mask
        self.tail = self.pointer(descriptors + self.offset("prb_desc_ring.tail_id") + counter) & self.id_mask
        self.text_size = 1 << self._bits(
            text + self.offset("prb_data_ring.size_bits"), _SIZE_BITS_MAX, "bytes of text"
        )
        self.text = self.pointer(text + self.offset("prb_data_ring.data"))
        self.descriptor_size = self.size("prb_desc")
        self.info_size = self.size("printk_info")
        last_word = self.descriptor_size - self.word + 1
        block = self.offset("prb_desc.text_blk_lpos", last_word)
        self.state_at = self._inside(self.offset("prb_desc.state_var") + counter, last_word)
        self.begin_at = self._inside(block + self.offset("prb_data_blk_lpos.begin"), last_word)
        self.next_at = self._inside(block + self.offset("prb_data_blk_lpos.next"), last_word)
        self.time_at = self.offset("printk_info.ts_nsec", self.info_size - 7)
        self.length_at = self.offset("printk_info.text_len", self.info_size - 1)
        self.sequence_at = self.info.offset("printk_info.seq")
        self.caller_at = self.info.offset("printk_info.caller_id")

    def read(self) -> Iterator[Record]:
        for start, count in self._spans():
            descriptors = self._table(self.descriptors, self.descriptor_size, start, count)
            if descriptors == bytes(len(descriptors)):
                continue  # never used, like most descriptors of an absurdly large ring
            infos = self._table(self.infos, self.info_size, start, count)
            for number in range(count):
                found = self._descriptor(descriptors, number)
                expected = (start + number) & self.id_mask
                # A writer may have been busy with the others.
                if found.state in (_COMMITTED, _FINALIZED) and found.id == expected:
                    yield self._record(found, infos, number * self.info_size)

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Yield (ID, count) of descriptors that lie side by side, oldest first."""
        total = ((self.head - self.tail) & self.id_mask) + 1
        position = self.tail
        if total > self.count:
            self.log.note(
                f"the log's tail ({self.tail:#x}) and head ({self.head:#x}) are further apart than its"
                f" {self.count} descriptors; all of them were looked at"
            )
            total, position = self.count, self._oldest()
        while total:
            count = min(total, self.count - position % self.count, _DESCRIPTORS_AT_ONCE)
            yield position, count
            position = (position + count) & self.id_mask
            total -= count

    def _oldest(self) -> int:
        """Return the ID to begin with when head or tail is damaged, from the descriptors themselves."""
        newest = -1
        for start in range(0, self.count, _DESCRIPTORS_AT_ONCE):
            count = min(_DESCRIPTORS_AT_ONCE, self.count - start)
            data = self._table(self.descriptors, self.descriptor_size, start, count)
            for number in range(count):
                found = self._descriptor(data, number)
                in_place = found.id % self.count == start + number
                if in_place and found.state in (_COMMITTED, _FINALIZED):
                    newest = max(newest, found.id)
        return (newest - self.count + 1) & self.id_mask

    def _table(self, address: int, size: int, first_id: int, count: int) -> bytes:
        start = address + first_id % self.count * size
        return self.memory(start, count * size, "the log's descriptors")

    def _descriptor(self, table: bytes, number: int) -> _Descriptor:
        code, at = ("Q" if self.word == 8 else "I"), number * self.descriptor_size
        state = self.unpack(code, table, at + self.state_at)
        return _Descriptor(
            state & self.id_mask,
            state >> (8 * self.word - 2),
            self.unpack(code, table, at + self.begin_at),
            self.unpack(code, table, at + self.next_at),
        )

    def _record(self, found: _Descriptor, infos: bytes, at: int) -> Record:
        length = self.unpack("H", infos, at + self.length_at)
        sequence = caller = None
        if self.sequence_at is not None and 0 <= self.sequence_at <= self.info_size - 8:
            sequence = self.unpack("Q", infos, at + self.sequence_at)
        if self.caller_at is not None and 0 <= self.caller_at <= self.info_size - 4:
            caller = self.unpack("I", infos, at + self.caller_at)
        is_empty = found.begin % self.text_size == found.next % self.text_size
        level_at = self.length_at + 3  # after text_len and facility (struct printk_info)
        return Record(
            b"" if is_empty else self._text(found, length),
            self.unpack("Q", infos, at + self.time_at),
            sequence,
            self.level(infos[at + level_at]) if level_at < self.info_size else None,
            caller,
            is_empty,
        )

    def _text(self, found: _Descriptor, length: int) -> bytes:
        """Return the text of a block, which begins with its descriptor's ID."""
        begin, end = found.begin % self.text_size, found.next % self.text_size
        # Since Linux 6.18 a block may end with the ring. A block that does not fit there is at the ring's
        # start.
        if end == 0:
            end = self.text_size
        elif begin > end:
            begin = 0
        room = end - begin - self.word
        if room < 0:
            self.log.note(f"the text of record {found.id:#x} has no room for its ID")
            return b""
        data = self.memory(self.text + begin, self.word + min(length, room), "the log's text")
        owner = int.from_bytes(data[: self.word], self.order)
        if owner != found.id:
            self.log.note(f"the text of record {found.id:#x} belongs to record {owner:#x}")
        if length > room:
            self.log.note(f"the text of record {found.id:#x} is cut off: {room} of {length} bytes")
        return data[self.word :]

    def _bits(self, address: int, limit: int, what: str) -> int:
        bits = self.number(address, 4)
        if not 0 < bits <= limit:
            raise DumpError(
                f"{self.dump.name}: damaged log: 2^{bits} {what} in the ring at {address:#x}", status=65
            )
        return bits

    def _inside(self, offset: int, limit: int) -> int:
        if not 0 <= offset < limit:
            raise DumpError(
                f"{self.dump.name}: damaged VMCOREINFO: an offset beyond its structure", status=50
            )
        return offset
