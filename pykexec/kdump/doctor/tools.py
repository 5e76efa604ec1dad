"""The configuration, and the tools it names."""

from __future__ import annotations

import re

from pykexec.errors import PykexecError
from pykexec.kdump.doctor import commands
from pykexec.kdump.doctor.capture import ended_with
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Check, Judgement, Stage, fine, said, unknown, wrong
from pykexec.memory import KIB


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
    except PykexecError:  # of which the checks of the command line tell
        return ()


_BIN_FOLDERS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin")


def _collector(facts: Facts) -> Judgement:
    if facts.settings is None:
        return unknown(facts.unconfigured)
    program = facts.settings.collector.program
    if not program:
        return fine(f"a command of its own: {facts.settings.collector.command[:200]}")
    if not facts.places.are_known:
        return unknown("programs are not in a snapshot")
    paths = [program] if "/" in program else [f"{folder}/{program}" for folder in _BIN_FOLDERS]
    found = next((path for path in paths if facts.places.size(path) is not None), None)
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


# Seen: it ends with "PAGE SIZE 0x1000 and VA Bits 52 not supported" for Debian's arm64 kernels 6.12 and 7.2.
_NEWEST_WITHOUT_52_BITS = (1, 7, 2)


def _version(facts: Facts) -> Judgement:
    found = ended_with(facts, "S8")
    if found is not None:
        return found
    version = _installed(facts)
    if version is None:
        return unknown("makedumpfile's version is not known: neither the program nor a package is here")
    shown = f"makedumpfile {'.'.join(map(str, version))}"
    wide = (
        facts.machine.kcore.vmcoreinfo.get("NUMBER(VA_BITS)") == "52" if facts.arch == "aarch64" else False
    )
    if wide and facts.machine.page_size < 64 * KIB and version <= _NEWEST_WITHOUT_52_BITS:
        return wrong(
            "makedumpfile is too old for kernels with 52 bits of virtual addresses and small pages",
            shown,
            f"Linux {facts.release}",
            remedy="install a newer makedumpfile, or dump with another program (cp)",
            command=commands.install(facts, "makedumpfile"),
        )
    return fine(shown)


def _installed(facts: Facts) -> tuple[int, ...] | None:
    return _by_program(facts) or _by_package(facts)


_SAYS_VERSION = re.compile(rb"makedumpfile: version (\d+(?:\.\d+){1,3})")  # print_info.c
_PROGRAM_MAX = 32 << 20


def _by_program(facts: Facts) -> tuple[int, ...] | None:
    for path in (f"{folder}/makedumpfile" for folder in _BIN_FOLDERS):
        size = facts.places.size(path)
        if size is not None and 0 < size <= _PROGRAM_MAX and facts.places.can_be_read:
            found = _SAYS_VERSION.search(facts.places.open(path, "program").data)
            if found:
                return tuple(map(int, found[1].split(b".")))
    return None


def _by_package(facts: Facts) -> tuple[int, ...] | None:
    status = facts.text("var/lib/dpkg/status") or ""
    at = re.search(r"^Package: makedumpfile$", status, re.M)
    if at is None:
        return None
    entry = status[at.start() : at.start() + 4000].partition("\n\n")[0]
    version = re.search(r"^Version: (?:\d+:)?(\d+(?:\.\d+){1,3})", entry, re.M)
    if version is None or "\nStatus: install ok installed" not in entry:
        return None
    return tuple(int(part) for part in version[1].split("."))


CHECKS = (
    Check("V1", Stage.TOOLS, "the configuration can be understood", _configuration),
    Check("V2", Stage.TOOLS, "the configuration says what it seems to", _no_warnings),
    Check("V3", Stage.TOOLS, "the collector is installed", _collector),
    Check("S8", Stage.TOOLS, "makedumpfile is new enough for the kernel", _version),
)
