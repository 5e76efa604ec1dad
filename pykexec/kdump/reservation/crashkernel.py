"""The kernel's crashkernel= parameter: its meaning, and what a machine with that much memory reserves.

This follows kernel/crash_reserve.c. The differences between architectures and releases are in `support`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pykexec.errors import MachineError, PykexecError
from pykexec.kdump.reservation.support import CMA_SINCE, CrashkernelSupport
from pykexec.memory import GIB, MIB, Range, align_up

PARAMETER = "crashkernel="

SMALLEST = MIB
"""Sizes below this were probably meant to have a unit."""

TOTAL_ROUNDED_TO = 128 * MIB
"""Memory is rounded up to this before it is compared with ranges: firmware keeps some for itself."""

_SUFFIXES = (",high", ",low", ",cma")
_UNITS = "KMGTPE"
_ULLONG_BITS = 64
_4G = 4 * GIB


class CrashkernelError(PykexecError):
    """An error for a crashkernel= that the kernel would refuse; `column` in the text counts from 1."""

    exit_code = 1

    def __init__(self, text: str, at: int, what: str, *, hint: str | None = None) -> None:
        super().__init__(f"crashkernel={_shown(text)}: column {at + 1}: {what}", hint=hint)
        self.column = at + 1
        self.fault = what


def _shown(text: str) -> str:
    """Return the text in a form for messages."""
    return text if text.isprintable() and len(text) <= 80 else ascii(text[:80])


class Form(enum.Enum):
    """The forms of crashkernel= parameters; sizes and addresses are in bytes."""

    SIMPLE = "size"
    """SIZE[@OFFSET]: anywhere, or only there."""
    RANGES = "ranges"
    """START-[END]:SIZE,...[@OFFSET]: a size that depends on how much memory there is."""
    HIGH = "high"
    """SIZE,high: above 4 GiB rather than below."""
    LOW = "low"
    """SIZE,low: what is reserved below 4 GiB in addition to a main part above."""
    CMA = "cma"
    """SIZE,cma: additional memory that the running kernel may use for pages it need not dump."""


@dataclass(frozen=True, slots=True)
class SizeRange:
    """With at least `start` and less than `end` bytes of memory (None: no end), `size` is reserved."""

    start: int
    end: int | None
    size: int

    def matches(self, total: int) -> bool:
        return total >= self.start and (self.end is None or total < self.end)


@dataclass(frozen=True, slots=True)
class Clause:
    """A crashkernel= parameter."""

    form: Form
    size: int = 0
    """The size in all forms except RANGES."""
    offset: int | None = None
    """The physical address; None or 0: the kernel chooses."""
    ranges: tuple[SizeRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Reservation:
    """The reservation that a kernel will try to make; all sizes are in bytes."""

    size: int
    """The main part's size; 0: nothing at all."""
    text: str = ""
    """The parameter that decides, without "crashkernel="."""
    clause: Clause | None = None
    offset: int | None = None
    above_4g: bool = False
    """Whether the kernel looks above 4 GiB first."""
    low_size: int = 0
    """The size of a part below 4 GiB, which is added if the main part is above."""
    cma_size: int = 0
    why_nothing: str = ""
    notes: tuple[str, ...] = ()
    """Notes on what an administrator may not expect."""


# Parsing


def parse(text: str) -> Clause:
    """Parse one parameter's value, for instance "2G-64G:256M,64G-:512M".

    Raises CrashkernelError with the column of the first fault, even where the kernel would not look: in
    ranges after the one that matches, and after an offset.
    """
    suffix = next((each for each in _SUFFIXES if text.endswith(each)), None)
    if suffix is not None:
        return _parse_suffix(text, suffix)
    clause, error = _parse_plain(text)
    if error is not None:
        raise error
    return clause


def _parse_plain(text: str) -> tuple[Clause, CrashkernelError | None]:
    """Return as much as can be understood, and the fault that ended it."""
    return _parse_ranges(text) if ":" in text else _parse_simple(text)


def _parse_suffix(text: str, suffix: str) -> Clause:
    """Parse as parse_crashkernel_suffix() does. Raises CrashkernelError."""
    size, at = _memory(text, 0)
    if text[at:] != suffix:
        raise CrashkernelError(text, at, f"{suffix} has to follow the size", hint=_suffix_hint(text))
    return Clause(Form(suffix[1:]), size)


def _suffix_hint(text: str) -> str | None:
    if ":" in text:
        return f"ranges cannot be combined with {', '.join(_SUFFIXES)}; write a plain size"
    return "an @OFFSET cannot be combined with it" if "@" in text else None


def _parse_simple(text: str) -> tuple[Clause, CrashkernelError | None]:
    """Parse as parse_crashkernel_simple() does."""
    size = 0
    try:
        size, at = _memory(text, 0)
        if at == len(text):
            return Clause(Form.SIMPLE, size), None
        if text[at] != "@":
            size = 0
            hint = "sizes end in K, M, G or T" if text[at].isalpha() else None
            raise CrashkernelError(text, at, f"{text[at]!r} cannot follow the size", hint=hint)
        return Clause(Form.SIMPLE, size, _offset(text, at)), None
    except CrashkernelError as error:
        return Clause(Form.SIMPLE, size, _leading_offset(text)), error


def _parse_ranges(text: str) -> tuple[Clause, CrashkernelError | None]:
    """Parse as parse_crashkernel_mem() does."""
    ranges: list[SizeRange] = []
    at = 0
    try:
        while True:
            one, at = _range(text, at)
            ranges.append(one)
            if text[at : at + 1] != ",":
                break
            at += 1
        if at < len(text) and text[at] != "@":
            raise CrashkernelError(text, at, f"{text[at]!r} cannot follow a range; ',' or '@' can")
        offset = _offset(text, at) if at < len(text) else None
        return Clause(Form.RANGES, ranges=tuple(ranges), offset=offset), None
    except CrashkernelError as error:
        return Clause(Form.RANGES, ranges=tuple(ranges), offset=_leading_offset(text)), error


def _offset(text: str, at: int) -> int:
    """Return the offset after the '@' at that index. Raises CrashkernelError where something follows it."""
    offset, end = _memory(text, at + 1)
    if end < len(text):
        raise CrashkernelError(text, end, f"{text[end]!r} cannot follow the offset")
    return offset


def _leading_offset(text: str) -> int | None:
    """Return what the kernel takes as the offset of a faulty text: it skips all before the first '@'."""
    at = text.find("@")
    try:
        return _memory(text, at + 1)[0] if at >= 0 else None
    except CrashkernelError:
        return None


def _range(text: str, at: int) -> tuple[SizeRange, int]:
    start, at = _memory(text, at)
    if text[at : at + 1] != "-":
        raise CrashkernelError(text, at, "'-' expected", hint="a range is START-END:SIZE or START-:SIZE")
    at += 1
    end: int | None = None
    if text[at : at + 1] != ":":
        end_at = at
        end, at = _memory(text, at)
        if end <= start:
            raise CrashkernelError(text, end_at, "the range ends where it starts, or before")
    if text[at : at + 1] != ":":
        raise CrashkernelError(text, at, "':' expected", hint="a range is START-END:SIZE or START-:SIZE")
    size, at = _memory(text, at + 1)
    return SizeRange(start, end, size), at


_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")


def _memory(text: str, at: int) -> tuple[int, int]:
    """Return a size and the index after it, read as by memparse() in lib/cmdline.c.

    It is decimal, 0x... or 0..., with a unit. A unit alone is 0. Raises CrashkernelError.
    """
    found = _NUMBER.match(text, at, at + 80)
    if found is None and text[at : at + 1].upper() not in tuple(_UNITS):
        raise CrashkernelError(text, at, _no_number(text, at), hint=_no_number_hint(text, at))
    digits, end = (found.group(), found.end()) if found else ("0", at)
    if digits[:2] in ("0x", "0X"):
        value = int(digits, 16)
    else:
        value = int(digits, 8) if digits[0] == "0" else int(digits)
    unit = text[end : end + 1].upper()
    if unit and unit in _UNITS:
        value <<= 10 * (_UNITS.index(unit) + 1)
        end += 1
    if value >> _ULLONG_BITS:
        raise CrashkernelError(text, at, "more than 64 bits")
    return value, end


def _no_number(text: str, at: int) -> str:
    return "a size expected, not " + (repr(text[at]) if at < len(text) else "the end")


def _no_number_hint(text: str, at: int) -> str | None:
    if text == "auto":
        return "only RHEL 8 and older know crashkernel=auto; write a size"
    if text[at : at + 1] == '"':
        return "the kernel does not take quotes away here"
    return None


def render(clause: Clause) -> str:
    """Return the value as the kernel reads it; `parse` returns the clause again."""
    if clause.form in (Form.HIGH, Form.LOW, Form.CMA):
        return f"{size_text(clause.size)},{clause.form.value}"
    if clause.form is Form.RANGES:
        text = ",".join(f"{_range_text(each)}:{size_text(each.size)}" for each in clause.ranges)
    else:
        text = size_text(clause.size)
    return text if clause.offset is None else f"{text}@{size_text(clause.offset)}"


def _range_text(one: SizeRange) -> str:
    return f"{size_text(one.start)}-{'' if one.end is None else size_text(one.end)}"


def size_text(size: int) -> str:
    """Return a size in the largest unit that expresses it exactly: "256M"."""
    for index in range(len(_UNITS), 0, -1):
        if size and not size % (1 << 10 * index):
            return f"{size >> 10 * index}{_UNITS[index - 1]}"
    return str(size)


def why_so_small(size: int) -> str:
    """Return what is probably wrong with a size that is too small for any kernel."""
    if size % 1024:
        return f"{size} is a number of bytes, as it has no unit: did you mean {size}M?"
    return f"{size_text(size)} is too little for any kernel: did you mean {size // 1024}M?"


# Command lines


def values(command_line: str) -> tuple[str, ...]:
    """Return the values of all crashkernel= on a command line.

    They are found as by get_last_crashkernel(): anywhere, even within another parameter, and up to a space.
    """
    found = []
    at = command_line.find(PARAMETER)
    while at >= 0:
        end = command_line.find(" ", at)
        found.append(command_line[at + len(PARAMETER) : len(command_line) if end < 0 else end])
        at = command_line.find(PARAMETER, at + 1)
    return tuple(found)


def observed(
    kernel: CrashkernelSupport, command_line: str, regions: Sequence[Range], *, has_cma: bool = False
) -> CrashkernelSupport:
    """Return the support, corrected by what a kernel with that command line has reserved.

    Distributions' kernels may support more than Linux of their version.
    """
    texts = values(command_line)
    plain = _last(texts, lambda text: not text.endswith(_SUFFIXES))
    low = sum(region.size for region in regions if region.end <= _4G)
    if regions and plain is None and _last(texts, lambda text: text.endswith(",high")):
        kernel = replace(kernel, knows_high=True, is_backport=False, default_low=low or kernel.default_low)
    if plain is not None and "@" not in plain and low and regions[-1].start >= _4G:
        kernel = replace(kernel, knows_high=True, is_backport=False, falls_back_high=True, default_low=low)
    if has_cma:
        return replace(kernel, knows_cma=True, honours_cma=True)
    # A kernel reserves nothing if it reads a last SIZE,cma as a broken size.
    return replace(kernel, knows_cma=True) if regions and texts and texts[-1].endswith(",cma") else kernel


def counting(command_line: str, kernel: CrashkernelSupport) -> tuple[str, ...]:
    """Return the values of crashkernel= that count: the one that decides, and those that add to it.

    Raises MachineError where that is not known for such kernels.
    """
    texts = values(command_line)
    deciding = _deciding(texts, kernel)
    added = [] if deciding is None or not deciding.endswith(",high") else [",low"]
    added += [",cma"] if kernel.knows_cma else []
    return tuple(filter(None, (deciding, *(_last(texts, _ends_with(suffix)) for suffix in added))))


def _deciding(texts: Sequence[str], kernel: CrashkernelSupport) -> str | None:
    """Return the last plain value, or else the last ,high: get_last_crashkernel() in parse_crashkernel().

    Raises MachineError where it is not known whether such kernels support ,high.
    """
    plain = _last(texts, lambda text: not text.endswith(_suffixes(kernel)))
    high = _last(texts, _ends_with(",high"))
    if plain is None and high is not None and kernel.knows_high is None:
        raise MachineError("whether kernels of this architecture know crashkernel=SIZE,high is not known")
    return high if plain is None and kernel.knows_high else plain


def _suffixes(kernel: CrashkernelSupport) -> tuple[str, ...]:
    return tuple(suffix for suffix in _SUFFIXES if suffix != ",cma" or kernel.knows_cma)


def _ends_with(suffix: str) -> Callable[[str], bool]:
    return lambda text: text.endswith(suffix)


def reservation(command_line: str, total_memory: int, kernel: CrashkernelSupport) -> Reservation:
    """Return what a kernel with that command line and that many bytes of memory will try to reserve.

    For a command line that reserves nothing, it has size 0 and the reason. Raises MachineError where it is
    not known what such kernels do.
    """
    texts = values(command_line)
    if not texts:
        return Reservation(0, why_nothing="there is no crashkernel= on the command line")
    deciding = _deciding(texts, kernel)
    if deciding is None:
        return Reservation(0, texts[-1], why_nothing=_why_only_suffixes(texts, kernel))
    if deciding.endswith(_suffixes(kernel)):
        found = _high(deciding, texts, kernel)
    else:
        found = _plain(deciding, total_memory, kernel)
    if found.size >= total_memory:
        why = f"{size_text(found.size)} is not less than all memory ({total_memory // MIB}M)"
        return Reservation(0, found.text, found.clause, why_nothing=why)
    if found.size and found.offset and kernel.alignment and found.offset % kernel.alignment:
        why = f"the offset {found.offset:#x} is no multiple of {size_text(kernel.alignment)}"
        return Reservation(0, found.text, found.clause, why_nothing=why)
    return _with_others(found, texts, kernel) if found.size else found


def _last(texts: Sequence[str], wanted: Callable[[str], bool]) -> str | None:
    return next((text for text in reversed(texts) if wanted(text)), None)


def _plain(text: str, total_memory: int, kernel: CrashkernelSupport) -> Reservation:
    clause, fault = _parse_plain(text)
    total = align_up(total_memory, TOTAL_ROUNDED_TO)
    size, why = _size_of(clause, fault, total)
    if clause.form is Form.RANGES and size and "@" in text and clause.offset is None:
        size, why = 0, fault.what if fault else ""
    if not size:
        return Reservation(0, text, clause, why_nothing=_why_unknown_cma(text, kernel) or why)
    notes = (f"the kernel does not look at this: {fault.what}",) if fault else ()
    # At a given address there is no fallback, and no low part.
    low = kernel.default_low or 0 if kernel.falls_back_high and not clause.offset else 0
    return Reservation(size, text, clause, clause.offset or None, low_size=low, notes=notes)


def _size_of(clause: Clause, fault: CrashkernelError | None, total: int) -> tuple[int, str]:
    """Return the size that counts with `total` bytes of memory; 0 and the reason where it is nothing."""
    if clause.form is not Form.RANGES:
        return clause.size, fault.what if fault else "the size is 0"
    for each in clause.ranges:
        if each.size >= total:
            return 0, f"{size_text(each.size)} in a range is not less than all memory ({total // MIB}M)"
        if each.matches(total):
            return each.size, f"the size of the range {_range_text(each)} is 0"
    return 0, fault.what if fault else f"no range takes in {total // MIB}M of memory"


def _high(text: str, texts: Sequence[str], kernel: CrashkernelSupport) -> Reservation:
    low_text = _last(texts, _ends_with(",low"))
    try:
        clause = parse(text)
        low = kernel.default_low or 0 if low_text is None else parse(low_text).size
    except CrashkernelError as error:
        return Reservation(0, text, why_nothing=error.what)
    why = "" if clause.size else "the size is 0"
    notes = (_BACKPORT,) if kernel.is_backport else ()
    return Reservation(clause.size, text, clause, above_4g=True, low_size=low, why_nothing=why, notes=notes)


_BACKPORT = (
    "Linux of this version does not know SIZE,high on this architecture; distributions' kernels, such as"
    " this one, may: what the next boot reserves tells"
)


def _why_only_suffixes(texts: Sequence[str], kernel: CrashkernelSupport) -> str:
    if kernel.knows_high is False and any(text.endswith(",high") for text in texts):
        return "this kernel does not know crashkernel=SIZE,high"
    suffix = texts[-1].rpartition(",")[2]
    return f"SIZE,{suffix} only adds to a reservation: there is no crashkernel=SIZE or SIZE,high"


def _why_unknown_cma(text: str, kernel: CrashkernelSupport) -> str:
    if not text.endswith(",cma") or kernel.knows_cma:
        return ""
    since = ".".join(map(str, CMA_SINCE))
    return (
        f"this kernel does not know SIZE,cma (Linux {since} does): it takes {_shown(text)}, the last one,"
        " for a broken size and reserves nothing"
    )


def _with_others(found: Reservation, texts: Sequence[str], kernel: CrashkernelSupport) -> Reservation:
    """Add what the other crashkernel= of the same command line contribute, or fail to."""
    notes = list(found.notes)
    counted = {found.text}
    low = _last(texts, _ends_with(",low")) if found.above_4g else None
    counted |= {low} if low else set()
    cma = _last(texts, _ends_with(",cma")) if kernel.knows_cma else None
    cma_size = 0
    if cma is not None:
        counted.add(cma)
        cma_size, note = _cma(cma, kernel)
        notes += [note] if note else []
    notes += [
        f"crashkernel={_shown(text)} has no effect: crashkernel={_shown(found.text)} decides"
        for text in dict.fromkeys(texts)
        if text not in counted
    ]
    sizes = (found.size, found.low_size if low else 0, cma_size)
    notes += [why_so_small(size) for size in sizes if 0 < size < SMALLEST]
    return replace(found, cma_size=cma_size, notes=tuple(notes))


def _cma(text: str, kernel: CrashkernelSupport) -> tuple[int, str]:
    """Return the size of SIZE,cma, and a note where it is not what was asked for."""
    if kernel.honours_cma is None:
        return (
            0,
            f"whether kernels of this architecture have CMA for crashkernel={_shown(text)} is not known",
        )
    if not kernel.honours_cma:
        return (
            0,
            f"no CMA: a kernel of this version on this architecture has none for crashkernel={_shown(text)}",
        )
    size = 0
    try:
        # parse_crashkernel() ignores whether this last step succeeded: the number at the beginning counts.
        size, _ = _memory(text, 0)
        return parse(text).size, ""
    except CrashkernelError as error:
        return size, f"the kernel takes {size_text(size)} of CMA for it: {error.what}"


def explain(command_line: str, total_memory: int, kernel: CrashkernelSupport) -> tuple[str, ...]:
    """Return lines that say what will be reserved with that many bytes of memory, and why."""
    found = reservation(command_line, total_memory, kernel)
    if not found.size:
        return (f"nothing will be reserved: {found.why_nothing}", *found.notes)
    return (*_explain(found, total_memory, kernel), *found.notes)


def _explain(found: Reservation, total_memory: int, kernel: CrashkernelSupport) -> Iterator[str]:
    amount = f"{size_text(found.size)} ({found.size:#x} bytes)"
    total = align_up(total_memory, TOTAL_ROUNDED_TO)
    if found.clause and found.clause.form is Form.RANGES:
        match = next(each for each in found.clause.ranges if each.matches(total))
        end = "" if match.end is None else size_text(match.end)
        yield f"{size_text(total)} of memory is in the range {size_text(match.start)}-{end}: {amount}"
    else:
        yield f"crashkernel={_shown(found.text)} decides: {amount}"
    if found.offset:
        yield f"exactly at {found.offset:#x}, or not at all"
    elif found.above_4g:
        yield "above 4G; if there is no room, below"
    elif kernel.falls_back_high:
        yield "below 4G; if there is no room, above"
    elif kernel.falls_back_high is None:
        yield "where it comes to lie is not known for this architecture"
    elif kernel.is_backport:
        yield "below 4G; if there is no room, a distribution's kernel, such as this one, may go above"
    else:
        yield "below 4G, or not at all"
    if found.low_size and not found.offset:
        yield f"if it comes to lie above 4G, {size_text(found.low_size)} below as well, for devices' DMA"
    elif not found.low_size and found.above_4g:
        yield "nothing below 4G, unless it comes to lie there itself"
    if found.cma_size:
        yield f"and {size_text(found.cma_size)} of CMA, which the running kernel uses until it crashes"
