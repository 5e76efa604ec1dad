"""The doctor's checks that depend on the architecture, for riscv64."""

from __future__ import annotations

from pykexec.kdump.doctor.facts import Facts
from pykexec.kdump.doctor.finding import Judgement, fine, unknown
from pykexec.kdump.doctor.part import DoctorPart, always_fine


def _boot_cpu(facts: Facts) -> Judgement:
    if facts.capture_words is None:
        return unknown(facts.unconfigured)
    return fine("the hart that crashed is the capture kernel's first, and no hart is a special one")


PART = DoctorPart(
    checks={
        "B7": _boot_cpu,
        "B8": always_fine("this is no AWS Graviton"),
        "B17": always_fine("no GIC: this is no Arm machine"),
        # Documentation/arch/riscv/boot.rst, "Kernel location"
        "P12": always_fine("riscv64 kernels run anywhere"),
    },
    console="ttyS0",
)
