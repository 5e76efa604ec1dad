"""What a dump says about the crash, itself, and who will be able to read it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pykexec.errors import printable
from pykexec.memory import KIB, Range
from pykexec.vmcore import paging
from pykexec.vmcore.dump import Dump
from pykexec.vmcore.errors import DumpError
from pykexec.vmcore.log import KernelLog
from pykexec.vmcore.notes import Processor

SCHEMA = 1
"""Version of the JSON form; raised when a key changes its meaning or goes away."""

_PANIC = re.compile(rb"Kernel panic - not syncing: .*")
_FIRST_SIGN = re.compile(
    rb"(?:\w+: )?(?:BUG: |kernel BUG at |Unable to handle kernel |Oops: |Internal error: |Oops - "
    rb"|general protection fault|divide error|invalid opcode|stack segment|Kernel panic - |Machine check"
    rb"|SError Interrupt|sysrq: Trigger a crash|sysrq: SysRq : Trigger a crash|Hardware Error).*"
)
_TEXT_MAX = 500
_RANGES_SHOWN = 16


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What the log says, without the log."""

    layout: str
    records: int
    panic: str | None
    """The kernel's last words before it went over to the capture kernel."""
    first_sign: str | None
    """The first message of trouble, which tells more than the panic's when that came of it."""
    damage: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Info:
    """Facts about a dump. Sizes in bytes, addresses physical unless said otherwise."""

    file: str
    format: str
    compression: str
    dump_level: int | None
    """makedumpfile's -d; None where it was not recorded."""
    damage: tuple[str, ...]
    """Why it is not complete; empty if it is."""
    tells_extent: bool
    """Whether `damage`, `memory` and `saved` are known."""
    arch: str
    word_bits: int
    byte_order: str
    release: str | None
    page_size: int | None
    crash_time: int | None
    """Seconds since 1970."""
    memory: tuple[Range, ...]
    saved: int
    """How much of that memory is in the dump."""
    processors: tuple[Processor, ...]
    log: LogSummary | None
    log_problem: str | None
    """Why there is no log."""
    vmcoreinfo: Mapping[str, str]
    readers: Mapping[str, tuple[str, ...]]
    """For makedumpfile and crash: what keeps them from reading the dump; empty if nothing does."""
    details: Mapping[str, object]


def gather(dump: Dump) -> Info:
    """Read all that. Raises DumpError only when nothing can be read."""
    contents, info = dump.contents, dump.vmcoreinfo
    summary, problem = None, None
    try:
        summary = summarise(KernelLog(dump))
    except DumpError as error:
        problem = error.what
    damage = list(contents.damage)
    if contents.is_part:
        damage.append("one part of a split dump: name all the parts to read the whole")
    try:
        processors = dump.processors
    except DumpError as error:
        processors = ()
        damage.append(error.what)
    return Info(
        file=contents.name,
        format=contents.format,
        compression=contents.compression,
        dump_level=contents.dump_level,
        damage=tuple(damage),
        tells_extent=contents.tells_extent,
        arch=contents.arch,
        word_bits=8 * contents.word_size,
        byte_order=contents.byte_order,
        release=info.release or contents.release,
        page_size=info.page_size,
        crash_time=contents.time if info.crash_time is None else info.crash_time,
        memory=dump.memory,
        saved=contents.saved_bytes(),
        processors=processors,
        log=summary,
        log_problem=problem,
        vmcoreinfo=info.lines,
        readers=readers(dump),
        details=contents.details,
    )


def summarise(log: KernelLog) -> LogSummary:
    """Go through the log once. Raises DumpError when it cannot be found."""
    panic = first = None
    count = 0
    for record in log:
        count += 1
        panic = panic or _PANIC.search(record.text)
        first = first or _FIRST_SIGN.search(record.text)
    return LogSummary(log.layout, count, _text(panic), _text(first), tuple(log.damage))


def _text(match: re.Match[bytes] | None) -> str | None:
    return None if match is None else match[0][:_TEXT_MAX].decode("ascii", "backslashreplace")


_FOR_ALL = ("OSRELEASE", "PAGESIZE", "SYMBOL(swapper_pg_dir)", "SYMBOL(_stext)")
_FOR_PAGES = (
    "SIZE(page)",
    "OFFSET(page.flags)",
    "OFFSET(page.mapping)",
    "OFFSET(page.lru)",
    "OFFSET(page._mapcount)",
    "NUMBER(PG_lru)",
)
_FOR_ARCH = {
    "x86_64": ("NUMBER(phys_base)",),
    "arm64": ("NUMBER(VA_BITS)", "NUMBER(kimage_voffset)", "NUMBER(PHYS_OFFSET)"),
}
_MEMORY_MODELS = ("SYMBOL(mem_section)", "SYMBOL(mem_map)", "SYMBOL(contig_page_data)", "SYMBOL(node_data)")


def readers(dump: Dump) -> dict[str, tuple[str, ...]]:
    """What keeps makedumpfile and crash from reading the dump, by program."""
    return {"makedumpfile": tuple(_for_makedumpfile(dump)), "crash": tuple(_for_crash(dump))}


def _for_makedumpfile(dump: Dump) -> Iterator[str]:
    info = dump.vmcoreinfo
    if dump.contents.format.endswith("flattened"):
        yield "it is flattened: rearrange it first (makedumpfile -R DUMP < FLATTENED)"
    if dump.contents.is_part:
        yield "it is one part of a split dump: put it together first (makedumpfile --reassemble)"
    if not info:
        yield "there is no VMCOREINFO"
        return
    for name in (*_FOR_ALL, *_FOR_ARCH.get(dump.arch, ())):
        if name not in info.lines:
            yield f"VMCOREINFO lacks {name}"
    if not any(name in info.lines for name in _MEMORY_MODELS):
        yield f"VMCOREINFO has none of {', '.join(_MEMORY_MODELS)}"
    yield from _lost(dump)
    unknown = [name for name in _FOR_PAGES if name not in info.lines]
    # Linux 5.17 and 6.x keep renaming these; with some gone it saves pages it could leave out.
    if len(unknown) == len(_FOR_PAGES):
        yield "VMCOREINFO says nothing about struct page, so no pages can be left out"
    bits = info.number("VA_BITS")
    # get_machdep_info_arm64() of makedumpfile 1.7.8: "PAGE SIZE 0x1000 and VA Bits 52 not supported".
    if dump.arch == "arm64" and bits == 52 and info.page_size != 64 * KIB:
        yield (
            f"pages of {info.page_size} bytes with virtual addresses of 52 bits, which makedumpfile up to"
            " 1.7.8 does not know"
        )


def _lost(dump: Dump) -> Iterator[str]:
    """What both read before anything else."""
    for name in ("init_uts_ns", "swapper_pg_dir"):
        address = dump.vmcoreinfo.symbol(name)
        if address is not None:
            try:
                dump.read_virtual(address, 1)
            except DumpError as error:
                yield f"{name} cannot be read: {error.what}"


def _for_crash(dump: Dump) -> Iterator[str]:
    info = dump.vmcoreinfo
    if dump.contents.is_part:
        yield "it is one part of a split dump: give it all of them"
    if not info:
        yield "there is no VMCOREINFO, so it takes options for all that it cannot guess"
        return
    if info.page_size is None:
        yield "VMCOREINFO lacks PAGESIZE"
    yield from _lost(dump)
    for name in _FOR_ARCH.get(dump.arch, ()):
        if name not in info.lines:
            yield f"VMCOREINFO lacks {name}"
    if dump.arch == "arm64" and paging.virtual_bits(info) is None:
        yield "VMCOREINFO has no size of virtual addresses that makes sense (VA_BITS, TCR_EL1_T1SZ)"


def as_json(info: Info) -> str:
    """One JSON object: addresses and sizes as integers, ends exclusive."""
    return json.dumps(_object(info), indent=2) + "\n"


def _object(info: Info) -> dict[str, object]:
    log = info.log
    return {
        "schema": SCHEMA,
        "file": info.file,
        "format": info.format,
        "compression": info.compression,
        "dump_level": info.dump_level,
        "complete": not info.damage if info.tells_extent else None,
        "damage": list(info.damage),
        "arch": info.arch,
        "word_bits": info.word_bits,
        "byte_order": info.byte_order,
        "release": info.release,
        "page_size": info.page_size,
        "crash_time": info.crash_time,
        "memory": _memory_object(info) if info.tells_extent else None,
        "processors": [
            {
                "number": each.number,
                "process": each.process,
                "pc": each.pc,
                "sp": each.sp,
                "registers": dict(each.registers),
            }
            for each in info.processors
        ],
        "panic": log and log.panic,
        "first_sign": log and log.first_sign,
        "log": log and {"layout": log.layout, "records": log.records, "damage": list(log.damage)},
        "log_problem": info.log_problem,
        "readers": {
            name: {"can_read": not problems, "problems": list(problems)}
            for name, problems in info.readers.items()
        },
        "details": dict(info.details),
        "vmcoreinfo": dict(info.vmcoreinfo),
    }


def _memory_object(info: Info) -> dict[str, object]:
    return {
        "bytes": sum(each.size for each in info.memory),
        "saved_bytes": info.saved,
        "ranges": [[each.start, each.end] for each in info.memory],
    }


def as_text(info: Info, *, registers: bool = False) -> str:
    """The same as lines to read; of each processor two registers or, with `registers`, all."""
    return "\n".join(map(printable, _lines(info, registers))) + "\n"


def _lines(info: Info, registers: bool) -> Iterator[str]:
    level = "" if info.dump_level is None else f", dump level {info.dump_level}"
    yield f"dump          {info.file}"
    yield f"format        {info.format}; compression {info.compression}{level}"
    yield from _listed("complete", info.damage, "yes" if info.tells_extent else "unknown")
    pages = f", pages of {info.page_size} bytes" if info.page_size else ""
    yield f"kernel        {info.release or 'unknown'} on {info.arch}{pages}"
    yield f"crashed       {_time(info.crash_time)}"
    if info.log is None:
        yield f"log           none: {info.log_problem}"
    else:
        yield f"panic         {info.log.panic or 'the log has no panic message'}"
        if info.log.first_sign and info.log.first_sign != info.log.panic:
            yield f"first sign    {info.log.first_sign}"
        yield f"log           {info.log.records} records, layout: {info.log.layout}"
        yield from (f"  damaged: {each}" for each in info.log.damage)
    yield from _memory(info)
    yield f"processors    {len(info.processors)} left their registers"
    for each in info.processors:
        place = "" if each.pc is None or each.sp is None else f"  pc {each.pc:#x}  sp {each.sp:#x}"
        yield f"  {each.number:<4} process {each.process:<8}{place}"
        if registers:
            yield from _registers(each)
    for name, problems in info.readers.items():
        yield from _listed(name, problems, "can read it")
    yield "VMCOREINFO" if info.vmcoreinfo else "VMCOREINFO    none"
    yield from (f"  {name}={value}" for name, value in info.vmcoreinfo.items())


_REGISTERS_IN_LINE = 4


def _registers(processor: Processor) -> Iterator[str]:
    shown = [f" {name:>8} {value:016x}" for name, value in processor.registers.items()]
    for start in range(0, len(shown), _REGISTERS_IN_LINE):
        yield "    " + "".join(shown[start : start + _REGISTERS_IN_LINE])


def _listed(name: str, problems: Sequence[str], otherwise: str) -> Iterator[str]:
    yield f"{name:<13} {'no' if problems else otherwise}"
    yield from (f"  {each}" for each in problems)


def _memory(info: Info) -> Iterator[str]:
    if not info.tells_extent:
        yield "memory        unknown"
        return
    total = sum(each.size for each in info.memory)
    yield f"memory        {_size(total)} in {len(info.memory)} ranges; {_size(info.saved)} of it saved"
    yield from (f"  {each}" for each in info.memory[:_RANGES_SHOWN])
    if len(info.memory) > _RANGES_SHOWN:
        yield f"  and {len(info.memory) - _RANGES_SHOWN} more"


def _size(size: int) -> str:
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 10 << shift:
            return f"{size >> shift} {unit}"
    return f"{size} bytes"


def _time(seconds: int | None) -> str:
    if seconds is None:
        return "at a time that was not recorded"
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"at {seconds} seconds since 1970, which makes no sense"
