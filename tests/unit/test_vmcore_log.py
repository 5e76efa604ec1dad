"""The kernel's log in its three forms, written by the kernel's rules, sound and damaged."""

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.vmcore import Dump, DumpError, styles
from pykexec.vmcore.elf import ElfDump
from pykexec.vmcore.log import KernelLog, Record
from tests.support import vmcore, vmcore_log
from tests.support.effort import examples
from tests.support.stopwatch import Stopwatch
from tests.support.vmcore import Part
from tests.support.vmcore_log import COMMITTED, FINALIZED, RESERVED, Characters, Lockless, Memory, Records

Ring = Characters | Records | Lockless
BASE: Mapping[str, object] = {"OSRELEASE": "test", "PAGESIZE": 4096}


class Bytes:
    """A source in memory."""

    name = "vmcore"
    container = ""
    damage = ()

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size] if offset >= 0 else b""

    read_written = read_at


def dump_of(
    parts: Sequence[Part], lines: Mapping[str, object], order: vmcore.Order = "little", word: int = 8
) -> Dump:
    notes = vmcore.vmcoreinfo_note({**BASE, **lines}, order)
    machine = {("little", 8): "x86_64", ("little", 4): "i386", ("big", 8): "ppc64", ("big", 4): "arm"}
    file = vmcore.elf(parts, notes=notes, machine=machine[order, word], elf_class=8 * word, order=order)
    return Dump(ElfDump(Bytes(file)))


def memory_for(order: vmcore.Order = "little", word: int = 8) -> Memory:
    return Memory(order, word) if word == 8 else Memory(order, word, 0xC010_0000)


def log_of(ring: Ring, order: vmcore.Order = "little", word: int = 8) -> KernelLog:
    memory = memory_for(order, word)
    lines = ring.place(memory)
    return KernelLog(dump_of(memory.parts(), lines, order, word))


ORDERS = st.sampled_from(["little", "big"])
WORDS = st.sampled_from([4, 8])
TIMES = st.integers(0, 10**15)


# Lockless


@given(
    st.lists(st.tuples(TIMES, st.binary(max_size=150), st.integers(0, (1 << 32) - 1)), max_size=60),
    st.integers(1, 5),
    st.integers(7, 9),
    st.booleans(),
    ORDERS,
    WORDS,
    st.sampled_from([RESERVED, COMMITTED, FINALIZED]),
)
def test_lockless(
    messages: list[tuple[int, bytes, int]],
    count_bits: int,
    size_bits: int,
    fits_exactly: bool,
    order: vmcore.Order,
    word: int,
    last: int,
) -> None:
    ring = Lockless(count_bits, size_bits, word=word, order=order, fits_exactly=fits_exactly)
    for number, (nanoseconds, text, caller) in enumerate(messages):
        state = last if number == len(messages) - 1 else FINALIZED
        ring.write(nanoseconds, text, state=state, caller=caller)
    log = log_of(ring, order, word)
    too_long = (1 << size_bits) // 2 - word
    assert [(r.nanoseconds, r.text, r.sequence, r.level, r.caller) for r in log] == [
        (
            each.nanoseconds,
            # Of what is too long there is a record, but no text.
            each.text if len(each.text) + (-len(each.text) % word) <= too_long else b"",
            each.sequence,
            6,
            each.caller,
        )
        for each in ring.kept
    ]
    assert log.damage == []
    assert log.layout == "lockless"


def test_the_builder_wraps_as_each_kernel_does() -> None:
    """Blocks of 32 bytes fill a ring of 128 exactly: since Linux 6.18 the last one stays where it is."""
    for fits_exactly, place in ((False, 0), (True, 96)):
        ring = Lockless(4, 7, fits_exactly=fits_exactly)
        for number in range(4):
            ring.write(number, b"%d" % number * 24)
        assert ring.text.index(b"3" * 24) == place + 8
        assert [record.text for record in log_of(ring)] == [each.text for each in ring.kept]


def test_a_full_ring_of_a_real_size_is_read_quickly() -> None:
    ring = Lockless(12, 17)
    for number in range(9000):
        ring.write(number * 10**6, b"message %d" % number)
    log = log_of(ring)
    stopwatch = Stopwatch()
    assert len(list(log)) == len(ring.kept) > 4000
    assert stopwatch.seconds() < 3


def full_ring() -> Lockless:
    ring = Lockless(4, 10)
    for number in range(40):
        ring.write(number, b"message %d" % number)
    return ring


def test_head_or_tail_damaged() -> None:
    ring = full_ring()
    expected = [each.text for each in ring.kept]
    for name in ("head_id", "tail_id"):
        broken = full_ring()
        setattr(broken, name, 0x1234_5678)
        log = log_of(broken)
        assert [record.text for record in log] == expected
        assert "further apart than its 16 descriptors" in log.damage[0]


def test_text_that_belongs_to_another_record() -> None:
    ring = full_ring()
    victim = ring.kept[3]
    at = victim.begin % ring.size
    ring.text[at : at + 8] = bytes(8)
    log = log_of(ring)
    assert [record.text for record in log] == [each.text for each in ring.kept]
    assert log.damage == [f"the text of record {victim.id:#x} belongs to record 0x0"]


def test_text_that_is_cut_off() -> None:
    ring = full_ring()
    victim = ring.kept[3]
    victim.length = 500
    log = log_of(ring)
    texts = [record.text for record in log]
    assert texts[3].startswith(victim.text)
    assert len(texts[3]) == (victim.next - victim.begin) % ring.size - 8
    assert "cut off: 16 of 500 bytes" in log.damage[0]


def test_missing_pages_cost_only_what_was_in_them() -> None:
    ring = Lockless(10, 16)
    for number in range(1000):
        ring.write(number, b"message %d" % number)
    memory = memory_for()
    lines = ring.place(memory)
    content, gap = bytes(memory.data), range(0x3000, 0x4000)
    parts = [
        Part(vmcore_log.PHYSICAL, content[: gap.start], memory.virtual),
        Part(vmcore_log.PHYSICAL + gap.stop, content[gap.stop :], memory.virtual + gap.stop),
    ]
    log = KernelLog(dump_of(parts, lines))
    texts = [record.text for record in log]
    assert len(texts) == 1000, "the gap is in the texts"
    lost = [text for number, text in enumerate(texts) if text != b"message %d" % number]
    assert 100 < len(lost) < 200
    assert "are missing" in log.damage[0]
    assert len(log.damage) == 20 < log.damaged


def test_too_much_damage_ends_it() -> None:
    ring = Lockless(12, 17)
    for number in range(4000):
        ring.write(number, b"message %d" % number)
    ring.text[:] = bytes(len(ring.text))
    log = log_of(ring)
    assert len(list(log)) < 1100
    assert log.damage[-1] == "too much damage: the rest was not read"
    assert len(log.damage) == 21


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count_bits", 31, "2^31 descriptors"),
        ("size_bits", 60, "2^60 bytes of text"),
        ("count_bits", 0, "2^0 descriptors"),
    ],
)
def test_absurd_sizes(name: str, value: int, message: str) -> None:
    ring = full_ring()
    setattr(ring, name, value)
    with pytest.raises(DumpError) as caught:
        list(log_of(ring))
    assert message in caught.value.what


# Records


@given(
    st.lists(st.tuples(TIMES, st.binary(max_size=80), st.binary(max_size=30)), max_size=60),
    st.sampled_from([512, 600, 1024]),
    ORDERS,
    WORDS,
    st.sampled_from(["printk_log", "log"]),
)
def test_records(
    messages: list[tuple[int, bytes, bytes]], size: int, order: vmcore.Order, word: int, name: str
) -> None:
    ring = Records(size, order=order, name=name)
    for nanoseconds, text, dictionary in messages:
        ring.write(nanoseconds, text, dictionary, level=3)
    log = log_of(ring, order, word)
    assert [(r.nanoseconds, r.text, r.level) for r in log] == [(*each, 3) for each in ring.kept]
    assert log.damage == []
    assert log.layout == "records"


def full_records(count: int = 100) -> Records:
    ring = Records(4096)
    for number in range(count):
        ring.write(number * 1000, b"message %d" % number)
    return ring


@pytest.mark.parametrize("junk", [b"\x01\x00", b"\xff\xff", b"\x07\x00", b"\x10\x00"])
def test_a_damaged_record_costs_only_itself(junk: bytes) -> None:
    ring = full_records()
    index = ring.first
    for _ in range(5):
        index = ring._after(index)
    ring.buffer[index + 8 : index + 10] = junk
    log = log_of(ring)
    expected = [text for _, text in ring.kept]
    assert [record.text for record in log] == expected[:5] + expected[6:]
    assert len(log.damage) == 1
    assert f"record at index {index:#x} is damaged; it goes on at" in log.damage[0]


@pytest.mark.slow
def test_much_damage_between_good_records_takes_bounded_time() -> None:
    """Sixteen times a MiB that makes no sense, and three records that do."""
    ring = Records(4096)
    for number in range(3):
        ring.write(number, b"0123456789abcdef")
    good = bytes(ring.buffer[:96])
    buffer = bytearray()
    for _ in range(16):
        buffer += good + b"\xff" * ((1 << 20) - len(good))
    ring.buffer, ring.first, ring.next = buffer, 0, len(buffer) - 64
    stopwatch = Stopwatch()
    log = log_of(ring)
    assert len(list(log)) >= 3
    assert "the rest is lost" in log.damage[-1]
    assert stopwatch.seconds() < 4


def test_records_in_a_circle() -> None:
    ring = full_records(50)
    ring.buffer[8:10] = bytes(2)
    ring.first = 0
    log = log_of(ring)
    list(log)
    assert "goes in a circle" in log.damage[0]


@pytest.mark.parametrize("first", [4090, 4096, 1 << 31])
def test_an_index_outside_the_buffer(first: int) -> None:
    ring = full_records(50)
    ring.first = first
    log = log_of(ring)
    list(log)
    assert f"index {first:#x} is damaged" in log.damage[0]


def test_missing_characters_are_left_out() -> None:
    ring = Characters(1 << 16)
    ring.write(b"".join(b"line %d\n" % number for number in range(8000)))
    memory = memory_for()
    lines = ring.place(memory)
    content = bytes(memory.data)
    parts = [
        Part(vmcore_log.PHYSICAL, content[:0x6000], memory.virtual),
        Part(vmcore_log.PHYSICAL + 0x8000, content[0x8000:], memory.virtual + 0x8000),
    ]
    log = KernelLog(dump_of(parts, lines))
    read = b"".join(record.text for record in log)
    assert len(read) == (1 << 16) - 0x2000
    assert read.endswith(b"line 7999\n")
    assert len(log.damage) == 1


def test_absurd_buffer_size() -> None:
    memory = memory_for()
    lines = full_records().place(memory)
    place = int(str(lines["SYMBOL(log_buf_len)"]), 16) - memory.virtual
    memory.data[place : place + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(DumpError, match="log_buf_len is 0xffffffff"):
        list(KernelLog(dump_of(memory.parts(), lines)))


# Characters


@given(st.lists(st.binary(max_size=200), max_size=20), st.sampled_from([64, 256, 1024]), ORDERS, WORDS)
def test_characters(texts: list[bytes], size: int, order: vmcore.Order, word: int) -> None:
    ring = Characters(size)
    for text in texts:
        ring.write(text)
    log = log_of(ring, order, word)
    assert b"".join(styles.vmcore_dmesg(record) for record in log) == b"".join(texts)[-size:]
    assert log.layout == "characters"


# All of them


def full_characters() -> Characters:
    ring = Characters(256)
    ring.write(b"<6>[    1.000000] message of some length\n" * 12)
    return ring


RINGS: Mapping[str, Ring] = {
    "lockless": full_ring(),
    "records": full_records(),
    "characters": full_characters(),
}


@pytest.mark.parametrize("name", RINGS)
def test_every_key_that_is_needed_is_named_when_it_is_missing(name: str) -> None:
    memory = memory_for()
    lines = RINGS[name].place(memory)
    unused = {
        "SYMBOL(logged_chars)", "SIZE(printk_ringbuffer)", "OFFSET(printk_info.seq)",
        "OFFSET(printk_info.caller_id)", "OFFSET(printk_log.dict_len)",
    }  # fmt: skip
    # Without the key that tells the layout another one is looked for.
    telling = {"SYMBOL(prb)", "SYMBOL(log_first_idx)", "SYMBOL(log_buf)", "SIZE(printk_log)"}
    for key in lines.keys() - unused - telling:
        fewer = {each: value for each, value in lines.items() if each != key}
        with pytest.raises(DumpError) as caught:
            list(KernelLog(dump_of(memory.parts(), fewer)))
        assert key in caught.value.what
        assert caught.value.status == 50
    with pytest.raises(DumpError, match="does not say where the kernel's log is"):
        KernelLog(dump_of(memory.parts(), {}))


@pytest.mark.slow
@given(st.sampled_from(sorted(RINGS)), st.data())
def test_any_damage_in_memory_is_survived(name: str, data: st.DataObject) -> None:
    memory = memory_for()
    lines = RINGS[name].place(memory)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(memory.data) - 1))
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        value = data.draw(st.sampled_from([0, 1, 0x7F, 0xFF]) | st.integers(0, 255))
        memory.data[at : at + size] = bytes([value]) * min(size, len(memory.data) - at)
    stopwatch = Stopwatch()
    log = KernelLog(dump_of(memory.parts(), lines))
    try:
        records = list(log)
        assert sum(len(record.text) for record in records) < 1 << 20
    except DumpError:
        pass
    assert stopwatch.seconds() < 2


@given(st.sampled_from(sorted(RINGS)), st.data())
def test_any_vmcoreinfo_is_survived(name: str, data: st.DataObject) -> None:
    memory = memory_for()
    lines = RINGS[name].place(memory)
    key = data.draw(st.sampled_from(sorted(lines)))
    lines[key] = data.draw(st.sampled_from(["", "-1", "ffffffffffffffff", "4095", "99999999999", "x", "7"]))
    with suppress(DumpError):
        list(KernelLog(dump_of(memory.parts(), lines)))


@pytest.mark.slow
def test_random_memory_takes_bounded_time() -> None:
    noise = random.Random(1)
    for name, ring in RINGS.items():
        memory = memory_for()
        lines = ring.place(memory)
        for _ in range(examples(20)):
            memory.data[:] = noise.randbytes(len(memory.data))
            stopwatch = Stopwatch()
            with suppress(DumpError):
                list(KernelLog(dump_of(memory.parts(), lines)))
            assert stopwatch.seconds() < 2, name


def test_without_vmcoreinfo() -> None:
    dump = Dump(ElfDump(Bytes(vmcore.elf([]))))
    with pytest.raises(DumpError, match="no VMCOREINFO"):
        KernelLog(dump)


# Printing


SAMPLE = b"tab\there \x1b[31m \xc3\xa4 end\x7f\n\nlast"


def test_as_vmcore_dmesg_prints_it() -> None:
    assert styles.vmcore_dmesg(Record(SAMPLE, 4_861_863_999)) == (
        rb"[    4.861863] tab" b"\t" rb"here \x1b[31m \xc3\xa4 end\x7f" b"\n\nlast\n"
    )
    assert styles.vmcore_dmesg(Record(b"", 10**15, is_empty=True)) == b"[1000000.000000] \n"


def test_as_makedumpfile_prints_it() -> None:
    assert styles.makedumpfile(char_is_signed=False)(Record(SAMPLE, 4_861_863_999)) == (
        rb"[    4.861863] tab"
        b"\t"
        rb"here \x1b[31m \xc3\xa4 end\x7f"
        b"\n               \n               last\n"
    )
    signed = styles.makedumpfile(char_is_signed=True)
    assert rb"\xffffffc3\xffffffa4 end\x7f" in signed(Record(SAMPLE, 1))
    assert signed(Record(b"", 1, is_empty=True)) == b""
    assert signed(Record(b"<6>as it is\n")) == b"<6>as it is\n"


def test_a_log_can_be_read_twice() -> None:
    log = log_of(full_ring())
    assert list(log) == list(log)
