"""The doctor's checks that depend on the architecture, for loongarch64."""

from pykexec.kdump.doctor.part import DoctorPart, always_fine

PART = DoctorPart(
    checks={
        # arch/loongarch/kernel/machine_kexec.c, kexec_reboot()
        "B7": always_fine("the boot CPU starts the capture kernel, whichever CPU crashed"),
        "B8": always_fine("this is no AWS Graviton"),
        "B17": always_fine("no GIC: this is no Arm machine"),
    },
    console="ttyS0",
)
