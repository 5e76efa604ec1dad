"""Which makedumpfile reads which kernel.

The table `NEEDS` comes from makedumpfile's own history: commits marked "Required for kernel", and fixes of a
fault that one release had. A kernel is judged by its VMCOREINFO and a program by the names in its file,
because distributions backport changes to both.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from pykexec import names
from pykexec.errors import FileError, MachineError
from pykexec.files import FileData
from pykexec.kdump import programs
from pykexec.kdump.config.settings import FLAGS, LEVEL_MAX, Collector
from pykexec.machine import Machine
from pykexec.machine.sysfs import read_text
from pykexec.memory import KIB
from pykexec.versions import of_release

PROGRAM_MAX = 32 << 20
"""The most bytes that are read of a program."""
NEWEST_KERNEL = (7, 2)
"""The newest kernel that the table covers: it cannot know about faults with newer ones."""

ZERO_PAGES = 1
CACHE, PRIVATE_CACHE, USER_DATA, FREE = 2, 4, 8, 16
"""The bits of makedumpfile's -d: pages that are left out (makedumpfile(8))."""


class Effect(enum.Enum):
    """What a makedumpfile that is too old does wrong; the worst comes first."""

    UNREADABLE = "no dump can be made"
    LOST = "pages that are needed are missing from the dump"
    GROWS = "pages that could be left out are in the dump"


@dataclass(frozen=True, slots=True)
class Kernel:
    """The facts that count about a kernel that will be dumped."""

    arch: str
    """Our name of the architecture (`pykexec.names`)."""
    release: str
    vmcoreinfo: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The lines NAME=VALUE of its VMCOREINFO; empty where that is not known."""
    has_unaccepted: bool = False
    """Whether a confidential machine has memory that it has not accepted yet."""

    @property
    def version(self) -> tuple[int, int]:
        return of_release(self.release) or (0, 0)


@dataclass(frozen=True, slots=True)
class Program:
    """A makedumpfile."""

    version: tuple[int, ...]
    """At least three numbers; none where it is not known."""
    shown: str
    """The version as the program, or its package, writes it."""
    is_release: bool
    """False for a build between two releases ("1.7.9++"), which may have commits of the next one."""
    content: bytes | None = field(default=None, repr=False, compare=False)
    """The bytes of its file; None where only the package is known."""


_LIMIT = b"Size limit(%llu) reached"
"""A message of programs that have -L, since 1.7.0 (commit f0cfa86)."""
_COMPRESSIONS: Mapping[str, str] = MappingProxyType({"c": "zlib", "l": "lzo", "p": "snappy", "z": "zstd"})
"""The kinds of compression by option; all but zlib are built in where somebody wanted that."""
_UNKNOWN = Program((), "of unknown version", is_release=False)


@dataclass(frozen=True, slots=True)
class Need:
    """A change of kernels that makedumpfile needs a commit for."""

    kernel: tuple[int, int]
    """The first release of Linux with the change."""
    version: tuple[int, ...]
    """The first release of makedumpfile with the commit."""
    commit: str
    """The commit in makedumpfile."""
    effect: Effect
    levels: int
    """The bits of -d with which an older makedumpfile goes wrong."""
    what: str
    """What changed in the kernel."""
    concerns: Callable[[Kernel], bool | None]
    """Return whether a kernel has the change; None where only its unknown VMCOREINFO could tell."""
    mark: bytes = b""
    """Bytes that are in the file of a program with the commit; empty where nothing shows it."""
    since: tuple[int, ...] = ()
    """The release of makedumpfile that brought the fault; empty: all older ones have it."""
    arch: str | None = None
    """The only architecture with the change, by our name and in either byte order; None: all have it."""

    @property
    def release(self) -> str:
        return ".".join(map(str, self.version))

    def __str__(self) -> str:
        kernel = ".".join(map(str, self.kernel))
        return f"Linux {kernel}: {self.what}: takes makedumpfile {self.release} (commit {self.commit})"


def _says(since: tuple[int, int], name: str) -> Callable[[Kernel], bool]:
    """Return a test whether VMCOREINFO has that name; the kernel's release decides where it is not known."""
    return lambda kernel: name in kernel.vmcoreinfo if kernel.vmcoreinfo else kernel.version >= since


def _number(kernel: Kernel, name: str) -> int | None:
    text = kernel.vmcoreinfo.get(name, "")
    return int(text) if re.fullmatch(r"-?\d{1,20}", text) else None


def _has_moved_name(kernel: Kernel) -> bool:
    if not kernel.vmcoreinfo:
        return kernel.version >= (5, 11)
    return _number(kernel, "OFFSET(uts_namespace.name)") == 0


def _has_typed_pages(kernel: Kernel) -> bool:
    """Return whether a page's type is a number in the top byte of _mapcount, no longer a cleared bit."""
    if not kernel.vmcoreinfo:
        return kernel.version >= (6, 12)
    value = _number(kernel, "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)")
    return value is not None and value & 0xFFFFFF == 0


def _has_unaccepted(kernel: Kernel) -> bool:
    name = "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)"
    return kernel.has_unaccepted and _says((6, 16), name)(kernel)


def _has_wide_addresses(kernel: Kernel) -> bool | None:
    if not kernel.vmcoreinfo:  # the configuration decides which of them it has
        return None if kernel.version >= (6, 9) else False
    page = _number(kernel, "PAGESIZE")
    return _number(kernel, "NUMBER(VA_BITS)") == 52 and page is not None and page != 64 * KIB


_COMPOUND = CACHE | PRIVATE_CACHE | USER_DATA
_FILTERS = _COMPOUND | FREE

NEEDS = (
    Need((5, 4), (1, 6, 9), "a0216b6", Effect.UNREADABLE, _FILTERS,
         "arm64's address space was turned round",
         lambda kernel: kernel.version >= (5, 4), b"NUMBER(TCR_EL1_T1SZ)", arch="arm64"),
    Need((5, 11), (1, 6, 9), "54aec38", Effect.UNREADABLE, _FILTERS,
         "the kernel's name is in another place of init_uts_ns",
         _has_moved_name, b"uts_namespace.name"),
    Need((6, 2), (1, 7, 3), "5f17bdd", Effect.LOST, USER_DATA,
         "pages of the slab allocator look like user data",
         lambda kernel: kernel.version >= (6, 2)),
    Need((6, 3), (1, 7, 3), "446c4f6", Effect.GROWS, _COMPOUND,
         "the order of compound pages moved to struct folio",
         _says((6, 3), "OFFSET(folio._folio_order)"), b"folio._folio_order"),
    Need((6, 6), (1, 7, 4), "9661c1d", Effect.GROWS, _COMPOUND,
         "the order of compound pages moved to a word of flags",
         _says((6, 6), "NUMBER(PG_hugetlb)"), b"NUMBER(PG_hugetlb)"),
    Need((6, 9), (1, 7, 6), "985e575", Effect.GROWS, _COMPOUND,
         "hugetlb became a type of page",
         _says((6, 9), "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)"), b"NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)"),
    Need((6, 10), (1, 7, 6), "bad2a7c", Effect.LOST, USER_DATA,
         "slab became a type of page",
         _says((6, 10), "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)"), b"NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)"),
    # 1.7.6 brought a test for slab pages that takes free pages for such.
    Need((6, 12), (1, 7, 7), "72c3414", Effect.GROWS, FREE,
         "the type of a page became a number",
         _has_typed_pages, since=(1, 7, 6)),
    # Of each piece of 2 MiB it reads the first 4 KiB only.
    Need((6, 8), (1, 8, 0), "863e2c4", Effect.LOST, _FILTERS,
         "riscv64 maps the memory map by pieces of 2 MiB",
         lambda kernel: kernel.version >= (6, 8), arch="riscv64"),
    Need((6, 16), (1, 7, 8), "c1a9301", Effect.GROWS, FREE,
         "memory that is not accepted yet became a type of page",
         _has_unaccepted, b"NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)"),
    Need((7, 1), (1, 8, 0), "f50c015", Effect.LOST, _FILTERS,
         "compound_head of struct page became compound_info",
         _says((7, 1), "OFFSET(page.compound_info)"), b"page.compound_info"),
    Need((6, 9), (1, 8, 0), "b7587f1", Effect.UNREADABLE, _FILTERS,
         "arm64 has virtual addresses of 52 bits with pages of 4 or 16 KiB",
         _has_wide_addresses, b"Can't read p4d", arch="arm64"),
)  # fmt: skip


# Programs


_SAYS_VERSION = re.compile(rb"makedumpfile: version (\d+(?:\.\d+){1,3})(\S*)")  # print_info.c
_PACKAGE_VERSION = re.compile(r"(?:\d+:)?(\d+(?:\.\d+){1,3})((?:\+(?:ds|dfsg)[\d.]*)?)([^-~]*)(?:-.*)?")


def program_in(content: bytes) -> Program | None:
    """Return the makedumpfile with that file content; None where it does not tell its version."""
    found = _SAYS_VERSION.search(content)
    if found is None:
        return None
    shown = b"".join(found.groups()).decode("ascii", "replace")
    return Program(_numbers(found[1].decode()), shown, not found[2], content)


def packaged(version: str) -> Program | None:
    """Return the makedumpfile of a Debian package of that version; None where that is not understood."""
    found = _PACKAGE_VERSION.fullmatch(version)
    return Program(_numbers(found[1]), version, not found[3]) if found else None


def installed(program: str = "makedumpfile") -> Program | None:
    """Return the running system's makedumpfile; None where it is not there."""
    path = programs.find(program)
    if path is None:
        return None
    try:
        content = FileData.open(path, "program").data[:PROGRAM_MAX]
    except FileError:
        return _UNKNOWN
    return program_in(bytes(content)) or _UNKNOWN


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, at least three: 1.7 is 1.7.0."""
    numbers = tuple(int(part) for part in text.split("."))
    return numbers + (0,) * (3 - len(numbers))


# Kernels


def running(machine: Machine) -> Kernel:
    """Return the facts about a machine's running kernel: the one that will have crashed."""
    try:
        lines: Mapping[str, str] = machine.kcore.vmcoreinfo
    except MachineError:
        lines = {}
    unaccepted = re.search(r"^Unaccepted: +[1-9]", read_text(machine.root, "proc/meminfo") or "", re.M)
    arch = names.name_of_uname(machine.uname_machine)
    return Kernel(arch, machine.kernel_release, lines, unaccepted is not None)


# Programs and kernels


@dataclass(frozen=True, slots=True)
class Fit:
    """What is known about a makedumpfile together with a kernel."""

    program: Program | None
    kernel: Kernel
    missing: tuple[Need, ...]
    """What the program lacks for this kernel."""
    undecided: tuple[Need, ...]
    """What the program may lack."""

    def matters(self, level: int) -> tuple[Need, ...]:
        """Return the missing needs that matter for a dump of that level (makedumpfile -d)."""
        return tuple(each for each in self.missing if _matters(each, level))

    def worst(self, level: int) -> Need | None:
        """Return the worst missing need, the newest of several; None where nothing is missing."""
        order = list(Effect)
        found = sorted(self.matters(level), key=lambda each: each.version, reverse=True)
        return min(found, key=lambda each: order.index(each.effect), default=None)

    def filters(self, level: int) -> int:
        """Return the bits of a level that leave out what they should."""
        for each in self.missing:
            level &= ~each.levels
        return level

    def is_safe(self, level: int) -> bool:
        """Return whether a dump of that level is known to have all that it should have."""
        doubts = (*self.missing, *self.undecided)
        if self.program is None or not self.program.version or any(_loses(each, level) for each in doubts):
            return False
        return level <= ZERO_PAGES or (0, 0) < self.kernel.version <= NEWEST_KERNEL


def _loses(need: Need, level: int) -> bool:
    return need.effect is not Effect.GROWS and _matters(need, level)


def _matters(need: Need, level: int) -> bool:
    return need.effect is Effect.UNREADABLE or need.levels & level != 0


def fit(program: Program | None, kernel: Kernel) -> Fit:
    """Return what the table says about a program and a kernel."""
    missing, undecided = [], []
    for need in NEEDS:
        concerned, lacks = _concerns(need, kernel), _lacks(program, need)
        if concerned and lacks:
            missing.append(need)
        elif concerned is not False and lacks is not False:
            undecided.append(need)
    return Fit(program, kernel, tuple(missing), tuple(undecided))


def _concerns(need: Need, kernel: Kernel) -> bool | None:
    if need.arch is not None and need.arch not in {each.name for each in names.of_either_order(kernel.arch)}:
        return False
    return need.concerns(kernel)


def here(machine: Machine, collector: Collector) -> Fit:
    """Return what the table says about the running system's collector and its kernel."""
    program = None if collector.dump_level is None else installed(collector.program)
    return fit(program, running(machine))


def _lacks(program: Program | None, need: Need) -> bool | None:
    """Return whether a program is without a commit; None where that cannot be told."""
    if program is None or not program.version:
        return None
    if program.version >= need.version or program.version < need.since:
        return False
    if need.mark and program.content is not None:  # a distribution may have backported the commit
        return need.mark not in program.content
    return True if program.is_release else None


# Consequences


def safe(collector: Collector, found: Fit) -> Collector:
    """Return a collector that loses nothing: the configured one where it fits, otherwise -d 1, or a copy.

    With -d 1 makedumpfile leaves pages out by their contents (create_2nd_bitmap()). Settings that are not
    known to go wrong stay as they are.
    """
    level = collector.dump_level
    if level is None:
        return collector
    collector = replace(collector, words=_with_compression(collector.words, found.program))
    need = found.worst(level)
    if need is not None and need.effect is Effect.UNREADABLE:
        return replace(collector, words=("cp",))
    if need is not None and need.effect is Effect.LOST:
        level = ZERO_PAGES
        collector = replace(collector, words=_with_level(collector.words, level))
    return replace(
        collector,
        is_known_to_fit=found.is_safe(level),
        has_limit=found.program is not None and _LIMIT in (found.program.content or b""),
        has_smaller=level != LEVEL_MAX and found.is_safe(LEVEL_MAX),
    )


def _with_level(words: tuple[str, ...], level: int) -> tuple[str, ...]:
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word == "-d":
            skip = True
        elif not re.match(r"-d\d", word):
            kept.append(word)
    return (*kept, "-d", str(level))  # the last -d counts, also after -ld 31


_FLAGS = re.compile(rf"-([{FLAGS}]*)(.*)")


def _with_compression(words: tuple[str, ...], program: Program | None) -> tuple[str, ...]:
    """Return words that ask for no compression that a program was built without: it would do none."""
    missing = {letter for letter in _COMPRESSIONS if _is_without(program, letter)}
    instead = str.maketrans(dict.fromkeys(missing, _best(program)))
    found = [_FLAGS.fullmatch(word) for word in words]
    return tuple(
        f"-{match[1].translate(instead)}{match[2]}" if match and match[1] else word
        for word, match in zip(words, found, strict=True)
    )


def _is_without(program: Program | None, letter: str) -> bool:
    """Return whether a program is known to be built without a kind of compression, as its -v says."""
    content = program.content if program else None
    return content is not None and f"{_COMPRESSIONS[letter]}\tdisabled\n".encode() in content


def _best(program: Program | None) -> str:
    return "c" if _is_without(program, "l") else "l"


def compression_warning(collector: Collector, found: Fit, *, own_image: bool = True) -> str | None:
    """Return the warning where the program cannot compress as configured; None: it can, or nobody can tell.

    `own_image`: whether the capture image will have the collector that `safe` returns.
    """
    if collector.dump_level is None or found.program is None:
        return None
    changed = _with_compression(collector.words, found.program)
    before, after = " ".join(collector.words), " ".join(changed)
    letters = [old for old, new in zip(before, after, strict=True) if old != new]
    if not letters:
        return None
    names = ", ".join(_COMPRESSIONS[letter] for letter in letters)
    best = _best(found.program)
    then = f"compressed with {_COMPRESSIONS[best]} instead (-{best})" if own_image else "not compressed"
    return f"makedumpfile {found.program.shown} was built without {names}: the dump is {then}"


def warning(collector: Collector, found: Fit, *, own_image: bool = True) -> str | None:
    """Return the warning where the configured collector and the kernel do not fit, or may not.

    `own_image`: whether the capture image will have the collector that `safe` returns. None: no warning.
    """
    level = collector.dump_level
    if level is None or found.program is None:  # making an image reports that
        return None
    program = f"makedumpfile {found.program.shown}"
    need = found.worst(level)
    if need is not None:
        what = (
            _CONSEQUENCES[need.effect] if own_image else f"where the image has that one, {need.effect.value}"
        )
        return f"{program} is too old for this kernel ({need}): {what}"
    if found.is_safe(level):
        return None
    why = next((f" ({each})" for each in found.undecided if _matters(each, level)), "")
    told = f"whether {program} knows Linux {found.kernel.release} cannot be told{why}"
    return f"{told}: {_DOUBT}" if own_image else told


_NEWER = "the next start with a newer makedumpfile makes it small again"
_CONSEQUENCES: Mapping[Effect, str] = MappingProxyType(
    {
        Effect.UNREADABLE: f"all of memory is copied instead; {_NEWER}",
        Effect.LOST: "pages that are needed would be missing, so only pages of zeros are left out (-d 1);"
        f" {_NEWER}",
        Effect.GROWS: "the dump has pages that could be left out, and may be much larger",
    }
)
_DOUBT = (
    "if it says in the capture system that it does not, all of memory is copied, too, where there is room"
)
