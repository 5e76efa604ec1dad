"""Checks of the crash kernel's memory: asked for, reserved, and enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pykexec.booting.crash import cma_ranges
from pykexec.errors import PykexecError
from pykexec.kdump.doctor import commands
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Check, Judgement, Stage, fine, unknown, wrong
from pykexec.kdump.doctor.shell import NO_COMMAND, Command
from pykexec.kdump.reservation import bootfiles, crashkernel
from pykexec.kdump.reservation.crashkernel import Clause, Form, size_text
from pykexec.kdump.reservation.estimate import for_pages
from pykexec.kdump.reservation.sizing import MLX5, SMMU_64K
from pykexec.memory import GIB, KIB, MIB, Range


def _asked_for(facts: Facts) -> Judgement:
    found = crashkernel.values(facts.machine.command_line)
    if found or any(word.startswith("fadump=") for word in facts.words):
        return fine(*(f"crashkernel={text}" for text in found))
    return _not_asked_for(facts, "no memory was asked for", "no crashkernel= in /proc/cmdline")


def _not_asked_for(facts: Facts, cause: str, evidence: str) -> Judgement:
    wanted = _usual(facts)
    what = parameter(wanted) if wanted else "a crashkernel="
    return wrong(
        cause,
        evidence,
        remedy=f"put {what} on the kernel's command line (pykdump estimate says how much) and reboot",
        command=_set_up(facts, wanted) if wanted else NO_COMMAND,
    )


def _set_up(facts: Facts, wanted: Clause) -> Command:
    """Return the command that has setup reserve memory, or one that does so without an estimate."""
    try:
        _ = facts.estimate
    except PykexecError:  # for which setup does nothing
        return commands.reserve(facts, wanted)
    return commands.SET_UP


def _reserved(facts: Facts) -> Judgement:
    size = facts.crash_size
    if size >= crashkernel.SMALLEST:
        regions = ", ".join(map(str, facts.machine.crash_regions))
        return fine(f"{size_text(size)} ({regions or 'where is not known'})")
    expected = facts.expected
    if not crashkernel.values(facts.machine.command_line):
        return _not_asked_for(facts, "nothing is reserved", "the kernel reserved 0 bytes")
    if size or 0 < expected.size < crashkernel.SMALLEST:
        why = "crashkernel= has no unit" if expected.size % 1024 else "that is too little for any kernel"
        return _replaced(facts, f"{size} bytes are reserved: {why}", f"crashkernel={expected.text}")
    if expected.why_nothing:
        given = f"crashkernel={expected.text}" if expected.text else facts.machine.command_line
        return _replaced(facts, f"nothing is reserved: {expected.why_nothing}", given)
    line = facts.log_line(_RESERVATION_FAILED)
    higher = effective(facts, Clause(Form.HIGH, expected.size))
    return wrong(
        f"nothing is reserved: the kernel found no place for the {size_text(expected.size)} asked for",
        *([line] if line else []),
        *expected.notes,
        remedy=f"ask for less, or above 4G: {parameter(higher)} alone" if higher else "ask for less",
        command=commands.reserve(facts, higher) if higher else NO_COMMAND,
    )


def _replaced(facts: Facts, cause: str, evidence: str) -> Judgement:
    """Return the judgement that crashkernel= has to be replaced."""
    wanted = _usual(facts)
    return wrong(
        cause,
        evidence,
        remedy=f"write {parameter(wanted)} instead, and reboot" if wanted else "correct it, and reboot",
        command=commands.reserve(facts, wanted) if wanted else NO_COMMAND,
    )


def _usual(facts: Facts) -> Clause | None:
    """Return what is needed, or else what is usual; None where it is not known, or would have no effect."""
    try:
        size = facts.estimate.recommended if facts.estimate else _default(facts)
    except PykexecError:  # a damaged kernel file must not hide that nothing is reserved
        size = _default(facts)
    return None if size is None else effective(facts, Clause(Form.SIMPLE, size))


def parameter(clause: Clause) -> str:
    """Return the clause as it is written on a command line."""
    return f"{crashkernel.PARAMETER}{crashkernel.render(clause)}"


def effective(facts: Facts, clause: Clause) -> Clause | None:
    """Return the clause, if a machine booted with it alone would reserve what it asks for.

    None if it would not, or that is not known.
    """
    try:
        found = crashkernel.reservation(parameter(clause), facts.total_memory, facts.support)
    except PykexecError:
        return None
    return clause if found.size and not found.notes else None


def with_low(facts: Facts, size: int) -> str:
    """Return parameters for a main part and that much below 4G; "" where the kernel knows none."""
    main = facts.expected.size or (facts.estimate.recommended if facts.estimate else _default(facts))
    high = None if main is None else effective(facts, Clause(Form.HIGH, main))
    return f"{parameter(high)} {parameter(Clause(Form.LOW, size))}" if high else ""


# kernel/crash_reserve.c, and before 6.7 arch/x86/kernel/setup.c and arch/arm64/mm/init.c
_RESERVATION_FAILED = (
    r"cannot allocate crashkernel|crashkernel reservation failed|crashkernel: |Cannot reserve.*crashkernel"
)
_LOW_FAILED = r"cannot allocate crashkernel low memory|Cannot reserve .*crashkernel low memory"
_IN_USE = r"crashkernel reservation failed - memory is in use|crashkernel reservation failed.*overlap"


def _not_auto(facts: Facts) -> Judgement:
    if facts.expected.text != "auto":
        return fine("no crashkernel=auto decides")
    if facts.crash_size:
        return fine(f"this kernel understands crashkernel=auto: {size_text(facts.crash_size)} are reserved")
    return _replaced(
        facts,
        "crashkernel=auto is understood by RHEL 8 and older only",
        "crashkernel=auto in /proc/cmdline, the one that decides",
    )


def _low_part(facts: Facts) -> Judgement:
    regions = facts.machine.crash_regions
    below_4g = Range(0, 4 * GIB)
    if not regions:
        return unknown("nothing is reserved")
    if not facts.part.has_low_memory:
        return unknown(facts.no_low_memory)
    if not facts.machine.iomem.system_ram.intersect([below_4g]):
        return fine("there is no memory below 4G")
    low = [region for region in regions if region.overlaps(below_4g)]
    if low:
        return fine(f"reserved below 4G: {', '.join(map(str, low))}")
    line = facts.log_line(_LOW_FAILED)
    if line is None and not facts.expected.low_size:
        line = f"no SIZE,low beside crashkernel={facts.expected.text}"
    more = with_low(facts, _LOW)
    remedy = "if that fails now and then, ask for less, or boot with nokaslr"
    return wrong(
        "no memory below 4G is reserved: devices that need it for DMA will not work in the capture kernel",
        *([line] if line else []),
        remedy=f"reserve with {more} instead; {remedy}"
        if more
        else "reserve less, so that it fits below 4G",
    )


_LOW = 128 * MIB  # include/linux/crash_reserve.h: the default of most kernels


def _offset(facts: Facts) -> Judgement:
    clause = facts.expected.clause
    if not facts.expected.offset and "@" not in facts.expected.text:
        return fine("no fixed place was asked for")
    if facts.crash_size:
        return fine("the fixed place was free")
    if facts.expected.why_nothing:  # R2 reports that
        return unknown(f"the kernel did not look for it: {facts.expected.why_nothing}")
    anywhere = effective(facts, replace(clause, offset=None)) if clause else None
    return wrong(
        "the place that was asked for is in use",
        facts.log_line(_IN_USE) or f"crashkernel={facts.expected.text}",
        remedy="leave out the @OFFSET: the kernel finds a place by itself",
        command=commands.reserve(facts, anywhere) if anywhere else NO_COMMAND,
    )


def _not_shrunk(facts: Facts) -> Judgement:
    region, expected = _main(facts), facts.expected.size
    if region is None:
        return unknown("nothing is reserved")
    if region.size >= expected:
        return fine(f"{size_text(region.size)} are reserved")
    return wrong(
        "the reservation was made smaller after the boot",
        f"{size_text(region.size)} left of {size_text(expected)}",
        remedy="find what writes to /sys/kernel/kexec_crash_size (KDUMP_AUTO_RESIZE), and reboot",
        command=commands.REBOOT,
    )


def _boot_configuration(facts: Facts) -> Judgement:
    configured = dict(bootfiles.configured(facts.machine.root))
    if not configured:
        return unknown("no boot loader's configuration with crashkernel= is known")
    running = set(crashkernel.values(facts.machine.command_line))
    if running & {value for values in configured.values() for value in values} or not any(
        configured.values()
    ):
        return fine(
            *(f"/{path}: crashkernel={' crashkernel='.join(values)}" for path, values in configured.items())
        )
    path, values = next(iter(configured.items()))
    makers = commands.ways(facts, *_MENU_MAKERS)
    return wrong(
        "the boot loader is configured for another reservation than the one in force",
        f"/{path}: crashkernel={values[0]}",
        "running: " + (", ".join(sorted(running)) or "no crashkernel="),
        remedy=f"bring the boot loader's menu up to date{f' ({makers})' if makers else ''}, and reboot",
    )


_MENU_MAKERS = (
    "update-grub",
    "grub-mkconfig",
    "grub2-mkconfig",
    "grubby",
    "kernel-install",
    "update-bootloader",
)


def _main(facts: Facts) -> Range | None:
    regions = facts.machine.crash_regions
    return max(regions, key=lambda region: region.size) if regions else None


def _enough(facts: Facts) -> Judgement:
    region, estimate = _main(facts), facts.estimate
    if region is None:
        return unknown("nothing is reserved")
    if estimate is None:
        return unknown("the kernel or the initramfs to be loaded is not known")
    evidence = f"{size_text(region.size)} are reserved, about {estimate.needed // MIB}M needed"
    if region.size >= estimate.needed:
        return fine(evidence)
    remedy, command = more(facts, estimate.recommended)
    largest = sorted(estimate.terms, key=lambda term: term.size, reverse=True)[:3]
    return wrong(
        "the reservation is smaller than what the capture kernel is likely to need",
        evidence,
        *(f"{term.name}: {term.size // MIB}M, {term.why}" for term in largest),
        remedy=remedy,
        command=command,
    )


def more(facts: Facts, size: int) -> tuple[str, Command]:
    """Return a remedy and its command: reserve that much where it is reserved now, above or below 4G."""
    form = Form.HIGH if facts.expected.above_4g else Form.SIMPLE
    wanted = effective(facts, Clause(form, size))
    if wanted is None:
        return "make it need less: a smaller initramfs, fewer CPUs (nr_cpus=1)", NO_COMMAND
    return f"reserve more: {parameter(wanted)}", commands.reserve(facts, wanted)


def _cma(facts: Facts) -> Judgement:
    ranges = cma_ranges(facts.machine)
    if not ranges:
        return fine("no CMA is part of the reservation")
    if facts.config_error is not None:
        return unknown(facts.unconfigured)
    level = facts.settings.collector.dump_level if facts.settings else None
    user_pages = 8  # makedumpfile(8), -d: user process data
    if level is not None and level & user_pages:
        return fine(f"the dump leaves out user pages (-d {level}), which is what may lie in the CMA")
    return wrong(
        "user pages in the CMA part of the reservation are overwritten, and the dump is to have them",
        f"crash_cma_ranges: {', '.join(map(str, ranges))}",
        f"makedumpfile's dump level: {level}",
        remedy="leave out user pages (-d 31), or reserve without ,cma",
    )


def _hardware(facts: Facts) -> Judgement:
    region = _main(facts)
    hungry = list(_hungry(facts))
    if not hungry:
        return fine("no hardware that is known to need more")
    if region is None:
        return unknown("nothing is reserved")
    plain = _default(facts)
    if plain is None:
        return unknown(f"what is usually reserved on {facts.arch} is not known")
    if region.size >= plain + sum(size for _, size in hungry):
        return fine(f"{size_text(region.size)} are reserved", *(name for name, _ in hungry))
    remedy, command = more(facts, plain + sum(size for _, size in hungry))
    return wrong(
        "this hardware needs more memory than a default reservation has",
        f"{size_text(region.size)} are reserved",
        *(f"{name}: {size_text(size)} more" for name, size in hungry),
        remedy=remedy,
        command=command,
    )


def _hungry(facts: Facts) -> Iterator[tuple[str, int]]:
    page, fedora = facts.machine.page_size, facts.part.fedora
    if page == 64 * KIB:
        if fedora is not None and fedora.more_for_large_pages:
            yield "pages of 64 KiB", fedora.more_for_large_pages
        if any(name.startswith("arm-smmu-") for name in facts.machine.root.names("sys/devices/platform")):
            yield "an SMMU with pages of 64 KiB", SMMU_64K
    if "mlx5_core" in (facts.modules or ()):
        yield "mlx5_core", for_pages(MLX5, page)
    if fedora is not None and facts.part.encryption and facts.log_line(facts.part.encryption):
        yield "AMD memory encryption", fedora.more_for_encryption


def _default(facts: Facts) -> int | None:
    """Return what Fedora reserves on such a machine without hungry devices; None where that is not known."""
    fedora = facts.part.fedora
    if fedora is None or fedora.crashkernel is None:
        return None
    return crashkernel.reservation(
        f"crashkernel={fedora.crashkernel}", max(facts.total_memory, 2 * GIB), facts.support
    ).size


def _cma_known(facts: Facts) -> Judgement:
    values = crashkernel.values(facts.machine.command_line)
    asked = [value for value in values if value.endswith(",cma")]
    if not asked:
        return fine("no SIZE,cma")
    if facts.expected.cma_size:
        return fine(f"crashkernel={asked[-1]} is understood")
    why = facts.expected.why_nothing or next((note for note in facts.expected.notes if "CMA" in note), "")
    return wrong(
        f"crashkernel={asked[-1]} does not work here: {why}",
        f"Linux {facts.release}",
        remedy="take the ,cma parameter away, and reboot",
    )


def _only_one(facts: Facts) -> Judgement:
    """Judge whether all crashkernel= count: a later one replaces those before, also a distribution's own.

    That does harm where less is reserved than a replaced one asks for, or nothing of its kind.
    """
    line = facts.machine.command_line
    texts, counting = crashkernel.values(line), crashkernel.counting(line, facts.support)
    lost = [text for text in dict.fromkeys(texts) if text not in counting]
    if not counting or not any(_is_missed(facts, text) for text in lost):
        return fine(
            *(f"crashkernel={text}" for text in texts),
            *(f"crashkernel={text} has no effect, and is not missed" for text in lost if counting),
        )
    return wrong(
        "there are several crashkernel= on the command line, and not all count",
        *(f"crashkernel={text} has no effect: crashkernel={counting[0]} decides" for text in lost),
        remedy="leave only the one that is meant",
    )


def _is_missed(facts: Facts, text: str) -> bool:
    """Return whether a crashkernel= without effect asks for more than there is."""
    if text.endswith((",low", ",cma")):
        return True
    alone = crashkernel.reservation(f"{crashkernel.PARAMETER}{text}", facts.total_memory, facts.support)
    return alone.size > max(facts.crash_size, facts.expected.size)


CHECKS = (
    Check(
        "R1",
        Stage.RESERVATION,
        "memory was asked for",
        _asked_for,
        looks_at="The running kernel's command line (/proc/cmdline).",
        matters="The capture kernel runs in memory that the running kernel sets aside when it boots;"
        " crashkernel= says how much.",
        mend="pykdump setup puts it into the boot loader's configuration (pykdump estimate says how much it"
        " takes). Then reboot.",
    ),
    Check(
        "R2",
        Stage.RESERVATION,
        "memory is reserved",
        _reserved,
        looks_at="/sys/kernel/kexec_crash_size, /proc/iomem, and the kernel's log of the boot.",
        matters="A crashkernel= that the kernel does not understand, or for which it finds no room,"
        " reserves nothing.",
        mend="Correct the parameter, ask for less, or ask for memory above 4G (SIZE,high). Then reboot.",
    ),
    Check(
        "R3",
        Stage.RESERVATION,
        "no crashkernel=auto",
        _not_auto,
        looks_at="The crashkernel= that decides.",
        matters="Only RHEL 8 and older know crashkernel=auto; other kernels reserve nothing for it.",
        mend="Write the size that pykdump estimate recommends, and reboot.",
    ),
    Check(
        "R4",
        Stage.RESERVATION,
        "there is memory for DMA below 4G",
        _low_part,
        looks_at="Where the reserved memory is (/proc/iomem), and the kernel's log.",
        matters="Some devices reach the first 4 GiB only: without memory there they do not work in the"
        " capture kernel.",
        mend="Reserve with SIZE,high and SIZE,low, or so little that it fits below 4G.",
    ),
    Check(
        "R5",
        Stage.RESERVATION,
        "a fixed place was free",
        _offset,
        looks_at="A crashkernel=SIZE@OFFSET, and whether anything is reserved.",
        matters="The kernel reserves nothing where something else is at that address.",
        mend="Leave out the @OFFSET: the kernel finds a place by itself.",
    ),
    Check(
        "R6",
        Stage.RESERVATION,
        "the reservation was not made smaller",
        _not_shrunk,
        looks_at="What crashkernel= asked for, and what is reserved now.",
        matters="The reservation can be made smaller while the machine runs, and only a reboot brings it"
        " back.",
        mend="Find what writes to /sys/kernel/kexec_crash_size (KDUMP_AUTO_RESIZE, pykdump resize), and"
        " reboot.",
    ),
    Check(
        "R7",
        Stage.RESERVATION,
        "the boot loader's configuration is in force",
        _boot_configuration,
        looks_at="The crashkernel= in the boot loader's files, and that of the running kernel.",
        matters="A change counts only once it is in the boot loader's menu and the machine has been booted"
        " again.",
        mend="Bring the menu up to date (update-grub, grub2-mkconfig, grubby, kernel-install), and reboot.",
    ),
    Check(
        "R8",
        Stage.RESERVATION,
        "the reservation is large enough",
        _enough,
        looks_at="What is reserved, and what kernel, image and machine are likely to need (pykdump"
        " estimate).",
        matters="A capture kernel that runs out of memory panics, or kills what saves the dump.",
        mend="Reserve what pykdump estimate recommends, or let it need less: a smaller image, nr_cpus=1.",
    ),
    Check(
        "R9",
        Stage.RESERVATION,
        "no CMA holds what is to be dumped",
        _cma,
        looks_at="/sys/kernel/kexec_crash_cma_ranges, and makedumpfile's dump level.",
        matters="The running kernel keeps pages of programs in that part of the reservation, and the"
        " capture kernel overwrites it.",
        mend="Leave user pages out of the dump (-d 31), or reserve without ,cma.",
    ),
    Check(
        "R10",
        Stage.RESERVATION,
        "hungry hardware was thought of",
        _hardware,
        looks_at="Page size, drivers and memory encryption that are known to take more than a default"
        " reservation has.",
        matters="Some take hundreds of MiB in the capture kernel, which then runs out of memory.",
        mend="Reserve as much more as the finding says.",
    ),
    Check(
        "R11",
        Stage.RESERVATION,
        "SIZE,cma is understood",
        _cma_known,
        looks_at="A crashkernel=SIZE,cma, and what the running kernel makes of it.",
        matters="Kernels that do not know it (before Linux 6.17) take it for a broken size, and may then"
        " reserve nothing.",
        mend="Take the ,cma parameter away, and reboot.",
    ),
    Check(
        "R12",
        Stage.RESERVATION,
        "every crashkernel= counts",
        _only_one,
        looks_at="All crashkernel= on the command line.",
        matters="Of several plain sizes only the last counts: one that a distribution's tool has appended"
        " may replace yours.",
        mend="Leave only the one that is meant, and reboot.",
    ),
)
