"""The doctor's checks that depend on the architecture, for ppc."""

from pykexec.kdump.doctor.part import DoctorPart, always_fine

PART = DoctorPart(
    checks={
        # purgatory/ppc/entry.S: boot_cpuid_phys of the device tree
        "B7": always_fine("the capture kernel is told which CPU it starts on"),
        "B8": always_fine("this is no AWS Graviton"),
        "B17": always_fine("no GIC: this is no Arm machine"),
    },
    console="ttyS0",
)
