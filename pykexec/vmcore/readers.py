"""Tell which programs can read a dump: by the dump's contents and the versions installed here."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pykexec import names
from pykexec.kdump import makedumpfile, programs
from pykexec.kdump.makedumpfile import Effect, Fit, Kernel, Program
from pykexec.kdump.packages import DPKG_STATUS, debian_version
from pykexec.vmcore.dump import Dump
from pykexec.vmcore.errors import DumpError

_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs that are installed; None for one that is not."""

    makedumpfile: Program | None
    crash: tuple[int, ...] | None
    """Its version; empty where that is not known."""
    arch: str
    """The architecture whose dumps they read: each is built for one."""

    @classmethod
    def installed(cls) -> "Tools":
        """Return those of the running system."""
        return cls(makedumpfile.installed(), _crash_installed(), names.name_of_uname(os.uname().machine))


@dataclass(frozen=True, slots=True)
class Reader:
    """Whether a program can read a dump."""

    can_read: bool | None
    """None: not known."""
    version: str | None
    """The version that is installed here."""
    problems: tuple[str, ...] = ()
    """Why it cannot, why that is not known, or what else matters."""


def _crash_installed() -> tuple[int, ...] | None:
    path = programs.find("crash")
    return None if path is None else _packaged_crash() or _asked(str(path))


def _packaged_crash() -> tuple[int, ...]:
    try:
        status = Path("/", DPKG_STATUS).read_text("utf-8", "replace")
    except OSError:
        return ()
    return _numbers(debian_version(status, "crash") or "", r"(?:\d+:)?")


def _asked(path: str) -> tuple[int, ...]:
    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return _numbers(done.stdout.decode("ascii", "replace"), r"\s*crash ")


def _numbers(text: str, before: str) -> tuple[int, ...]:
    """Return the version after `before` at the beginning of a text; empty where there is none."""
    found = re.match(rf"{before}(\d{{1,4}}(?:\.\d{{1,4}}){{2}})", text)
    return tuple(map(int, found[1].split("."))) if found else ()


def readers(dump: Dump, tools: Tools, damage: Sequence[str] = ()) -> dict[str, Reader]:
    """Return whether makedumpfile and crash can read the dump; `damage` is what is wrong with it."""
    info = dump.vmcoreinfo
    kernel = Kernel(dump.arch, info.release or dump.contents.release or "", info.lines)
    doubts = ["the dump is damaged"] if damage else []
    if tools.arch != dump.arch:
        doubts.append(f"what is installed here reads dumps of {tools.arch or 'another architecture'}")
    elif dump.part.needed_lines is None:
        doubts.append(f"what it needs in a dump of {dump.arch} is not known here")
    return {
        "makedumpfile": _makedumpfile(dump, tools.makedumpfile, kernel, doubts),
        "crash": _crash(dump, tools.crash, kernel, doubts),
    }


# makedumpfile


_FOR_ALL = ("OSRELEASE", "PAGESIZE", "SYMBOL(swapper_pg_dir)", "SYMBOL(_stext)")
_FOR_PAGES = (
    "SIZE(page)",
    "OFFSET(page.flags)",
    "OFFSET(page.mapping)",
    "OFFSET(page.lru)",
    "OFFSET(page._mapcount)",
    "NUMBER(PG_lru)",
)
_MEMORY_MODELS = ("SYMBOL(mem_section)", "SYMBOL(mem_map)", "SYMBOL(contig_page_data)", "SYMBOL(node_data)")


def _makedumpfile(dump: Dump, program: Program | None, kernel: Kernel, doubts: Sequence[str]) -> Reader:
    found = makedumpfile.fit(program, kernel)
    shown = None if program is None else program.shown
    unread, unsure = (
        [str(each) for each in needs if each.effect is Effect.UNREADABLE]
        for needs in (found.missing, found.undecided)
    )
    problems = (*_unreadable_by_makedumpfile(dump), *unread)
    if problems:
        return Reader(False, shown, (*problems, *unsure))
    doubts = (*doubts, *_makedumpfile_doubts(found), *unsure)
    if doubts:
        return Reader(None, shown, doubts)
    return Reader(True, shown, tuple(f"with -d 2 and more it goes wrong: {each}" for each in found.missing))


def _makedumpfile_doubts(found: Fit) -> Iterator[str]:
    if found.program is None:
        yield "it is not installed here"
    if found.kernel.version > makedumpfile.NEWEST_KERNEL or found.kernel.version == (0, 0):
        yield f"Linux {found.kernel.release} is not known here"


def _unreadable_by_makedumpfile(dump: Dump) -> Iterator[str]:
    """Yield why no makedumpfile can read it."""
    info = dump.vmcoreinfo
    if dump.contents.format.endswith("flattened"):
        yield "it is flattened: rearrange it first (makedumpfile -R DUMP < FLATTENED)"
    if dump.contents.is_part:
        yield "it is one part of a split dump: put it together first (makedumpfile --reassemble)"
    if not info:
        yield "there is no VMCOREINFO"
        return
    for name in (*_FOR_ALL, *(dump.part.needed_lines or ())):
        if name not in info.lines:
            yield f"VMCOREINFO lacks {name}"
    problem = dump.part.unreadable_by_makedumpfile and dump.part.unreadable_by_makedumpfile(info)
    if problem:
        yield problem
    if not any(name in info.lines for name in _MEMORY_MODELS):
        yield f"VMCOREINFO has none of {', '.join(_MEMORY_MODELS)}"
    yield from _lost(dump)
    # Linux 5.17 and 6.x keep renaming these. If only some are missing, makedumpfile saves more pages than it
    # has to.
    if not any(name in info.lines for name in _FOR_PAGES):
        yield "VMCOREINFO says nothing about struct page, so no pages can be left out"


def _lost(dump: Dump) -> Iterator[str]:
    """Yield which memory that both programs read first is missing."""
    for name in ("init_uts_ns", "swapper_pg_dir"):
        address = dump.vmcoreinfo.symbol(name)
        if address is not None:
            try:
                dump.read_virtual(address, 1)
            except DumpError as error:
                yield f"{name} cannot be read: {error.what}"


# crash


_CRASH_NEEDS = (
    # (kernel, the last crash that fails, commit, what changed)
    ((6, 4), (8, 0, 3), "7750e61", "module_layout became module_memory: it does not start"),
    ((7, 1), (9, 0, 2), "fa55e12", "compound_head of struct page became compound_info"),
)
"""The kernels with which crash fails, from crash's history."""
_KNOWS: Mapping[tuple[int, ...], tuple[int, int]] = MappingProxyType(
    {
        (8, 0, 0): (5, 15), (8, 0, 1): (5, 17), (8, 0, 2): (6, 1), (8, 0, 3): (6, 3), (8, 0, 4): (6, 6),
        (8, 0, 5): (6, 8), (8, 0, 6): (6, 12), (9, 0, 0): (6, 14), (9, 0, 1): (6, 17), (9, 0, 2): (7, 0),
    }
)  # fmt: skip
"""crash's releases, and the newest kernel at the time of each. A later kernel may change what crash reads
without VMCOREINFO."""


def _crash(dump: Dump, version: tuple[int, ...] | None, kernel: Kernel, doubts: Sequence[str]) -> Reader:
    shown = ".".join(map(str, version)) if version else None
    problems = tuple(_unreadable_by_crash(dump))
    needs = tuple(_crash_needs(kernel))
    if problems or (version and any(version <= last for last, _ in needs)):
        lacking = (text for last, text in needs if version and version <= last)
        return Reader(False, shown, (*problems, *lacking))
    doubts = (*doubts, *_crash_doubts(kernel, version))
    if doubts:
        texts = (text for last, text in needs if not version)
        return Reader(None, shown, (*doubts, *texts))
    return Reader(True, shown)


def _crash_needs(kernel: Kernel) -> Iterator[tuple[tuple[int, ...], str]]:
    for since, last, commit, what in _CRASH_NEEDS:
        concerned = kernel.version >= since
        if since == (7, 1) and kernel.vmcoreinfo:
            concerned = "OFFSET(page.compound_info)" in kernel.vmcoreinfo
        if concerned:
            newer = ".".join(map(str, last))
            yield (
                last,
                f"Linux {since[0]}.{since[1]}: {what}: takes crash newer than {newer} (commit {commit})",
            )


def _crash_doubts(kernel: Kernel, version: tuple[int, ...] | None) -> Iterator[str]:
    if version is None:
        yield "it is not installed here"
        return
    known = max((newest for release, newest in _KNOWS.items() if release <= version), default=(0, 0))
    if not version:
        yield "its version is not known"
    elif not (0, 0) < kernel.version <= known:
        yield f"it is older than Linux {kernel.release}"


def _unreadable_by_crash(dump: Dump) -> Iterator[str]:
    """Yield why no crash can read it."""
    info = dump.vmcoreinfo
    if dump.contents.is_part:
        yield "it is one part of a split dump: give it all of them"
    if not info:
        yield "there is no VMCOREINFO, so it takes options for all that it cannot guess"
        return
    if info.page_size is None:
        yield "VMCOREINFO lacks PAGESIZE"
    yield from _lost(dump)
    for name in dump.part.needed_lines or ():
        if name not in info.lines:
            yield f"VMCOREINFO lacks {name}"
    problem = dump.part.unreadable_by_crash and dump.part.unreadable_by_crash(info)
    if problem:
        yield problem
