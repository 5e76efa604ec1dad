"""Estimate how much memory to reserve for a crash kernel: a sum of terms, each with its reason.

The terms are those of the models that distributions use (kdumpctl estimate, openSUSE's calibrate). They are
on the safe side, as capture kernels showed that were booted with less and less memory until they ran out of
it: a missing dump costs more than memory that is reserved in vain.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pykexec.booting.devicememory import SWIOTLB_DEFAULT
from pykexec.errors import UsageError
from pykexec.kdump.part import Fedora, part_of
from pykexec.kdump.reservation import crashkernel
from pykexec.kdump.reservation.crashkernel import size_text
from pykexec.kdump.reservation.support import support
from pykexec.machine import PAGE_SIZES
from pykexec.memory import KIB, MIB, align_up
from pykexec.terminal import WIDTH, folded

SCHEMA = 1
"""The version of the JSON form."""

# The terms' numbers

_STRUCT_PAGE = 64  # include/linux/mm_types.h: its size in all 64-bit configurations
_SECTION = 128 * MIB  # the memory map covers whole sections; most architectures' are no larger

_RUNNING_KERNEL = {4 * KIB: 20 * MIB, 16 * KIB: 40 * MIB, 64 * KIB: 100 * MIB}
"""Slabs, page tables, threads and per-node data, by page size. They grow with the pages: a difference of 82
MiB between pages of 4 and of 64 KiB was measured for kdump-utils."""
_PER_CPU = 512 * KIB  # per-CPU areas, idle and kernel threads' stacks, per-CPU lists
_PROGRAMS = 24 * MIB  # init, udev, shell, makedumpfile itself; kdumpctl takes 16 MiB, systemd needs more
_OWN_PROGRAMS = 6 * MIB  # shell, makedumpfile; their code is in the image's contents
_TRACEFS = 8 * MIB  # of what a running kernel takes: inodes and dentries of tracefs, before Linux 6.9
_NETWORK = 16 * MIB  # ssh or NFS, and the network's configuration
_BITMAP_MAX = 32 * MIB  # makedumpfile splits the work into cycles where two bitmaps would take more
_PER_THREAD = 2 * MIB  # --num-threads: page buffers and compression work space of each
_INODE = 1 * KIB  # a tmpfs inode, its dentry, and the directory entry
_SMALL = 2 * MIB  # purgatory, boot parameters, page tables, ELF core headers

_MARGIN_PERCENT = 25
_MARGIN_LEAST = 16 * MIB
_ROUND = 16 * MIB
# What is in our own image is known; what was measured with it lay below the sum by itself.
_OWN_MARGIN_PERCENT = 10
_OWN_MARGIN_LEAST = 4 * MIB
_OWN_ROUND = 4 * MIB

TMPFS_PERCENT = 50
"""The percentage of memory that a tmpfs without size= may fill (mm/shmem.c)."""
DRIVERS_UNKNOWN = 24 * MIB


def for_pages(measured: Mapping[int, int], page_size: int) -> int:
    """Return what was measured with pages of that size in bytes.

    That is the value of the next larger pages where that size was not measured, of the largest at most.
    """
    return measured[min((size for size in measured if size >= page_size), default=max(measured))]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The memory that an initramfs takes; sizes are in bytes."""

    size: int
    """The size of the file, which stays in memory until it is unpacked."""
    contents: int
    """The size of the files in it, in whole pages."""
    entries: int
    modules: Mapping[str, int] | None = None
    """The sizes of its modules' files by name, where it is pykdump's own; None: another's."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a rehearsal of a capture kernel and its image has measured."""

    size: int
    """The bytes that they needed."""
    date: str
    """When that was."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of an estimate; sizes are in bytes."""

    arch: str
    """Our name of the architecture."""
    total_memory: int
    """The memory of the machine that is dumped."""
    kernel: int
    """The memory that the capture kernel's image takes when it runs, and to unpack itself."""
    initrd: Unpacked
    page_size: int = 4 * KIB
    cpus: int = 1
    """The number of CPUs that the capture kernel uses."""
    drivers: int = DRIVERS_UNKNOWN
    """The code of modules and the buffers of devices."""
    drivers_why: str = "a guess: what is loaded is not known"
    hungry: int = 0
    """The part of these for devices that take much, and that no rehearsal has."""
    threads: int = 0
    """makedumpfile's --num-threads."""
    network: bool = False
    """Whether the dump goes over the network."""
    luks: int = 0
    """The memory that unlocking the target takes, by its key slot."""
    encrypted_memory: bool = False
    """Whether SME or SEV is active."""
    swiotlb: int = 0
    """The memory that the capture kernel reserves for DMA, for any reason but encrypted memory."""
    cma: int = 0
    """The memory that the capture kernel sets aside for devices; the kernel itself cannot use it."""
    tmpfs_percent: int = TMPFS_PERCENT
    """The percentage of its memory that the capture kernel lets the initramfs fill."""
    unpacking: int = 0
    """The part of the kernel's memory that is free again when it runs."""
    tracefs: bool = True
    """Whether the capture kernel takes as much as one that makes all files of tracefs."""
    left_out: tuple[str, ...] = ()
    """Parts that were not given and are not in the sum."""
    not_known: tuple[str, ...] = ()
    """Parts that are not known for this architecture and are not in the sum."""
    measured: Measured | None = None
    """What takes the place of the model, but for what only this machine has."""


@dataclass(frozen=True, slots=True)
class Term:
    """A part of the sum."""

    name: str
    size: int
    why: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The reservation that a distribution would make on that machine."""

    name: str
    text: str
    """The value of crashkernel=."""
    size: int
    """The bytes it reserves; 0: nothing."""
    enough: bool
    """Whether it covers the need, even if without a margin."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of how much to reserve, with its reasons."""

    inputs: Inputs
    terms: tuple[Term, ...]
    needed: int
    """The sum of the terms."""
    recommended: int
    """The sum with a margin, rounded up."""
    comparisons: tuple[Comparison, ...] = ()

    @property
    def measured(self) -> str:
        """What a rehearsal has measured, for people; empty where nothing was."""
        found = self.inputs.measured
        if found is None:
            return ""
        size, margin = -(-found.size // MIB), size_text(self.recommended)
        return f"measured by a rehearsal on {found.date}: {size}M, with margin {margin}"

    @property
    def clause(self) -> crashkernel.Clause:
        """The crashkernel= to boot with."""
        return crashkernel.Clause(crashkernel.Form.SIMPLE, self.recommended)

    @property
    def parameter(self) -> str:
        """Its value as the kernel reads it."""
        return crashkernel.render(self.clause)


def estimate(inputs: Inputs) -> Estimate:
    """Add up what a capture kernel needs. Raises UsageError for sizes that make no sense."""
    _require_sense(inputs)
    reserved = 0
    while True:
        # The memory map is part of what it describes. It grows so slowly that this loop soon ends.
        terms = tuple(_terms(inputs, reserved))
        needed = sum(term.size for term in terms)
        recommended = _with_margin(needed, is_own=inputs.initrd.modules is not None)
        if recommended <= reserved:
            break
        reserved = recommended
    comparisons = tuple(_compare(inputs, needed))
    return Estimate(inputs, terms, needed, recommended, comparisons)


def _with_margin(needed: int, *, is_own: bool) -> int:
    percent, least, unit = _MARGIN_PERCENT, _MARGIN_LEAST, _ROUND
    if is_own:
        percent, least, unit = _OWN_MARGIN_PERCENT, _OWN_MARGIN_LEAST, _OWN_ROUND
    return align_up(needed + max(needed * percent // 100, least), unit)


def _require_sense(inputs: Inputs) -> None:
    if inputs.page_size not in PAGE_SIZES:
        raise UsageError(
            f"no page size: {inputs.page_size}", hint="it is a power of two from 4096 to 262144"
        )
    if not 0 < inputs.cpus <= 1 << 16 or not 0 <= inputs.threads <= 1 << 16:
        raise UsageError(f"no number of CPUs or threads: {inputs.cpus}, {inputs.threads}")
    if not 0 < inputs.tmpfs_percent <= 100:
        raise UsageError(f"a tmpfs cannot take {inputs.tmpfs_percent} % of memory")
    initrd = (inputs.initrd.size, inputs.initrd.contents, inputs.initrd.entries)
    sizes = (
        inputs.total_memory,
        inputs.kernel,
        *initrd,
        inputs.drivers,
        inputs.luks,
        inputs.cma,
        inputs.swiotlb,
    )
    if any(size < 0 or size >> 60 for size in sizes):
        raise UsageError("a size is negative, or more than 1 EiB")


def _measured_terms(inputs: Inputs, measured: Measured) -> Iterator[Term]:
    """Yield what was measured, and what a rehearsal's machine has less of than this one."""
    yield Term("measured", measured.size, f"by a rehearsal on {measured.date}: all but what follows")
    yield Term("bitmaps", _bitmaps(inputs), "makedumpfile's, for all of this machine's memory")
    if inputs.hungry:
        yield Term("devices", inputs.hungry, "those that take much memory, and that no rehearsal has")
    if inputs.encrypted_memory:
        yield Term("swiotlb", max(SWIOTLB_DEFAULT, inputs.swiotlb), "DMA with SME or SEV goes through it")


def _terms(inputs: Inputs, reserved: int) -> Iterator[Term]:
    if inputs.measured is not None:
        yield from _measured_terms(inputs, inputs.measured)
        return
    is_own = inputs.initrd.modules is not None
    running = for_pages(_RUNNING_KERNEL, inputs.page_size) - (0 if inputs.tracefs else _TRACEFS)
    programs = _OWN_PROGRAMS if is_own else _PROGRAMS
    later = running + inputs.drivers + programs if is_own else 0
    yield from _fixed_terms(inputs, reserved, later)
    files = inputs.initrd.contents + inputs.initrd.entries * _INODE
    yield Term("initrd", inputs.initrd.size, "the file, until it is unpacked")
    yield Term("its contents", files, f"{inputs.initrd.entries} files in memory, and their inodes")
    yield Term("running kernel", running, "slabs, page tables, threads")
    yield Term("CPUs", inputs.cpus * _PER_CPU, f"per-CPU data of {inputs.cpus}")
    yield Term("drivers", inputs.drivers, inputs.drivers_why)
    yield Term("programs", programs, f"init, {'' if is_own else 'udev, '}shell, makedumpfile")
    yield Term(
        "bitmaps", _bitmaps(inputs), f"makedumpfile's, for {size_text(inputs.total_memory)} of memory"
    )
    if inputs.threads:
        yield Term("threads", inputs.threads * _PER_THREAD, f"makedumpfile --num-threads={inputs.threads}")
    if inputs.network:
        yield Term("network", _NETWORK, "the dump goes to another machine")
    if inputs.luks:
        yield Term("LUKS", inputs.luks, "unlocking the target takes this much by design")
    if inputs.encrypted_memory:
        size = max(SWIOTLB_DEFAULT, inputs.swiotlb)
        yield Term("swiotlb", size, "DMA with SME or SEV goes through it")
    elif inputs.swiotlb:
        yield Term("swiotlb", inputs.swiotlb, "for DMA; swiotlb=noforce on its command line saves it")
    if inputs.cma:
        yield Term("CMA", inputs.cma, "set aside for devices; cma=0 on its command line saves it")
    # The unpacked files must fit into the share of memory that a tmpfs may fill.
    available = files * 100 // inputs.tmpfs_percent
    rest = inputs.initrd.size + running + inputs.drivers + programs
    if available > files + rest:
        yield Term(
            "tmpfs limit",
            available - files - rest,
            f"its contents may take {inputs.tmpfs_percent} % of memory only",
        )


def _fixed_terms(inputs: Inputs, reserved: int, later: int) -> Iterator[Term]:
    """Yield what is there from the start. `later`: the bytes that nothing takes before the kernel runs."""
    reused = min(inputs.unpacking, later)
    what = "needs to unpack itself" if not reused else "needs to unpack itself beyond what is used again"
    yield Term("kernel", inputs.kernel - reused, f"its image, and what it {what}")
    section_size = part_of(inputs.arch).section_size
    section = section_size(inputs.page_size) if section_size else _SECTION
    pages = align_up(reserved, section) // inputs.page_size
    yield Term("memory map", pages * _STRUCT_PAGE, f"a struct page for each of {pages} pages")
    yield Term("loader", _SMALL, "purgatory, boot parameters, ELF core headers")


def _bitmaps(inputs: Inputs) -> int:
    """Return the bytes of two bits for each page, up to the limit."""
    return min(inputs.total_memory // inputs.page_size // 4, _BITMAP_MAX)


# Whether the reservation is enough


class Answer(enum.Enum):
    """The answer to whether the memory that is reserved is enough."""

    ENOUGH = "enough"
    JUST_ENOUGH = "enough, with less of a margin than recommended"
    TOO_LITTLE = "too little"
    NOTHING = "nothing is reserved"
    UNKNOWN = "cannot tell: this kernel does not say how much is reserved"


@dataclass(frozen=True, slots=True)
class Verdict:
    """That answer for a machine."""

    answer: Answer
    reserved: int | None
    """The bytes that are reserved in one piece; None: not known."""
    needed: int
    clause: crashkernel.Clause
    """The crashkernel= to boot with."""

    @property
    def is_enough(self) -> bool:
        return self.answer in (Answer.ENOUGH, Answer.JUST_ENOUGH)

    @property
    def parameter(self) -> str:
        """The parameter to boot with, as on a command line."""
        return f"{crashkernel.PARAMETER}{crashkernel.render(self.clause)}"

    def __str__(self) -> str:
        text = self.answer.value
        if self.reserved:
            text += f": {size_text(self.reserved)} are reserved, {-(-self.needed // MIB)}M are needed"
        if self.answer is Answer.ENOUGH:
            return text
        return f"{text}; boot with {self.parameter} (pykdump setup)"


def judge(result: Estimate, reserved: int | None, clause: crashkernel.Clause) -> Verdict:
    """Return the verdict on a reservation of that many bytes in one piece; None where that is not known."""
    if reserved is None:
        answer = Answer.UNKNOWN
    elif not reserved:
        answer = Answer.NOTHING
    elif reserved < result.needed:
        answer = Answer.TOO_LITTLE
    else:
        answer = Answer.ENOUGH if reserved >= result.recommended else Answer.JUST_ENOUGH
    return Verdict(answer, reserved, result.needed, clause)


# What distributions reserve


@dataclass(frozen=True, slots=True)
class Default:
    """A crashkernel= that a distribution sets by default."""

    name: str
    text: str


def defaults(inputs: Inputs) -> tuple[Default, ...]:
    """Return what distributions set on such a machine (kdump-utils of 2026, Debian 12, Fedora CoreOS)."""
    found = []
    fedora = part_of(inputs.arch).fedora
    if fedora is not None and fedora.crashkernel is not None:
        found.append(Default("Fedora, RHEL", _plus(fedora.crashkernel, _more_of(fedora, inputs))))
    found.append(Default("Debian", "384M-:128M"))
    found.append(Default("Fedora CoreOS", "300M"))
    return tuple(found)


def _more_of(fedora: Fedora, inputs: Inputs) -> int:
    more = fedora.more_for_encryption if inputs.encrypted_memory else 0
    return more + (fedora.more_for_large_pages if inputs.page_size == 64 * KIB else 0)


def _plus(text: str, delta: int) -> str:
    clause = crashkernel.parse(text)
    ranges = tuple(crashkernel.SizeRange(each.start, each.end, each.size + delta) for each in clause.ranges)
    return crashkernel.render(crashkernel.Clause(clause.form, ranges=ranges))


def _compare(inputs: Inputs, needed: int) -> Iterator[Comparison]:
    for default in defaults(inputs):
        found = crashkernel.reservation(
            f"crashkernel={default.text}", max(inputs.total_memory, 1), support(inputs.arch)
        )
        yield Comparison(default.name, default.text, found.size, found.size >= needed)


# Reports


def as_text(result: Estimate, verdict: Verdict, columns: int = WIDTH) -> str:
    """Return the verdict, the table of terms, their sum, and what distributions would reserve."""
    lines = [line for text in _sentences(result) for line in folded(text, columns)]
    return "\n".join([*folded(str(verdict), columns), *_table(result, verdict, columns), *lines]) + "\n"


def _table(result: Estimate, verdict: Verdict, columns: int) -> Iterator[str]:
    width = max(len(term.name) for term in result.terms)
    for term in result.terms:
        yield from folded(term.why, columns, first=f"  {term.name:<{width}}  {_mib(term.size)}  ")
    yield f"  {'needed':<{width}}  {_mib(result.needed)}"
    yield f"  {'recommended':<{width}}  {_mib(result.recommended)}  {verdict.parameter}"


def _sentences(result: Estimate) -> Iterator[str]:
    if result.measured:
        yield result.measured
    for part in result.inputs.left_out:
        yield f"not counted, as it was not given: {part}"
    for part in result.inputs.not_known:
        yield f"not counted, as it is not known for {result.inputs.arch}: {part}"
    for each in result.comparisons:
        what = f"{each.name} would reserve" if each.size else f"{each.name} would reserve nothing"
        if not each.size:
            yield f"{what} on a machine with so little memory (crashkernel={each.text})"
        else:
            yield f"{what} {_mib(each.size).strip()} (crashkernel={each.text}): {_verdict(each, result)}"


def _verdict(compared: Comparison, result: Estimate) -> str:
    if compared.size >= result.recommended:
        return "enough"
    return "just enough, with less of a margin" if compared.enough else "too little"


def _mib(size: int) -> str:
    return f"{size / MIB:>8.1f} MiB"


def as_json(result: Estimate, verdict: Verdict) -> str:
    """Return one JSON object; sizes are in bytes."""
    content = {
        "schema": SCHEMA,
        "verdict": verdict.answer.name.lower(),
        "reserved": verdict.reserved,
        "terms": [{"name": each.name, "size": each.size, "why": each.why} for each in result.terms],
        "needed": result.needed,
        "recommended": result.recommended,
        "crashkernel": crashkernel.render(verdict.clause),
        "left_out": [*result.inputs.left_out, *result.inputs.not_known],
        "defaults": [
            {"name": each.name, "crashkernel": each.text, "size": each.size, "enough": each.enough}
            for each in result.comparisons
        ],
    }
    return json.dumps(content, indent=2) + "\n"
