"""Split a console's log into its boots, its last crash, and what the capture kernel wrote after it."""

from __future__ import annotations

import errno
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import BinaryIO

from pykexec.kdump.console import signs as signs

_LINE_MAX = 2000


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log; `number` counts from 1."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class ConsoleLog:
    """A log split at its last crash, without empty lines and repeated command lines."""

    panic: Line | None
    """The line that reports the crash."""
    before: tuple[Line, ...] = ()
    """The lines of the kernel that crashed, up to then."""
    after: tuple[Line, ...] = ()
    """The lines after the crash, up to the next ordinary boot."""
    capture: tuple[Line, ...] = ()
    """Those of them that the capture kernel and its system wrote."""
    resets_devices: bool = False
    """Whether the capture kernel was given reset_devices."""

    def find(self, pattern: str, where: Iterable[Line] | None = None) -> Line | None:
        """Return the first line that matches a regular expression, after the crash or in `where`."""
        compiled = re.compile(pattern)
        return next(
            (line for line in (self.after if where is None else where) if compiled.search(line.text)), None
        )


_BANNER = re.compile(signs.BANNER)
_PANIC = re.compile(signs.PANIC)
_PANIC_OR_CRASHDUMP = re.compile(rf"{signs.PANIC}|{signs.CRASHDUMP}")
# With a crash kernel loaded, an oops starts it without a panic: arch/*/kernel, die() and oops_end().
_OOPS = re.compile(rf"{signs.OOPS}|{signs.SYSRQ}")
_ON_THE_WAY = re.compile(signs.ON_THE_WAY)
_GONE = re.compile(signs.GONE)
_PLAIN_KEXEC = re.compile(signs.PLAIN_KEXEC)
_NOT_TAKEN_OVER = re.compile(signs.NOT_TAKEN_OVER)
_OF_A_CAPTURE = re.compile(signs.OF_A_CAPTURE)
_QUOTES = re.compile("|".join(signs.QUOTES))
_USERLAND = re.compile(signs.USERLAND)
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_NOT_EMPTY = re.compile(r"[^\n]+")
_LOADED = re.compile(signs.LOADED)
_SURVIVED = re.compile(signs.SURVIVED)
_TIME = re.compile(r"\[ *(\d+\.\d+)\]")

_BOOTS_MAX = 1000
"""The most boots that are looked at, from the end."""
_PART_MAX = 1 << 19
_LINES_MAX = 5000
"""The most characters and lines that are looked at from the beginning of a boot, and again from its end."""


@dataclass(frozen=True, slots=True)
class _Boot:
    """The lines from one kernel's banner to the next one's."""

    lines: tuple[Line, ...] = ()
    quotes: tuple[Line, ...] = ()
    """The lines that only repeat a command line."""


def parse(text: str, first: int = 1) -> ConsoleLog:
    """Split a log. Any text is a log; text that is no line of one is skipped.

    `first` is the number of its first line.
    """
    starts = _starts(text, first)
    ends = [offset for offset, _ in starts[1:]] + [len(text)]
    boots = (
        _boot(text, start, end, number)
        for (start, number), end in zip(reversed(starts), reversed(ends), strict=True)
    )
    boot = next(boots)
    for earlier in chain(boots, [_Boot()]):
        if _is_capture(boot, earlier):
            return _with_banner(earlier, boot)
        at = _crash_at(boot.lines, counts_oopses=_lets_go(boot.lines) or _ends_in_an_oops(boot.lines))
        if at is not None:
            return _without_banner(boot, at)
        boot = earlier
    return ConsoleLog(None)


def _starts(text: str, first: int) -> list[tuple[int, int]]:
    """Return where boots begin: offsets and line numbers. Text before the first banner counts as a boot."""
    offsets: deque[int] = deque()
    begin = len(text)
    while len(offsets) < _BOOTS_MAX and (at := text.rfind("Linux version ", 0, begin)) >= 0:
        begin, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
        line = text[begin:] if end < 0 else text[begin:end]
        if _BANNER.search(line) and not _is_quote(line):
            offsets.appendleft(begin)
    starts = [(0, first)]
    for offset in offsets:
        last, number = starts[-1]
        starts.append((offset, number + text.count("\n", last, offset)))
    return starts


def _boot(text: str, start: int, end: int, number: int) -> _Boot:
    lines: list[Line] = []
    quotes: list[Line] = []
    for at, line in _lines(text, start, end, number):
        # Progress overwrites itself; the last state counts.
        shown = _ESCAPES.sub("", line[-_LINE_MAX:]).rstrip().rpartition("\r")[2]
        if not shown.isprintable():
            shown = "".join(each if each.isprintable() else " " for each in shown)
        if shown.strip():
            (quotes if _is_quote(line) else lines).append(Line(at, shown.rstrip()))
    return _Boot(tuple(lines), tuple(quotes))


def _is_quote(line: str) -> bool:
    return any(_QUOTES.search(part) for part in {line[:_LINE_MAX], line[-_LINE_MAX:]})


def _lines(text: str, start: int, end: int, number: int) -> Iterator[tuple[int, str]]:
    """Yield numbers and texts of lines that are not empty; of very many only the first and the last ones."""
    if end - start <= 2 * _PART_MAX:
        lines = list(_numbered(text, start, end, number))
        yield from lines[:_LINES_MAX]
        yield from lines[_LINES_MAX:][-_LINES_MAX:]
        return
    yield from islice(_numbered(text, start, start + _PART_MAX, number), _LINES_MAX)
    rest = end - _PART_MAX
    number += text.count("\n", start, rest)
    yield from deque(_numbered(text, rest, end, number), maxlen=_LINES_MAX)


def _numbered(text: str, start: int, end: int, number: int) -> Iterator[tuple[int, str]]:
    for match in _NOT_EMPTY.finditer(text, start, end):
        number += text.count("\n", start, match.start())
        start = match.start()
        yield number, match[0]


def _crash_at(lines: Sequence[Line], *, counts_oopses: bool) -> int | None:
    """Return the index of the line that reports a boot's crash; None where there is none.

    An oops is a crash where it is known to have started a crash kernel.
    """
    at = _index(_PANIC_OR_CRASHDUMP, lines)
    if at is not None and _PANIC.search(lines[at].text):
        return at
    oops = _index(_OOPS, lines[:at]) if counts_oopses else None
    return at if oops is None else oops


def _index(pattern: re.Pattern[str], lines: Sequence[Line]) -> int | None:
    return next((index for index, line in enumerate(lines) if pattern.search(line.text)), None)


def _lets_go(lines: Sequence[Line]) -> bool:
    return _index(_ON_THE_WAY, lines) is not None and _index(_PLAIN_KEXEC, lines) is None


def _ends_in_an_oops(lines: Sequence[Line]) -> bool:
    """Return whether a kernel with a crash kernel loaded reports an oops, but not that it survived."""
    oops = _index(_OOPS, lines)
    rest = () if oops is None else lines[oops:]
    return _index(_LOADED, rest) is not None and _index(_SURVIVED, rest) is None


def _is_capture(boot: _Boot, earlier: _Boot) -> bool:
    """Return whether a boot is a capture kernel's: it says so itself, or was seen to be started as one."""
    userland = next((line.number for line in boot.lines if _USERLAND.search(line.text)), None)
    if any(
        _OF_A_CAPTURE.search(line.text) and (userland is None or line.number < userland)
        for line in chain(boot.quotes, boot.lines[:2000])
    ):
        return True
    return _lets_go(earlier.lines[-20:]) and _crash_at(earlier.lines, counts_oopses=True) is not None


def _with_banner(crashed: _Boot, capture: _Boot) -> ConsoleLog:
    at = _crash_at(crashed.lines, counts_oopses=True)
    if at is None:  # the crash was before the log begins
        return ConsoleLog(None, (), capture.lines, capture.lines, _resets_devices(capture.quotes))
    return ConsoleLog(
        crashed.lines[at],
        crashed.lines[:at],
        (*crashed.lines[at + 1 :], *capture.lines),
        capture.lines,
        _resets_devices(capture.quotes),
    )


def _without_banner(boot: _Boot, at: int) -> ConsoleLog:
    """Split a boot at its crash where the second kernel shows no banner.

    With "quiet" it says nothing before its programs do, unless something is wrong.
    """
    panic, rest = boot.lines[at], boot.lines[at + 1 :]
    capture = rest[_second_begins(panic, rest) :]
    quotes = [line for line in boot.quotes if capture and line.number > panic.number]
    return ConsoleLog(panic, boot.lines[:at], rest, capture, _resets_devices(quotes))


def _second_begins(panic: Line, rest: Sequence[Line]) -> int:
    """Return where the second kernel's lines begin: its programs speak, or its clock starts again.

    Lines between that and the last words of the first kernel belong to the second one, too.
    """
    crashed, gone = _seconds(panic), None
    for index, line in enumerate(rest):
        seconds = _seconds(line)
        starts_again = seconds is not None and crashed is not None and seconds < crashed - 1
        if _NOT_TAKEN_OVER.search(line.text):
            break
        if starts_again or _USERLAND.search(line.text):
            return index if gone is None else gone + 1
        if _GONE.search(line.text) or (gone == index - 1 and _ON_THE_WAY.search(line.text)):
            gone = index
    return len(rest)


def _seconds(line: Line) -> float | None:
    """Return the time that printk puts before a line, in seconds since that kernel started; or None."""
    match = _TIME.search(line.text[:100])
    return None if match is None else float(match[1])


def _resets_devices(quotes: Iterable[Line]) -> bool:
    return any(re.search(r"\breset_devices\b", line.text) for line in quotes)


_TAIL_MAX = 32 << 20
_PIECE = 1 << 20


def tail(file: BinaryIO) -> tuple[str, int]:
    """Return the end of a log, where its last crash is, and its first line's number: at most 32 MiB."""
    kept, size, skipped = deque[bytes](), 0, 0
    for piece in _pieces(file):
        kept.append(piece)
        size += len(piece)
        while size - len(kept[0]) >= _TAIL_MAX:
            size -= len(kept[0])
            skipped += kept.popleft().count(b"\n")
    return b"".join(kept).decode("utf-8", "replace"), skipped + 1


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file's content without holes and NUL bytes, which contain no lines."""
    while True:
        _skip_hole(file)
        piece = file.read(_PIECE)
        if not piece:
            return
        yield piece.replace(b"\0", b"")


def _skip_hole(file: BinaryIO) -> None:
    # Pipes and some file systems know no holes. After the last data there is only a hole (ENXIO).
    try:
        here, descriptor = file.tell(), file.fileno()
        ahead = os.lseek(descriptor, 0, os.SEEK_CUR)  # the end of the buffer
        data = os.lseek(descriptor, here, os.SEEK_DATA)
        os.lseek(descriptor, ahead, os.SEEK_SET)
    except OSError as error:
        if error.errno == errno.ENXIO:
            file.seek(0, os.SEEK_END)
        return
    if data > here:
        file.seek(data)
