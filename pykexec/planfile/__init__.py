"""Plans that travel: a plan as one file, made on any machine for the one of a snapshot, and loaded there.

`build` and `parse` are each other's inverse. All numbers are in the byte order of the plan's machine. What a
plan says to people only (reasons, paths, the memory map) stays where it was made.
"""

from __future__ import annotations

import hashlib
import os
import struct
from itertools import accumulate, pairwise

from pykexec import names, writing
from pykexec.errors import PlanFileError, PykexecError
from pykexec.machine import PAGE_SIZES
from pykexec.memory import Range, align_up
from pykexec.plan import KEXEC_SEGMENT_MAX, LoadPlan, Segment
from pykexec.planfile.compiled import FACT, HEADER, SEGMENT
from pykexec.planfile.identity import CHECKED, Fact, Identity, identify, require_same
from pykexec.purpose import Purpose
from pykexec.uapi import (
    KEXEC_ARCH_MASK,
    KEXEC_CRASH_HOTPLUG_SUPPORT,
    KEXEC_ON_CRASH,
    KEXEC_UPDATE_ELFCOREHDR,
)
from pykexec.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pykexec.machine import Machine
    from pykexec.names import ByteOrder

__all__ = ["CHECKED", "Identity", "PlanFile", "build", "identify", "parse", "require_same", "write"]

MAGIC = b"KEXPLAN\0"
VERSION = 1
_DIGEST_SIZE = 32
_HASHED_FROM = 8 + 8 + 8 + _DIGEST_SIZE
"""Where what the digest is of begins: magic, version, size and the digest itself come before."""
_FLAGS = KEXEC_ARCH_MASK | KEXEC_ON_CRASH | KEXEC_UPDATE_ELFCOREHDR | KEXEC_CRASH_HOTPLUG_SUPPORT
_FACTS_MAX = 64
_END = 1 << 64
"""The end of all addresses; no segment ends there, as in a kernel's words that is 0."""


@dataclass(frozen=True, slots=True)
class PlanFile:
    """What a file holds."""

    plan: LoadPlan
    identity: Identity


def write(path: str | os.PathLike[str], plan: LoadPlan, machine: Machine) -> int:
    """Write the file of that plan for that machine; return its size in bytes.

    Raises FileError where it cannot be written, PykexecError where a file of the plan has changed meanwhile.
    What was there before then stays as it was.
    """
    # Only its owner may read it: the initrd may hold secrets.
    with writing.new_file(path, mode=0o600, make_folders=False) as file:
        for piece in _pieces(plan, identify(machine, plan.purpose)):
            file.write(piece)
        for each in plan.files:
            if each.has_changed:
                raise PykexecError(f"{each.path} changed while it was read", hint="make the plan again")
        return file.tell()


def build(plan: LoadPlan, identity: Identity) -> bytes:
    """Return the file of a plan. Raises PlanFileError for a plan that no file can hold."""
    return b"".join(_pieces(plan, identity))


def _pieces(plan: LoadPlan, identity: Identity) -> Iterator[bytes | memoryview]:
    order = names.named(plan.arch).elf.order
    if order is None or plan.flags & ~_FLAGS:
        raise PlanFileError(f"no file for such a plan: {plan.arch}, flags {plan.flags:#x}")
    body = _body(plan, identity, order)
    fields = _header(plan, identity) | {"size": HEADER.sizeof() + sum(len(piece) for piece in body)}
    hashed = hashlib.sha256(HEADER.build(fields, order)[_HASHED_FROM:])
    for piece in body:
        hashed.update(piece)
    yield HEADER.build(fields | {"digest": hashed.digest()}, order)
    yield from body


def _header(plan: LoadPlan, identity: Identity) -> dict[str, object]:
    """Return the header's fields, with no size and digest yet."""
    return {
        "magic": MAGIC,
        "version": VERSION,
        "size": 0,
        "digest": bytes(_DIGEST_SIZE),
        "machine": _field(identity.machine, 72),
        "release": _field(identity.release, 72),
        "page_size": identity.page_size,
        "crash_start": identity.crash_region.start,
        "crash_size": identity.crash_region.size,
        "entry": plan.entry,
        "flags": plan.flags,
        "fact_count": len(identity.facts),
        "segment_count": len(plan.segments),
    }


def _body(plan: LoadPlan, identity: Identity, order: ByteOrder) -> list[bytes | memoryview]:
    """Return what follows the header: the tables, and the segments' data, each from a new page on."""
    page = identity.page_size
    table_end = _table_size(len(identity.facts), len(plan.segments))
    # A whole page at least: kernels read some bytes of each segment, whatever its size.
    sizes = (max(align_up(each.data.nbytes, page), page) for each in plan.segments)
    offsets = list(accumulate(sizes, initial=align_up(table_end, page)))
    rows = [_segment_row(*each, order) for each in zip(plan.segments, offsets, strict=False)]
    body: list[bytes | memoryview] = [*map(_fact_row, identity.facts), *rows]
    body.append(bytes(offsets[0] - table_end))
    for segment, (start, end) in zip(plan.segments, pairwise(offsets), strict=True):
        body += [segment.data, bytes(end - start - segment.data.nbytes)]
    return body


def _segment_row(segment: Segment, offset: int, order: ByteOrder) -> bytes:
    row = {
        "name": _field(segment.name, 32),
        "address": segment.address,
        "memory_size": segment.memsz,
        "offset": offset,
        "size": segment.data.nbytes,
    }
    return SEGMENT.build(row, order)


def _fact_row(fact: Fact) -> bytes:
    return FACT.build({"pattern": _field(fact.pattern, 64), "digest": fact.digest})


def _table_size(facts: int, segments: int) -> int:
    return HEADER.sizeof() + facts * FACT.sizeof() + segments * SEGMENT.sizeof()


def _field(text: str, size: int) -> bytes:
    """Return a text, ended by zeros, in a field. Raises PlanFileError where it does not fit."""
    data = os.fsencode(text)
    if len(data) >= size or b"\0" in data:
        raise PlanFileError(f"too long for a plan's file: {text}")
    return data.ljust(size, b"\0")


def parse(data: memoryview | bytes, path: str = "") -> PlanFile:
    """Read a plan's file; the segments' data stays where it is. Raises PlanFileError, which names `path`."""
    try:
        return _parse(memoryview(data).cast("B"), path)
    except (ValueError, struct.error) as error:
        raise PlanFileError(f"{path}: {error}") from error


def _parse(data: memoryview, path: str) -> PlanFile:
    if data[: len(MAGIC)] != MAGIC or data.nbytes < HEADER.sizeof():
        raise ValueError("no plan, or only the beginning of one")
    order = _order(data)
    header = HEADER.parse(data, order)
    if header.size != data.nbytes:
        raise ValueError(f"a plan of {header.size} bytes in a file of {data.nbytes}")
    if hashlib.sha256(data[_HASHED_FROM:]).digest() != header.digest:
        raise ValueError("a damaged plan: its digest is another one")
    facts_end = HEADER.sizeof() + header.fact_count * FACT.sizeof()
    if not 0 < header.segment_count <= KEXEC_SEGMENT_MAX:
        raise ValueError(f"a plan of {header.segment_count} segments")
    if header.fact_count > _FACTS_MAX or facts_end + header.segment_count * SEGMENT.sizeof() > data.nbytes:
        raise ValueError(f"a plan with {header.fact_count} facts in {data.nbytes} bytes")
    if header.page_size not in PAGE_SIZES or header.flags & ~_FLAGS:
        raise ValueError(f"a plan with flags {header.flags:#x}, for pages of {header.page_size} bytes")
    if header.crash_start + header.crash_size > _END:
        raise ValueError("a plan for a crash kernel's memory that ends nowhere")
    facts = _rows(data[HEADER.sizeof() :], FACT.sizeof(), header.fact_count)
    segments = _rows(data[facts_end:], SEGMENT.sizeof(), header.segment_count)
    identity = Identity(
        _text(header.machine),
        _text(header.release),
        header.page_size,
        Range.sized(header.crash_start, header.crash_size),
        tuple(_fact(row) for row in facts),
    )
    return PlanFile(
        LoadPlan(
            arch=names.name_of_uname(identity.machine),
            purpose=Purpose.CRASH if header.flags & KEXEC_ON_CRASH else Purpose.BOOT,
            image=path,
            image_format="plan",
            initrd=None,
            command_line="",
            entry=header.entry,
            flags=header.flags,
            segments=tuple(_segment(data, row, order, header.page_size) for row in segments),
        ),
        identity,
    )


def _order(data: memoryview) -> ByteOrder:
    orders: Sequence[ByteOrder] = ("little", "big")
    for order in orders:
        if HEADER.parse(data, order).version == VERSION:
            return order
    raise ValueError(f"a plan of a version other than {VERSION}")


def _rows(data: memoryview, size: int, count: int) -> Iterator[memoryview]:
    return (data[index * size : (index + 1) * size] for index in range(count))


def _text(field: bytes) -> str:
    """Return a field's text. Raises ValueError where no zero byte ends it."""
    text, end, _ = field.partition(b"\0")
    if not end:
        raise ValueError("a plan with a name that does not end")
    return os.fsdecode(text)


def _fact(row: memoryview) -> Fact:
    fields = FACT.parse(row)
    return Fact(_text(fields.pattern), fields.digest)


def _segment(data: memoryview, row: memoryview, order: ByteOrder, page_size: int) -> Segment:
    fields = SEGMENT.parse(row, order)
    name = _text(fields.name)
    if (fields.address | fields.memory_size | fields.offset) % page_size:
        raise ValueError(f"segment {name} does not lie on pages of {page_size} bytes")
    if fields.size > fields.memory_size or fields.address + fields.memory_size >= _END:
        raise ValueError(f"segment {name} has more bytes than room, or ends nowhere")
    if not 0 < fields.offset < data.nbytes or fields.size > data.nbytes - fields.offset:
        raise ValueError(f"segment {name} does not lie in the file")
    content = data[fields.offset : fields.offset + fields.size]
    return Segment(name, fields.address, fields.memory_size, content, "the plan has it there")
