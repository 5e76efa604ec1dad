"""The doctor's checks that depend on the architecture, for x86_64 and i386 alike."""

from __future__ import annotations

from pykexec.arch.x86.kdump import finds_boot_cpu
from pykexec.kdump.doctor.capture import parameters_of
from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Judgement, fine, unknown, wrong
from pykexec.kdump.doctor.kernel import built_relocatable
from pykexec.kdump.doctor.part import always_fine


def _boot_cpu(facts: Facts) -> Judgement:
    if facts.capture_words is None:
        return unknown(facts.unconfigured)
    if finds_boot_cpu(facts.capture_release):
        return fine(f"Linux {facts.capture_release} finds the boot CPU out by itself")
    cpus = parameters_of(facts, ["nr_cpus", "maxcpus"])
    if cpus and cpus[-1].endswith("=1"):
        return fine(cpus[-1])
    told = parameters_of(facts, ["disable_cpu_apicid"])
    if told:
        return fine(*told)
    return wrong(
        "the capture kernel uses several CPUs; starting the boot CPU from another one resets the machine",
        cpus[-1] if cpus else "no nr_cpus=",
        remedy="append nr_cpus=1, or disable_cpu_apicid= with the boot CPU's initial apicid (/proc/cpuinfo)",
    )


CHECKS = {
    "B7": _boot_cpu,
    "B8": always_fine("this is no AWS Graviton"),
    "B17": always_fine("no GIC: this is no Arm machine"),
    "P12": built_relocatable,
}
CONSOLE = "ttyS0,115200"
