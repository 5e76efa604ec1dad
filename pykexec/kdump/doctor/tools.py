"""Checks of the configuration, and of the tools it names."""

from __future__ import annotations

from pykexec.errors import PykexecError
from pykexec.kdump import makedumpfile, programs
from pykexec.kdump.doctor import commands
from pykexec.kdump.doctor.capture import ended_with
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Check, Judgement, Stage, fine, said, unknown, wrong
from pykexec.kdump.makedumpfile import Effect, Fit, Program
from pykexec.kdump.packages import DPKG_STATUS, debian_version


def _configuration(facts: Facts) -> Judgement:
    error, settings = facts.config_error, facts.settings
    if error is not None:
        return wrong(
            "the configuration cannot be understood", *said(error), remedy="correct what is named there"
        )
    if settings is None:
        return unknown("there is no /etc/kdump.conf, /etc/sysconfig/kdump or /etc/default/kdump-tools")
    return fine(*settings.files)


def _no_warnings(facts: Facts) -> Judgement:
    if facts.settings is None:
        return unknown(facts.unconfigured)
    warnings = (*facts.settings.warnings, *_notes_on_the_line(facts))
    if warnings:
        return wrong(
            "the configuration says something else than it may seem",
            *warnings,
            remedy="correct or remove these lines",
        )
    return fine(*facts.settings.files)


def _notes_on_the_line(facts: Facts) -> tuple[str, ...]:
    try:
        return facts.capture_line.notes if facts.capture_line else ()
    except PykexecError:  # the checks of the command line report that
        return ()


def _collector(facts: Facts) -> Judgement:
    if facts.settings is None:
        return unknown(facts.unconfigured)
    program = facts.settings.collector.program
    if not program:
        return fine(f"a command of its own: {facts.settings.collector.command[:200]}")
    if not facts.places.are_known:
        return unknown("programs are not in a snapshot")
    found = next((path for path in programs.places(program) if facts.places.size(path) is not None), None)
    if found:
        return fine(found)
    package = program.rpartition("/")[2]
    which = f" (package {package})" if commands.is_package(package) else ""
    return wrong(
        "the program that is to write the dump is not installed",
        program,
        remedy=f"install it{which} and rebuild the capture initramfs",
        command=commands.install(facts, package),
    )


_DEFAULT_LEVEL = 31  # every distribution's configuration starts with it


def _version(facts: Facts) -> Judgement:
    found = ended_with(facts, "S8")
    if found is not None:
        return found
    level = facts.settings.collector.dump_level if facts.settings else _DEFAULT_LEVEL
    if level is None:
        return fine("the dump is written by another program")
    pair = makedumpfile_fit(facts)
    if pair.program is None:
        return unknown("makedumpfile's version is not known: neither the program nor a package is here")
    shown = f"makedumpfile {pair.program.shown}"
    needs = [str(each) for each in pair.matters(level)]
    worst = pair.worst(level)
    if worst is None and pair.is_safe(level):
        return fine(shown)
    if worst is None:
        return unknown(f"whether {shown} knows Linux {facts.release} is not known")
    if worst.effect is Effect.GROWS:
        return fine(shown, f"advice: {worst.effect.value}; a newer one leaves them out", *needs)
    return wrong(
        f"makedumpfile is too old for this kernel: {worst.effect.value}",
        shown,
        f"Linux {facts.release}",
        *needs,
        "a distribution may have taken a commit over: its changelog says so",
        remedy=_REMEDIES[worst.effect],
        command=commands.install(facts, "makedumpfile"),
    )


_REMEDIES = {
    Effect.LOST: "install a newer makedumpfile; until then leave out pages of zeros only (-d 1), as"
    " pykdump start does by itself",
    Effect.UNREADABLE: "install a newer makedumpfile; until then dump with another program (cp), as"
    " pykdump start does by itself",
}


def makedumpfile_fit(facts: Facts) -> Fit:
    """Return what is known about the machine's makedumpfile and its kernel."""
    program = _by_program(facts) or _by_package(facts)
    return makedumpfile.fit(program, makedumpfile.running(facts.machine))


def _by_program(facts: Facts) -> Program | None:
    named = facts.settings.collector.program if facts.settings else ""
    for path in programs.places(named if "/" in named else "makedumpfile"):
        size = facts.places.size(path)
        if size is not None and 0 < size <= makedumpfile.PROGRAM_MAX and facts.places.can_be_read:
            found = makedumpfile.program_in(bytes(facts.places.open(path, "program").data))
            if found:
                return found
    return None


def _by_package(facts: Facts) -> Program | None:
    version = debian_version(facts.text(DPKG_STATUS) or "", "makedumpfile")
    return None if version is None else makedumpfile.packaged(version)


CHECKS = (
    Check(
        "V1",
        Stage.TOOLS,
        "the configuration can be understood",
        _configuration,
        looks_at="The configuration's files: /etc/kdump.conf, /etc/sysconfig/kdump, or"
        " /etc/default/kdump-tools.",
        matters="A configuration that is not understood is not guessed at: nothing new is loaded.",
        mend="Correct the line that is named. Where there is none, pykdump setup writes one.",
    ),
    Check(
        "V2",
        Stage.TOOLS,
        "the configuration says what it seems to",
        _no_warnings,
        looks_at="Lines of the configuration that have another effect than they seem to, or none.",
        matters="A dump that goes elsewhere, or has other contents, is noticed only after the crash.",
        mend="Correct or remove these lines.",
    ),
    Check(
        "V3",
        Stage.TOOLS,
        "the collector is installed",
        _collector,
        looks_at="The program that the configuration names to write the dump.",
        matters="Without it in the image nothing is saved.",
        mend="Install its package, then load again: pykdump start.",
    ),
    Check(
        "S8",
        Stage.TOOLS,
        "makedumpfile is new enough for the kernel",
        _version,
        looks_at="makedumpfile's version, the kernel's, and a crash's console log.",
        matters="makedumpfile reads the kernel's own structures: a newer kernel's it may misread, and then"
        " lose pages.",
        mend="Install a newer makedumpfile. pykdump start takes a safe dump level until then.",
    ),
)
