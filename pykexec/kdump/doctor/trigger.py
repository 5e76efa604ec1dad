"""Checks of the trigger: whether a crash starts the capture kernel at all."""

from __future__ import annotations

from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Check, Judgement, Stage, fine, unknown, wrong
from pykexec.kdump.doctor.part import part_of
from pykexec.kdump.doctor.shell import run, write

_OTHER_TRIGGERS = ("softlockup_panic", "hardlockup_panic", "hung_task_panic", "unknown_nmi_panic")


def _oops(facts: Facts) -> Judgement:
    value = facts.sysctl("panic_on_oops")
    if value is None:
        return unknown("no /proc/sys/kernel/panic_on_oops")
    others = [
        f"kernel.{name} = {facts.sysctl(name)}" for name in _OTHER_TRIGGERS if facts.sysctl(name) is not None
    ]
    if value:
        return fine("kernel.panic_on_oops = 1", *others)
    return wrong(
        "an oops kills a process and leaves no dump",
        "kernel.panic_on_oops = 0",
        *others,
        remedy="kernel.panic_on_oops=1 in /etc/sysctl.d",
        command=write("/etc/sysctl.d/90-pykdump.conf", "kernel.panic_on_oops=1").then(
            run("sysctl", "--system")
        ),
    )


_SLOW_ENOUGH = 60  # seconds that most capture systems need before they save


def _watchdog(facts: Facts) -> Judgement:
    folder = "sys/class/watchdog"
    for name in facts.machine.root.names(folder):
        timeout = facts.number(f"{folder}/{name}/timeout")
        if (
            facts.text(f"{folder}/{name}/state") == "active"
            and timeout is not None
            and timeout < _SLOW_ENOUGH
        ):
            identity = facts.text(f"{folder}/{name}/identity") or name
            return wrong(
                "a hardware watchdog is running that may reset the machine before the dump is saved",
                f"/dev/{name} ({identity}): {timeout} s",
                remedy="take its driver along in the capture initramfs, or set a longer timeout",
            )
    return fine("no hardware watchdog with a short timeout is running")


def _notifiers(facts: Facts) -> Judgement:
    asked = [word for word in facts.words if word.replace("-", "_").startswith("crash_kexec_post_notifiers")]
    value = facts.text("sys/module/kernel/parameters/crash_kexec_post_notifiers")
    on = (
        value in ("Y", "1")
        if value is not None
        else any(not word.endswith(("=0", "=n", "=N")) for word in asked)
    )
    if not on:
        return fine("the crash kernel comes before the panic notifiers")
    return wrong(
        "panic notifiers run before the crash kernel is started: each may hang or reset the machine",
        *(asked or [f"crash_kexec_post_notifiers = {value}"]),
        remedy="take crash_kexec_post_notifiers away, unless pstore or a hypervisor's notifier needs it",
    )


def _cpus_stop(facts: Facts) -> Judgement:
    pattern = r"SMP: failed to stop secondary CPUs"  # arch/arm64/kernel/smp.c, arch/riscv/kernel/smp.c
    line = facts.console.find(pattern) if facts.console else None
    if facts.console is None:
        return unknown("no console log of a crash was given")
    if line is None:
        return fine("the console log shows no CPU that went on")
    return wrong(
        "some CPUs went on while the dump was taken: it may contradict itself, or be overwritten",
        line.text,
        remedy=part_of(facts.arch).stopping_cpus or "find out what keeps them from taking interrupts",
    )


def _panic_timeout(facts: Facts) -> Judgement:
    words = facts.capture_words
    if words is None:
        return unknown(facts.unconfigured)
    values = [word for word in words if word.startswith("panic=")]
    if values and values[-1] != "panic=0":
        return fine(values[-1])
    return wrong(
        "a capture kernel that panics hangs forever",
        f"{values[-1] if values else 'no panic='} on its command line",
        remedy="append panic=10 (KDUMP_COMMANDLINE_APPEND, KDUMP_CMDLINE_APPEND)",
    )


CHECKS = (
    Check(
        "T1",
        Stage.TRIGGER,
        "an oops leads to a dump",
        _oops,
        looks_at="The sysctl kernel.panic_on_oops, and those that turn other faults into a panic.",
        matters="An oops that only ends a process leaves no dump, and lets a damaged kernel go on.",
        mend="Set kernel.panic_on_oops=1 in /etc/sysctl.d.",
    ),
    Check(
        "T2",
        Stage.TRIGGER,
        "no watchdog gets in between",
        _watchdog,
        looks_at="The hardware watchdogs that run, and their timeouts.",
        matters="Unless the capture system keeps a watchdog quiet, it resets the machine before the dump is"
        " saved.",
        mend="pykdump's own image does so. Put the driver into another one, or set a longer timeout.",
    ),
    Check(
        "T3",
        Stage.TRIGGER,
        "nothing runs before the crash kernel",
        _notifiers,
        looks_at="crash_kexec_post_notifiers, on the command line and in /sys/module/kernel/parameters.",
        matters="With it all panic notifiers run before the capture kernel is started: each may hang or"
        " reset the machine.",
        mend="Take it away, unless pstore or a hypervisor's notifier needs it.",
    ),
    Check(
        "T4",
        Stage.TRIGGER,
        "all CPUs stopped",
        _cpus_stop,
        looks_at="A crash's console log, for CPUs that did not stop.",
        matters="They change memory while it is saved, and may overwrite the capture kernel.",
        mend="Find out what keeps them from taking interrupts.",
    ),
    Check(
        "T5",
        Stage.TRIGGER,
        "a capture kernel that panics reboots",
        _panic_timeout,
        looks_at="panic= on the capture kernel's command line.",
        matters="A capture kernel that panics hangs without it until somebody resets the machine.",
        mend="Append panic=10 (KDUMP_COMMANDLINE_APPEND, KDUMP_CMDLINE_APPEND).",
    ),
)
