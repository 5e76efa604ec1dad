"""The doctor's checks that depend on the architecture, for riscv64."""

from __future__ import annotations

from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Judgement, fine, unknown
from pykexec.kdump.doctor.part import DoctorPart


def _relocatable(_: Facts) -> Judgement:
    return fine("riscv64 kernels run anywhere")  # Documentation/arch/riscv/boot.rst, "Kernel location"


def _boot_cpu(facts: Facts) -> Judgement:
    if facts.capture_words is None:
        return unknown(facts.unconfigured)
    return fine("the hart that crashed is the capture kernel's first, and no hart is a special one")


def _no_graviton(_: Facts) -> Judgement:
    return fine("this is no AWS Graviton")


def _no_its(_: Facts) -> Judgement:
    return fine("no GIC: this is no Arm machine")


PART = DoctorPart(
    checks={"B7": _boot_cpu, "B8": _no_graviton, "B17": _no_its, "P12": _relocatable}, console="ttyS0"
)
