"""The doctor's checks that depend on the architecture, for sh."""

from pykexec.kdump.doctor.part import DoctorPart, always_fine

PART = DoctorPart(
    checks={
        "B7": always_fine("kernels that can dump run on one CPU only"),  # arch/sh/Kconfig, CRASH_DUMP
        "B8": always_fine("this is no AWS Graviton"),
        "B17": always_fine("no GIC: this is no Arm machine"),
    },
    console="ttySC1",
)
