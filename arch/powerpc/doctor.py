"""The doctor's checks that depend on the architecture, for 64-bit powerpc."""

from pykexec.kdump.doctor.kernel import built_relocatable
from pykexec.kdump.doctor.part import DoctorPart, always_fine

PART = DoctorPart(
    checks={
        # purgatory/powerpc/entry64.h: boot_cpuid_phys of the device tree
        "B7": always_fine("the capture kernel is told which CPU it starts on"),
        "B8": always_fine("this is no AWS Graviton"),
        "B17": always_fine("no GIC: this is no Arm machine"),
        "P12": built_relocatable,
    },
    console="hvc0",
)
