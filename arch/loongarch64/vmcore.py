"""What dumps of loongarch64 are like."""

from pykexec.vmcore.part import Registers, VmcorePart

PART = VmcorePart(
    registers=Registers(
        "zero ra tp sp a0 a1 a2 a3 a4 a5 a6 a7 t0 t1 t2 t3 t4 t5 t6 t7 t8 u0 fp s0 s1 s2 s3 s4 s5 s6 s7 s8"
        " orig_a0 era badv",
        pc="era",
        sp="sp",
    ),
    char_is_signed=True,
)
