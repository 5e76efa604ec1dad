"""Checks of what is loaded: whether something is, whether it is up to date, and what a test has shown."""

from __future__ import annotations

import hashlib

from pykexec.errors import FileError
from pykexec.kdump.config.settings import Dialect, TargetKind
from pykexec.kdump.doctor import commands
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Check, Judgement, Stage, fine, unknown, wrong
from pykexec.kdump.doctor.shell import run
from pykexec.kdump.files import STATE


def _loaded(facts: Facts) -> Judgement:
    loaded = facts.machine.kexec_state.crash_loaded
    if loaded is None:
        return unknown("no /sys/kernel/kexec_crash_loaded")
    if loaded:
        return fine("kexec_crash_loaded = 1")
    return wrong(
        "no crash kernel is loaded: a crash would leave nothing",
        "kexec_crash_loaded = 0",
        remedy="start the kdump service, or load one: pykexec -p KERNEL --initrd=INITRD --reuse-cmdline",
        command=commands.START,
    )


def _enabled(facts: Facts) -> Judgement:
    if facts.settings is None:
        return unknown(facts.unconfigured)
    if facts.settings.enabled:
        return fine(f"{', '.join(facts.settings.files)}: enabled")
    return wrong(
        "the kdump service is switched off",
        f"{facts.settings.files[0]}: USE_KDUMP is not 1",
        remedy="set USE_KDUMP=1 and start the service",
        command=run("sed", "-i", "s/^USE_KDUMP=.*/USE_KDUMP=1/", facts.settings.files[0]).then(
            commands.START
        ),
    )


def _no_reboot_image(facts: Facts) -> Judgement:
    loaded = facts.machine.kexec_state.loaded
    if loaded is None:
        return unknown("no /sys/kernel/kexec_loaded")
    if not loaded:
        return fine("kexec_loaded = 0")
    return wrong(
        "a kernel is loaded for the next reboot: systemctl reboot will start it instead of the firmware",
        "kexec_loaded = 1",
        remedy="if that is not meant: pykexec -u",
        command=run("pykexec", "-u"),
    )


def _is_on_disk(facts: Facts) -> Judgement:
    """Judge by pykdump's receipt whether files have changed: the kernel does not tell what is loaded."""
    if not facts.machine.kexec_state.crash_loaded:
        return unknown("nothing is loaded")
    receipt = facts.loaded
    if receipt is None:
        return unknown("what is loaded was not loaded by pykdump: there is no receipt of it")
    if not facts.places.can_be_read:
        return unknown("files of the machine are not in a snapshot")
    digests = ((receipt.kernel, receipt.kernel_sha256), (receipt.initrd, receipt.initrd_sha256))
    changed = [f"{path} is not what was loaded" for path, digest in digests if _differs(facts, path, digest)]
    if facts.capture_line is not None and facts.capture_line.text != receipt.command_line:
        changed.append("the configuration makes another command line")
    if not changed:
        return fine(f"{receipt.kernel} and {receipt.initrd}, loaded {receipt.time}")
    return wrong(
        "what is loaded is not what the configuration and the files say now",
        *changed,
        remedy="load again: pykdump reload",
        command=run("pykdump", "reload"),
    )


def _differs(facts: Facts, path: str, digest: str) -> bool:
    if not digest:
        return False
    if facts.places.size(path) is None:
        return True
    return hashlib.sha256(facts.places.open(path, "file").data).hexdigest() != digest


def _failed_test(facts: Facts) -> str:
    """Return the test of an earlier boot that left no dump, where dumps can be looked at; "" for none."""
    from pykexec.kdump.service import dumps, trial

    settings, state = facts.settings, facts.places.at(str(trial.PENDING))
    begun = trial.pending(state) if state is not None else None
    if begun is None or settings is None or settings.target.kind is not TargetKind.LOCAL:
        return ""
    folder = facts.places.at(settings.path)
    try:
        found = dumps.in_folder(folder, log_alone=not settings.save_dump) if folder else ()
    except FileError:
        return ""
    if begun[0].judge(facts.boot, found) is not trial.Outcome.FAILED:
        return ""
    return f"the test of {begun[0].time}: no dump in {settings.path} has its marker"


def _is_proven(facts: Facts) -> Judgement:
    failed = _failed_test(facts)
    if failed:
        return wrong(
            "the last pykdump test left no whole dump",
            failed,
            remedy="find out at which stage it stopped: pykdump doctor --console-log FILE; then test again",
        )
    if not facts.machine.kexec_state.crash_loaded:
        return unknown("nothing is loaded")
    if facts.loaded is None:
        return unknown("what is loaded was not loaded by pykdump")
    if facts.proven is None:
        return unknown("no pykdump test has passed yet")
    if facts.proven.proves(facts.loaded):
        return fine(f"a test with the same kernel, initrd and command line passed ({facts.proven.time})")
    return unknown("kernel, initrd or command line changed since the last pykdump test that passed")


def _is_rehearsed(facts: Facts) -> Judgement:
    if not facts.machine.kexec_state.crash_loaded:
        return unknown("nothing is loaded")
    if facts.loaded is None:
        return unknown("what is loaded was not loaded by pykdump")
    if facts.settings is None:
        return unknown(facts.unconfigured)
    last = facts.rehearsals.running
    if last is None:
        return unknown("no rehearsal of this kernel's crash has been made")
    if last.changed:
        return unknown(f"changed since the rehearsal of {last.rehearsed.date}: {', '.join(last.changed)}")
    if last.shows_dump:
        return fine(f"the rehearsal of {last.rehearsed.date} left a dump")
    failure = f"the rehearsal of {last.rehearsed.date}: {last.rehearsed.failure}"
    if facts.proven is not None and facts.proven.proves(facts.loaded):
        return unknown(f"a test has left a dump of it (L19), but not {failure}")
    return wrong("a rehearsal of what is loaded left no dump", failure, remedy=_REHEARSE)


_REHEARSE = "mend that; then rehearse again: pykdump rehearse"


def _newer_are_rehearsed(facts: Facts) -> Judgement:
    if facts.settings is None:
        return unknown(facts.unconfigured)
    newest = next(iter(facts.rehearsals.newer), None)
    if newest is None:
        return unknown("no rehearsal has been made of a newer kernel that is installed")
    then = newest.rehearsed
    told = f"{then.first_kernel}, rehearsed on {then.date}"
    if newest.changed:
        return unknown(f"changed since the rehearsal of {then.first_kernel}: {', '.join(newest.changed)}")
    if newest.shows_dump:
        return fine(told)
    return wrong(
        "a crash of the newest kernel, which the next boot may start, will leave no dump",
        f"{told}: {then.failure}",
        remedy=f"{_REHEARSE} --kernel FILE",
    )


def _initrd_is_new(facts: Facts) -> Judgement:
    if not facts.places.are_known:
        return unknown("files of the machine are not in a snapshot")
    path = facts.initrd_path
    if path is None or facts.places.size(path) is None:
        if facts.config_error is not None:
            return unknown(facts.unconfigured)
        wanted = facts.settings.initrd if facts.settings else ""
        return wrong(
            "there is no capture initramfs",
            wanted or "none of the usual places has one",
            remedy=f"build it: {commands.ways(facts, *_BUILDERS) or 'pykdump start'}",
            command=commands.START,
        )
    if path.startswith(f"{STATE}/"):
        return fine(f"{path} is made anew by pykdump start when what it is made of has changed")
    built = facts.places.modified(path) or 0
    # Debian's capture system is the ordinary one, which reads the configuration when it runs.
    built_in = facts.settings is not None and facts.settings.dialect is not Dialect.DEBIAN
    sources = [*(facts.settings.files if facts.settings and built_in else ()), facts.kernel_path or ""]
    newer = [source for source in sources if source and (facts.places.modified(source) or 0) > built]
    if not newer:
        return fine(f"{path} is newer than what it is made of")
    return wrong(
        "the capture initramfs is older than what it is made of",
        f"{path} is older than {', '.join(newer)}",
        remedy=f"build it again: {commands.ways(facts, *_BUILDERS[1:]) or 'with what has built it'}",
    )


_BUILDERS = ("pykdump start", "kdumpctl rebuild", "mkdumprd -f", "kdump-config symlinks VERSION")


CHECKS = (
    Check(
        "L14",
        Stage.LOAD,
        "the capture initramfs is there and up to date",
        _initrd_is_new,
        looks_at="The capture image, and the times of the files that it is made of.",
        matters="Without an image nothing saves the dump; an old one has old modules, or another target.",
        mend="pykdump start makes its own when that is needed. Build a distribution's with its tool"
        " (kdumpctl rebuild).",
    ),
    Check(
        "L15",
        Stage.LOAD,
        "what is loaded is what is on disk",
        _is_on_disk,
        looks_at="pykdump's receipt of the load, and files and configuration as they are now.",
        matters="The kernel keeps what it was given: a change counts only after another load.",
        mend="pykdump reload loads again where something has changed.",
    ),
    Check(
        "L16",
        Stage.LOAD,
        "no kernel is loaded for a reboot",
        _no_reboot_image,
        looks_at="/sys/kernel/kexec_loaded.",
        matters="systemctl reboot starts such a kernel, and does not go through the firmware.",
        mend="If that is not meant, forget it: pykexec -u.",
    ),
    Check(
        "L17",
        Stage.LOAD,
        "a crash kernel is loaded",
        _loaded,
        looks_at="/sys/kernel/kexec_crash_loaded.",
        matters="Without a crash kernel a panic stops or resets the machine, and leaves nothing.",
        mend="pykdump start loads one; for one at each boot: systemctl enable --now pykdump.",
    ),
    Check(
        "L18",
        Stage.LOAD,
        "kdump is switched on",
        _enabled,
        looks_at="USE_KDUMP in the configuration.",
        matters="A service that is switched off loads nothing.",
        mend="Set USE_KDUMP=1, and start the service.",
    ),
    Check(
        "L19",
        Stage.LOAD,
        "a test has proven what is loaded",
        _is_proven,
        looks_at="The receipts of what is loaded and of the last pykdump test, and the dumps that are"
        " there.",
        matters="Drivers, target and network of the capture system are used only after a crash: only a"
        " crash proves them.",
        mend="pykdump test crashes the machine; pykdump status tells after the next boot what came of it.",
    ),
    Check(
        "L20",
        Stage.LOAD,
        "a rehearsal of what is loaded left a dump",
        _is_rehearsed,
        looks_at="The receipts of what is loaded and of the last rehearsal of the running kernel's crash.",
        matters="A rehearsal crashes this kernel in QEMU: what fails there will hardly work here.",
        mend="Mend what the rehearsal names, and rehearse again.",
    ),
    Check(
        "L21",
        Stage.LOAD,
        "a rehearsal of the newest kernel left a dump",
        _newer_are_rehearsed,
        looks_at="The receipts of rehearsals of kernels that are newer than the running one.",
        matters="After the next boot that kernel, or its modules, may be why there is no dump.",
        mend="Mend what the rehearsal names, or boot the kernel that runs now until that is mended.",
    ),
)
