"""The doctor's checks that depend on the architecture, for s390x."""

from pykexec.kdump.doctor.part import DoctorPart, always_fine

PART = DoctorPart(
    checks={
        # arch/s390/kernel/machine_kexec.c, machine_kexec(), smp_call_ipl_cpu()
        "B7": always_fine("the IPL CPU starts the capture kernel, whichever CPU crashed"),
        "B8": always_fine("this is no AWS Graviton"),
        "B17": always_fine("no GIC: this is no Arm machine"),
        "L2": always_fine("any CPU can be stopped (SIGP)"),
        # purgatory/s390x: it exchanges places with the crashed kernel
        "P12": always_fine("a capture kernel runs at 0, as any other"),
    },
    reserves_with=("CONFIG_CRASH_DUMP",),  # arch/s390/kernel/setup.c, reserve_crashkernel()
)
