"""Facts about a dump: the crash, the file itself, and which programs can read it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pykexec import terminal
from pykexec.errors import printable
from pykexec.memory import Range
from pykexec.vmcore import slabs
from pykexec.vmcore.diskdump import Checked
from pykexec.vmcore.dump import Dump
from pykexec.vmcore.errors import DumpError
from pykexec.vmcore.log import KernelLog
from pykexec.vmcore.notes import Processor
from pykexec.vmcore.readers import Reader, Tools, readers
from pykexec.vmcore.slabs import Slabs

SCHEMA = 2
"""The version of the JSON form; it is raised when a key changes its meaning or goes away."""

_PANIC = re.compile(rb"Kernel panic - not syncing: .*")
_FIRST_SIGN = re.compile(
    rb"(?:\w+: )?(?:BUG: |kernel BUG at |Unable to handle kernel |Oops: |Internal error: |Oops - "
    rb"|general protection fault|divide error|invalid opcode|stack segment|Kernel panic - |Machine check"
    rb"|SError Interrupt|sysrq: Trigger a crash|sysrq: SysRq : Trigger a crash|Hardware Error).*"
)
_TEXT_MAX = 500


@dataclass(frozen=True, slots=True)
class LogSummary:
    """The facts in the log, without the log."""

    layout: str
    records: int
    panic: str | None
    """The panic message, the kernel's last before it started the capture kernel."""
    first_sign: str | None
    """The first message of trouble. It tells more than the panic message that resulted from it."""
    damage: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Info:
    """Facts about a dump. Sizes are in bytes and addresses physical unless stated otherwise."""

    file: str
    format: str
    compression: str
    dump_level: int | None
    """makedumpfile's -d; None where it was not recorded."""
    damage: tuple[str, ...]
    """Why the dump is not complete; empty if it is."""
    checked: Checked | None
    """How many of its pages were checked; None where the format has no means to tell damage."""
    slabs: Slabs | None
    """How many pages of the kernel's own memory were looked for; None where that is not possible."""
    tells_extent: bool
    """Whether `damage`, `memory` and `saved` are known."""
    arch: str
    word_bits: int
    byte_order: str
    release: str | None
    page_size: int | None
    crash_time: int | None
    """In seconds since 1970."""
    memory: tuple[Range, ...]
    saved: int
    """How many bytes of that memory are in the dump."""
    processors: tuple[Processor, ...]
    log: LogSummary | None
    log_problem: str | None
    """Why there is no log."""
    vmcoreinfo: Mapping[str, str]
    readers: Mapping[str, Reader]
    """The programs that read dumps, by name."""
    details: Mapping[str, object]


def gather(dump: Dump, *, all_pages: bool = False, tools: Tools | None = None) -> Info:
    """Read all facts about a dump. Raises DumpError only when nothing can be read.

    `all_pages`: unpack every page, which takes long; otherwise only some. `tools`: the programs that are
    installed.
    """
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
    checked, kernel_pages = _check(dump, all_pages, damage)
    return Info(
        file=contents.name,
        format=contents.format,
        compression=contents.compression,
        dump_level=contents.dump_level,
        damage=tuple(damage),
        checked=checked,
        slabs=kernel_pages,
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
        readers=readers(dump, tools or Tools.installed(), damage),
        details=contents.details,
    )


_FILTERS = 2 | 4 | 8 | 16
"""The bits of makedumpfile(8)'s -d that leave pages out by their use."""


def _check(dump: Dump, all_pages: bool, damage: list[str]) -> tuple[Checked | None, Slabs | None]:
    """Look for damaged pages, and for pages that should be there; add what is wrong to `damage`."""
    checked = None
    try:
        checked = dump.contents.check(everything=all_pages)
    except DumpError as error:
        damage.append(error.what)
    if checked and checked.damaged:
        damage.append(
            f"damaged: {checked.damaged} of {checked.looked_at} pages that were looked at: {checked.first}"
        )
    found = slabs.look(dump) if (dump.contents.dump_level or 0) & _FILTERS else None
    if found and found.missing > max(_RACY, found.seen // 100):
        damage.append(
            f"pages that are needed are missing: {found.missing} of {found.seen} pages of the kernel's slabs"
            " that were looked for: the makedumpfile that left them out does not know this kernel"
        )
    return checked, found


_RACY = 2
"""The number of pages that may have changed hands while the machine crashed."""


def summarise(log: KernelLog) -> LogSummary:
    """Read the log once. Raises DumpError when it cannot be found."""
    panic = first = None
    count = 0
    for record in log:
        count += 1
        panic = panic or _PANIC.search(record.text)
        first = first or _FIRST_SIGN.search(record.text)
    return LogSummary(log.layout, count, _text(panic), _text(first), tuple(log.damage))


def _text(match: re.Match[bytes] | None) -> str | None:
    return None if match is None else match[0][:_TEXT_MAX].decode("ascii", "backslashreplace")


def as_json(info: Info) -> str:
    """Return one JSON object: addresses and sizes are integers, ends exclusive."""
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
        "checked": None if info.checked is None else _checked_object(info.checked),
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
            name: {"can_read": each.can_read, "version": each.version, "problems": list(each.problems)}
            for name, each in info.readers.items()
        },
        "details": dict(info.details),
        "vmcoreinfo": dict(info.vmcoreinfo),
    }


def _checked_object(checked: Checked) -> dict[str, object]:
    return {
        "saved_pages": checked.saved,
        "looked_at": checked.looked_at,
        "unpacked": checked.unpacked,
        "damaged": checked.damaged,
    }


def _memory_object(info: Info) -> dict[str, object]:
    return {
        "bytes": sum(each.size for each in info.memory),
        "saved_bytes": info.saved,
        "ranges": [[each.start, each.end] for each in info.memory],
    }


_ITEMS_SHOWN = 4
"""The most lines of a list in a report of one screen."""

Told = tuple[str, str]
"""What begins a line, and its text."""


def as_text(
    info: Info, *, registers: bool = False, vmcoreinfo: bool = False, columns: int = terminal.WIDTH
) -> str:
    """Return the facts as lines of so many columns: one screen of them, where the dump is not damaged.

    `registers`: all registers of all processors, not only two of a few; `vmcoreinfo`: VMCOREINFO, too.
    """
    told = [*_lines(info, registers), *_vmcoreinfo(info, vmcoreinfo)]
    lines = [line for first, text in told for line in terminal.folded(printable(text), columns, first=first)]
    return "\n".join(lines) + "\n"


def _named(name: str, text: str) -> Told:
    return f"{name:<13} ", text


def _item(text: str) -> Told:
    return "  ", text


def _lines(info: Info, registers: bool) -> Iterator[Told]:
    level = "" if info.dump_level is None else f", dump level {info.dump_level}"
    yield _named("dump", info.file)
    yield _named("format", f"{info.format}; compression {info.compression}{level}")
    yield from _listed("complete", "no" if info.damage else _whole(info), info.damage)
    yield from _checked(info)
    pages = f", pages of {info.page_size} bytes" if info.page_size else ""
    yield _named("kernel", f"{info.release or 'unknown'} on {info.arch}{pages}")
    yield _named("crashed", _time(info.crash_time))
    if info.log is None:
        yield _named("log", f"none: {info.log_problem}")
    else:
        yield _named("panic", info.log.panic or "the log has no panic message")
        if info.log.first_sign and info.log.first_sign != info.log.panic:
            yield _named("first sign", info.log.first_sign)
        damaged = [f"damaged: {each}" for each in info.log.damage]
        yield from _listed("log", f"{info.log.records} records, layout: {info.log.layout}", damaged)
    yield from _memory(info)
    yield from _processors(info.processors, registers)
    for name, reader in info.readers.items():
        version = f" ({name} {reader.version})" if reader.version else ""
        yield from _listed(name, f"{_CAN_READ[reader.can_read]}{version}", reader.problems)


def _processors(processors: Sequence[Processor], registers: bool) -> Iterator[Told]:
    lines = []
    for each in processors:
        place = "" if each.pc is None or each.sp is None else f"  pc {each.pc:#x}  sp {each.sp:#x}"
        lines.append(f"{each.number:<4} process {each.process:<8}{place}")
    answer = f"{len(processors)} left their registers"
    if not registers:
        yield from _listed("processors", answer, _some(lines, "--registers shows all"))
        return
    yield _named("processors", answer)
    for each, line in zip(processors, lines, strict=True):
        yield _item(line)
        yield from _registers(each)


def _registers(processor: Processor) -> Iterator[Told]:
    shown = [f"{name:>8} {value:016x}" for name, value in processor.registers.items()]
    for start in range(0, len(shown), _REGISTERS_IN_LINE):
        yield "    ", " ".join(shown[start : start + _REGISTERS_IN_LINE])


_REGISTERS_IN_LINE = 2
"""More do not fit into 80 columns."""


def _vmcoreinfo(info: Info, wanted: bool) -> Iterator[Told]:
    count = len(info.vmcoreinfo)
    if count and not wanted:
        yield _named("VMCOREINFO", f"{count} lines: --vmcoreinfo shows them")
        return
    lines = [f"{name}={value}" for name, value in info.vmcoreinfo.items()]
    yield from _listed("VMCOREINFO", f"{count} lines" if count else "none", lines)


_CAN_READ = {True: "can read it", False: "no", None: "cannot tell"}


def _listed(name: str, answer: str, more: Sequence[str]) -> Iterator[Told]:
    yield _named(name, answer)
    yield from map(_item, more)


def _some(lines: Sequence[str], how: str) -> Sequence[str]:
    """Return as many lines as a screen has room for; `how` says how all are shown."""
    if len(lines) <= _ITEMS_SHOWN:
        return lines
    shown = lines[: _ITEMS_SHOWN - 1]
    return [*shown, f"and {len(lines) - len(shown)} more: {how}"]


def _whole(info: Info) -> str:
    return "yes" if info.tells_extent else "unknown"


def _checked(info: Info) -> Iterator[Told]:
    """Yield how thoroughly that was checked."""
    if info.checked is not None:
        saved, looked_at, unpacked, *_ = info.checked
        more = "" if unpacked == saved else " (--all-pages: all)"
        yield _named("checked", f"{looked_at} of {saved} pages looked at, {unpacked} unpacked{more}")
    elif info.tells_extent:
        yield _named("checked", "nothing in this format tells whether pages are what they were")
    if info.slabs is not None:
        yield _named("", f"{info.slabs.seen} pages of slabs looked for, {info.slabs.missing} missing")


def _memory(info: Info) -> Iterator[Told]:
    if not info.tells_extent:
        yield _named("memory", "unknown")
        return
    total = sum(each.size for each in info.memory)
    answer = f"{_size(total)} in {len(info.memory)} ranges; {_size(info.saved)} of it saved"
    yield from _listed("memory", answer, _some([*map(str, info.memory)], "--json has all"))


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
